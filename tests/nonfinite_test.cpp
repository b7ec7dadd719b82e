// Where NaN and infinity go, and what stays finite that looks as if it would not.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "reference/case_of.hpp"
#include "support/compare.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/reach.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::evaluate;
using support::Features;
using support::Geometry;
using support::Random;
using support::Source;
using support::Spot;
using support::TestClip;
using support::Written;

constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();

class NonfiniteTest : public support::IsaTest {
 protected:
  void expect_reach_everywhere(TestClip& clip, Random& random) {
    for (const Stabilizer stabilizer : {Stabilizer::row_max, Stabilizer::none}) {
      SCOPED_TRACE(stabilizer == Stabilizer::none ? "no stabilizer" : "row_max");
      clip.stabilizer = stabilizer;
      support::ReachCheck(clip, random, kernels()).every_schedule();
    }
  }
};

/// 30 tokens: more than a block of queries for most instruction sets, frames that start anywhere in one.
constexpr Geometry geometry{.batch = 2,
                            .frames = 6,
                            .tokens_per_frame = 5,
                            .chunk_frames = 2,
                            .overlap_frames = 1,
                            .kv_heads = 2,
                            .heads_per_kv = 2,
                            .dim = 5,
                            .value_dim = 7};

TEST_P(NonfiniteTest, ElementwiseFeatures) {
  Random random(1);
  for (const Activation activation : {Activation::relu, Activation::softplus, Activation::elu1,
                                      Activation::gelu, Activation::silu, Activation::identity}) {
    SCOPED_TRACE(static_cast<int>(activation));
    TestClip clip(random, geometry, Features::elu1);
    clip.phi_q = clip.phi_k = FeatureMap::elementwise(activation);
    if (activation == Activation::relu) {  // no row of zeros, which linear attention would divide by
      for (float& x : clip.q) x = std::abs(x);
    }
    expect_reach_everywhere(clip, random);
  }
}

TEST_P(NonfiniteTest, PolynomialFeatures) {
  for (const std::uint64_t seed : support::seeds(4)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip(random, geometry, Features::polynomial);
    expect_reach_everywhere(clip, random);
  }
}

TEST_P(NonfiniteTest, GivenFeatures) {
  Random random(2);
  for (const Features features : {Features::given, Features::given_separate}) {
    TestClip clip(random, geometry, features);
    expect_reach_everywhere(clip, random);
  }
}

/// Activations that are 0 at -inf, in a hidden layer whose every unit is cut off: the row must not come out
/// clean.
TEST_P(NonfiniteTest, DeadHiddenUnitsDoNotHideInfinity) {
  Random random(3);
  for (const Activation activation :
       {Activation::relu, Activation::gelu, Activation::silu, Activation::elu1}) {
    TestClip clip(random, geometry, Features::polynomial);
    const support::FeatureMapShape shape{.activation = activation, .output_activation = Activation::elu1};
    clip.weights.clear();
    clip.weights.emplace_back(random, geometry.heads(), geometry.dim, shape);
    clip.weights.emplace_back(random, geometry.kv_heads, geometry.dim, shape);
    clip.phi_q = clip.weights[0].map(), clip.phi_k = clip.weights[1].map();
    for (float& x : clip.q) x = -std::abs(x);
    expect_reach_everywhere(clip, random);
  }
}

/// Any batch entry, tokens behind the valid ones, overlaps longer than a chunk, several blocks of queries and
/// keys.
TEST_P(NonfiniteTest, RandomClips) {
  for (const std::uint64_t seed : support::seeds(10)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip(
        random, Geometry::random(random),
        random.pick({Features::elu1, Features::polynomial, Features::given, Features::given_separate}));
    clip.rate = random.integer(1, 5);
    if (clip.geometry.batch > 1) clip.make_ragged(random);
    expect_reach_everywhere(clip, random);
  }
}

/// A key is attended even where its weight is 0 in float, softmax or linear.
TEST_P(NonfiniteTest, KeysOfWeightZeroStillCount) {
  Random random(4);
  TestClip clip(random, geometry, Features::relu);
  clip.scale = 1.0f;
  for (std::size_t i = 0; i < clip.q.size(); ++i) clip.q[i] = i % 5 == 0 ? 40.0f : 1.0f;
  for (std::size_t i = 0; i < clip.k.size(); ++i) clip.k[i] = 0.5f;
  const std::int64_t dead = 13;  // token of batch entry 0
  for (std::int64_t i = dead * 10; i < (dead + 1) * 10; ++i) clip.k[static_cast<std::size_t>(i)] = -40;
  clip.for_each_operator([&](const char* name, const auto& parameters) {
    SCOPED_TRACE(name);
    const Written clean = evaluate(parameters, kernels());
    ASSERT_TRUE(support::all_finite(clean.out));
    const support::Attended attended(reference::case_of(parameters).chunks);
    for (const float value : {nan, inf, -inf}) {
      const Spot spot{Source::v, 0, dead, 1, 2};
      float& element = clip.v[static_cast<std::size_t>((dead * 2 + 1) * 7 + 2)];
      const float before = element;
      element = value;
      support::expect_reached(spot, attended, clip, clean, evaluate(parameters, kernels()), true, false);
      element = before;
    }
  });
}

REHYAT_TEST_ALL_ISAS(NonfiniteTest);

}  // namespace
}  // namespace rehyat
