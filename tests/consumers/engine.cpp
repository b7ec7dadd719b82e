// What an engine does with the library: hybrid attention, with threads. Prints the instruction set and a hash
// of the output's bits. REHYAT_ENGINE is the function's name: a program can have several, compiled with
// different flags.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "rehyat/rehyat.hpp"

#ifndef REHYAT_ENGINE
#define REHYAT_ENGINE engine
#endif

int REHYAT_ENGINE();

// The library must serve other units' initialisers, whatever comes first.
static const rehyat::Isa active_before_main = rehyat::active();

int REHYAT_ENGINE() {
  const std::int64_t frames = 7, tokens = 13, heads = 2, dim = 21, n = frames * tokens;
  std::vector<float> q(static_cast<std::size_t>(n * heads * dim)), k(q), v(q), out(q);
  std::uint32_t random = 1;
  for (auto* tensor : {&q, &k, &v}) {
    for (float& x : *tensor) {
      random = random * 1664525 + 1013904223;
      x = static_cast<float>(random >> 8) * 0x1p-23f - 1;
    }
  }
  const auto view = [&](auto& x) {
    return rehyat::TensorView<float>::token_major(x.data(), 1, n, heads, dim);
  };
  rehyat::HybridAttention p;
  p.q = view(q), p.k = view(k), p.v = view(v), p.out = view(out);
  p.chunking = {.tokens_per_frame = tokens, .chunk_frames = 2, .overlap_frames = 1};
  p.phi_q = p.phi_k = rehyat::FeatureMap::elu1();
  rehyat::ThreadPool pool(2);
  const rehyat::Result<std::size_t> size = rehyat::workspace_size(p, pool.slots());
  if (!size.ok()) return std::puts(size.status().message()), 1;
  std::vector<char> scratch(*size);
  const rehyat::Status status = rehyat::hybrid_attention(p, {scratch.data(), scratch.size()}, pool);
  if (!status.ok()) return std::puts(status.message()), 1;

  const rehyat::Isa isa = rehyat::default_kernels().isa;
  if (rehyat::active() != isa || active_before_main != isa || !rehyat::available(isa)) {
    return std::puts("what is said to run does not run"), 1;
  }
  std::uint64_t hash = 14695981039346656037u;
  for (const float x : out) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    hash = (hash ^ bits) * 1099511628211u;
  }
  std::printf("%s %016llx\n", rehyat::isa_name(isa), static_cast<unsigned long long>(hash));
  return 0;
}
