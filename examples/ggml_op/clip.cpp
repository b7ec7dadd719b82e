// Hybrid attention in a ggml graph: a clip at once, then chunk by chunk; both give the same bits.

#include <ggml-cpu.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "hybrid_attention.hpp"

namespace {

constexpr std::int64_t frames = 9, frame_tokens = 48, chunk_frames = 3, heads = 4, dim = 64;
constexpr std::int64_t tokens = frames * frame_tokens, chunk_tokens = chunk_frames * frame_tokens;
constexpr int threads = 2;

/// Stands for a projection's output, [dim, heads, tokens], seen as [dim, tokens, heads].
ggml_tensor* projected(ggml_context* context, float seed) {
  ggml_tensor* t = ggml_new_tensor_4d(context, GGML_TYPE_F32, dim, heads, tokens, 1);
  float* values = static_cast<float*>(t->data);
  for (std::int64_t i = 0; i < dim * heads * tokens; ++i) values[i] = std::sin(seed * static_cast<float>(i));
  return ggml_permute(context, t, 0, 2, 1, 3);
}

int fail(const rehyat::Status& status) { return std::puts(status.message()), 1; }

int run(ggml_context* context) {
  ggml_tensor *q = projected(context, 0.7f), *k = projected(context, 1.3f), *v = projected(context, 1.9f);

  // clang-format off
  // README begin
  rehyat::HybridAttention settings{  // outlives the graph
      .chunking = {.tokens_per_frame = frame_tokens, .chunk_frames = chunk_frames, .overlap_frames = 1},
      .phi_q = rehyat::FeatureMap::elu1(), .phi_k = rehyat::FeatureMap::elu1()};
  rehyat::Result<std::size_t> bytes = rehyat_ggml::scratch_size(settings, q, k, v);
  if (!bytes.ok()) return fail(bytes.status());
  ggml_tensor* scratch = ggml_new_tensor_1d(context, GGML_TYPE_I8, static_cast<std::int64_t>(*bytes));
  rehyat::Result<ggml_tensor*> y = rehyat_ggml::hybrid_attention(context, q, k, v, scratch, &settings);
  if (!y.ok()) return fail(y.status());

  ggml_cgraph* graph = ggml_new_graph(context);
  ggml_build_forward_expand(graph, *y);
  ggml_graph_compute_with_ctx(context, graph, threads);
  // README end

  // README begin
  const rehyat::RecurrentConfig config{.heads = heads, .kv_heads = heads, .head_dim = dim, .value_dim = dim,
                                       .chunking = settings.chunking,
                                       .phi_q = settings.phi_q, .phi_k = settings.phi_k};
  bytes = rehyat::RecurrentState::size_bytes(config);
  if (!bytes.ok()) return fail(bytes.status());
  std::vector<double> memory(*bytes / sizeof(double));
  rehyat::Result<rehyat::RecurrentState> state =
      rehyat::RecurrentState::create(config, memory.data(), memory.size() * sizeof(double));
  bytes = rehyat_ggml::scratch_size(config);
  // README end
  // clang-format on
  if (!state.ok() || !bytes.ok()) return fail(state.ok() ? bytes.status() : state.status());

  ggml_tensor* chunk_scratch = ggml_new_tensor_1d(context, GGML_TYPE_I8, static_cast<std::int64_t>(*bytes));
  std::int64_t first = 0;
  const auto chunk_of = [&](ggml_tensor* t) {
    return ggml_view_4d(context, t, dim, chunk_tokens, heads, 1, t->nb[1], t->nb[2], t->nb[3],
                        static_cast<std::size_t>(first) * t->nb[1]);
  };
  const char* whole = static_cast<const char*>((*y)->data);
  for (; first < tokens; first += chunk_tokens) {
    // clang-format off
    // README begin
    y = rehyat_ggml::step(context, chunk_of(q), chunk_of(k), chunk_of(v), chunk_scratch, &*state);
    if (!y.ok()) return fail(y.status());
    // README end
    // clang-format on
    graph = ggml_new_graph(context);
    ggml_build_forward_expand(graph, *y);
    ggml_graph_compute_with_ctx(context, graph, threads);
    const std::size_t begin = static_cast<std::size_t>(first) * (*y)->nb[2];
    if (std::memcmp((*y)->data, whole + begin, ggml_nbytes(*y)) != 0) {
      return std::puts("chunk by chunk differs from the clip at once"), 1;
    }
  }
  std::printf("chunk by chunk equals the clip at once: %lld frames\n",
              static_cast<long long>(state->frames_seen()));
  return 0;
}

}  // namespace

int main() {
  const std::unique_ptr<ggml_context, void (*)(ggml_context*)> context(
      ggml_init({.mem_size = std::size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}), ggml_free);
  return run(context.get());
}
