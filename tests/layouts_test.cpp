// Interleaved heads and a head after the other give the same bits where it matters how memory is fetched:
// more softmax keys than stay in a cache, rows on pages of their own, blocks of keys and tokens that are
// followed by others.

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

class LayoutsTest : public support::IsaTest {};

/// The values of a token-major tensor of one batch entry, a head after the other.
std::vector<float> head_major(const std::vector<float>& values, std::int64_t tokens, std::int64_t heads,
                              std::int64_t dim) {
  std::vector<float> moved(values.size());
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto from = values.begin() + (t * heads + h) * dim;
      std::copy(from, from + dim, moved.begin() + (h * tokens + t) * dim);
    }
  }
  return moved;
}

/// Runs the clip as it is and moved to head-major memory, and compares out to the bit.
void expect_the_same(const TestClip& clip, const Kernels& kernels) {
  const Geometry& g = clip.geometry;
  const auto run = [&](HybridAttention p) {
    Written written(1, g.tokens(), g.heads(), g.value_dim);
    written.receive(p);
    support::run(p, kernels);
    return written.out;
  };
  HybridAttention p = clip.hybrid(Direction::causal);
  ASSERT_GE(p.q.token_stride, 512) << "half a page: what the kernels take for far apart";
  const std::vector<float> interleaved = run(p);
  const std::vector<float> q = head_major(clip.q, g.tokens(), g.heads(), g.dim),
                           k = head_major(clip.k, g.tokens(), g.kv_heads, g.dim),
                           v = head_major(clip.v, g.tokens(), g.kv_heads, g.value_dim);
  p.q = TensorView<const float>::head_major(q.data(), 1, g.tokens(), g.heads(), g.dim);
  p.k = TensorView<const float>::head_major(k.data(), 1, g.tokens(), g.kv_heads, g.dim);
  p.v = TensorView<const float>::head_major(v.data(), 1, g.tokens(), g.kv_heads, g.value_dim);
  EXPECT_EQ(run(p), interleaved);
}

/// 280 keys a chunk with heads of 512: more than a megabyte of K and V; linear keys in the last chunk.
TEST_P(LayoutsTest, AgreeWhereKeysLeaveTheCache) {
  Random random(1);
  const Geometry geometry{.frames = 15,
                          .tokens_per_frame = 20,
                          .chunk_frames = 1,
                          .overlap_frames = 13,
                          .kv_heads = 2,
                          .dim = 512,
                          .value_dim = 512};
  expect_the_same(TestClip(random, geometry, support::Features::polynomial), kernels());
}

/// 200 tokens absorbed a chunk: a block of them and a part of the next, of heads whose sizes no vector
/// divides.
TEST_P(LayoutsTest, AgreeWhereBlocksOfTokensFollow) {
  Random random(2);
  const Geometry geometry{.frames = 4,
                          .tokens_per_frame = 100,
                          .chunk_frames = 2,
                          .overlap_frames = 1,
                          .kv_heads = 8,
                          .dim = 65,
                          .value_dim = 67};
  expect_the_same(TestClip(random, geometry, support::Features::polynomial), kernels());
}

REHYAT_TEST_ALL_ISAS(LayoutsTest);

}  // namespace
}  // namespace rehyat
