// The code of the README: hybrid attention over a clip in one shot, then the same clip chunk by chunk.

#include <cstdio>
#include <vector>

#include "rehyat/rehyat.hpp"

using namespace rehyat;

int main() {
  const std::int64_t frames = 21, tokens = 48, heads = 4, dim = 64, n = frames * tokens;
  std::vector<float> q(n * heads * dim, 0.1f), k(q), v(q), out(q.size());
  const auto view = [&](auto& x) { return TensorView<float>::token_major(x.data(), 1, n, heads, dim); };

  // clang-format off
  // README begin
  ThreadPool pool(2);
  HybridAttention attention{.q = view(q), .k = view(k), .v = view(v), .out = view(out),
                            .chunking = {.tokens_per_frame = tokens, .chunk_frames = 3, .overlap_frames = 1},
                            .phi_q = FeatureMap::elu1(), .phi_k = FeatureMap::elu1()};
  Result<std::size_t> bytes = workspace_size(attention, pool.slots());
  if (!bytes.ok()) return std::puts(bytes.status().message()), 1;
  std::vector<char> scratch(*bytes);
  Status status = hybrid_attention(attention, {scratch.data(), scratch.size()}, pool);
  if (!status.ok()) return std::puts(status.message()), 1;
  // README end
  // clang-format on

  const std::vector<float> whole = out;
  const RecurrentConfig config{.heads = heads,
                               .kv_heads = heads,
                               .head_dim = dim,
                               .value_dim = dim,
                               .chunking = attention.chunking,
                               .phi_q = attention.phi_q,
                               .phi_k = attention.phi_k};
  std::vector<double> memory(*RecurrentState::size_bytes(config) / sizeof(double));
  scratch.resize(*RecurrentState::workspace_size(config, pool.slots()));
  Result<RecurrentState> state =
      RecurrentState::create(config, memory.data(), memory.size() * sizeof(double));
  if (!state.ok()) return std::puts(state.status().message()), 1;
  for (std::int64_t frame = 0; frame < frames; frame += 3) {
    const auto chunk = [&](auto& x) { return view(x).slice_tokens(frame * tokens, 3 * tokens); };
    status = state->step({.q = chunk(q), .k = chunk(k), .v = chunk(v), .out = chunk(out)},
                         {scratch.data(), scratch.size()}, pool);
    if (!status.ok()) return std::puts(status.message()), 1;
  }
  std::printf("%zu bytes of state; chunk by chunk %s one shot\n", memory.size() * sizeof(double),
              out == whole ? "equals" : "differs from");
  return out == whole ? 0 : 1;
}
