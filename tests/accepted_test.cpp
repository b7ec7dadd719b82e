// Arguments that look wrong and are not: the result is that of what they mean.

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "rehyat/attention.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();

constexpr Geometry geometry{
    .batch = 2, .frames = 4, .tokens_per_frame = 3, .heads_per_kv = 2, .dim = 6, .value_dim = 5};

std::vector<float> out_of(const auto& parameters) {
  return support::evaluate(parameters, default_kernels()).out;
}

class AcceptedTest : public testing::Test {
 protected:
  Random random_{1};
  TestClip clip_{random_, geometry, Features::elu1};
};

/// Sizes that no clip has, but that mean the same as the clip's own.
TEST_F(AcceptedTest, ChunksOverlapsAndRatesLongerThanTheClip) {
  HybridAttention p = clip_.hybrid(Direction::bidirectional), whole = p;
  whole.chunking.chunk_frames = 4;
  p.chunking.chunk_frames = huge;
  EXPECT_TRUE(support::bit_equal(out_of(p), out_of(whole)));
  p.chunking.overlap_frames = huge;
  EXPECT_TRUE(support::bit_equal(out_of(p), out_of(whole)));
  UniformAttention uniform = clip_.uniform(), rare = uniform;
  uniform.rate = 12;
  for (const std::int64_t rate : {huge / 8, huge - 1, huge}) {
    rare.rate = rate;
    EXPECT_TRUE(support::bit_equal(out_of(rare), out_of(uniform))) << rate;
  }
}

/// A map that is used again as another kind keeps its layers, which mean nothing then.
TEST_F(AcceptedTest, LayersOfAMapThatHasNone) {
  HybridAttention p = clip_.hybrid(Direction::causal);
  support::Written written(p.q.batch, p.q.tokens, p.q.heads, p.v.dim);
  written.receive(p);
  HybridAttention stale = p;
  for (FeatureMap* map : {&stale.phi_q, &stale.phi_k}) {
    map->num_layers = 1 << 24;
    map->layers[0].out_dim = huge;
  }
  const Result<std::size_t> size = workspace_size(p, 1), stale_size = workspace_size(stale, 1);
  ASSERT_TRUE(size.ok() && stale_size.ok()) << stale_size.status().message();
  EXPECT_EQ(*stale_size, *size);
  EXPECT_TRUE(support::bit_equal(out_of(stale), out_of(p)));
}

}  // namespace
}  // namespace rehyat
