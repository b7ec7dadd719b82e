// The node beside ggml's own: with one chunk over the whole clip hybrid attention is exact attention, and
// both nodes of one graph say the same.

#include <ggml-cpu.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "hybrid_attention.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace rehyat {
namespace {

TEST(GgmlOp, OneChunkIsFlashAttention) {
  constexpr std::int64_t dim = 64, tokens = 300, heads = 4, kv_heads = 2;
  const std::unique_ptr<ggml_context, void (*)(ggml_context*)> owner(
      ggml_init({.mem_size = std::size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}), ggml_free);
  ggml_context* context = owner.get();
  support::Random random(1);
  const auto tensor = [&](std::int64_t count) {
    ggml_tensor* t = ggml_new_tensor_4d(context, GGML_TYPE_F32, dim, count, tokens, 1);
    random.fill_normal({static_cast<float*>(t->data), static_cast<std::size_t>(ggml_nelements(t))});
    return ggml_permute(context, t, 0, 2, 1, 3);
  };
  ggml_tensor *q = tensor(heads), *k = tensor(kv_heads), *v = tensor(kv_heads);

  HybridAttention settings{.chunking = {.tokens_per_frame = 30, .chunk_frames = 10, .overlap_frames = 0},
                           .phi_q = FeatureMap::elu1(),
                           .phi_k = FeatureMap::elu1()};
  ggml_tensor* scratch = ggml_new_tensor_1d(
      context, GGML_TYPE_I8, static_cast<std::int64_t>(*rehyat_ggml::scratch_size(settings, q, k, v)));
  ggml_tensor* ours = *rehyat_ggml::hybrid_attention(context, q, k, v, scratch, &settings);
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  ggml_tensor* theirs =
      ggml_flash_attn_ext(context, q, ggml_cont(context, k), ggml_cont(context, v), nullptr, scale, 0, 0);
  ggml_flash_attn_ext_set_prec(theirs, GGML_PREC_F32);
  ggml_tensor* both =
      ggml_add(context, ours, ggml_neg(context, theirs));  // shapes are the same, and the node has users
  ggml_cgraph* graph = ggml_new_graph(context);
  ggml_build_forward_expand(graph, both);
  for (const int threads : {1, 2, 3}) {
    ggml_graph_compute_with_ctx(context, graph, threads);
    const auto values = [](const ggml_tensor* t) {
      const float* data = static_cast<const float*>(t->data);
      return std::vector<float>(data, data + ggml_nelements(t));
    };
    const double error = support::relative_error(values(ours), values(theirs));
    std::printf("[ flash    ] %d threads: largest difference %.2g of the largest element\n", threads, error);
    EXPECT_LT(error, 1e-5);
    for (const float difference : values(both)) EXPECT_LT(std::abs(difference), 1e-5f);
  }
}

}  // namespace
}  // namespace rehyat
