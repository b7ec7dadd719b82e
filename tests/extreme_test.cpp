// Finite inputs at the edge: scores that overflow, logits of 1e4, dead features, denominators of zero.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/reference.hpp"
#include "support/compare.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::evaluate;
using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

constexpr Geometry geometry{.batch = 2,
                            .frames = 6,
                            .tokens_per_frame = 5,
                            .chunk_frames = 2,
                            .overlap_frames = 1,
                            .kv_heads = 2,
                            .heads_per_kv = 2,
                            .dim = 5,
                            .value_dim = 7};

class ExtremeTest : public support::IsaTest {
 protected:
  /// Softmax attention of one query of one element over `keys`, with values 1, 2, 3, ...
  float softmax_of(float query, const std::vector<float>& keys) {
    std::vector<float> v;
    for (std::size_t i = 0; i < keys.size(); ++i) v.push_back(static_cast<float>(i + 1));
    const auto view = [](const float* data, std::size_t tokens) {
      return TensorView<const float>::token_major(data, 1, static_cast<std::int64_t>(tokens), 1, 1);
    };
    const SoftmaxAttention p{
        .q = view(&query, 1), .k = view(keys.data(), keys.size()), .v = view(v.data(), v.size())};
    return evaluate(p, kernels()).out[0];
  }
};

TEST_P(ExtremeTest, ScoresThatOverflowToMinusInfinity) {
  for (const std::size_t keys : {1u, 5u, 128u, 129u, 300u}) {
    SCOPED_TRACE(keys);
    std::vector<float> k(keys, -1e30f);
    EXPECT_TRUE(std::isnan(softmax_of(1e30f, k)));
    for (const std::size_t finite : {std::size_t{0}, keys / 2, keys - 1}) {
      k[finite] = 1e-30f;  // all others have a weight of 0
      EXPECT_EQ(softmax_of(1e30f, k), static_cast<float>(finite + 1));
      k[finite] = -1e30f;
    }
  }
}

/// Scores of 1e4 and -1e4, beside features that live, or are all zero.
TEST_P(ExtremeTest, ExtremeLogitsAndDeadFeaturesStayFinite) {
  Random random(6);
  for (const float logit : {1e4f, -1e4f}) {
    for (const bool dead : {false, true}) {
      for (const Stabilizer stabilizer : {Stabilizer::row_max, Stabilizer::none}) {
        SCOPED_TRACE(testing::Message()
                     << logit << (dead ? " dead" : " alive") << static_cast<int>(stabilizer));
        TestClip clip(random, geometry, Features::polynomial);
        clip.stabilizer = stabilizer;
        clip.scale = 1.0f;
        for (std::size_t i = 0; i < clip.q.size(); ++i) clip.q[i] = i % 5 == 0 ? 100.0f : 0.25f;
        for (std::size_t i = 0; i < clip.k.size(); ++i) clip.k[i] = i % 5 == 0 ? logit / 100 : 0.0f;
        const support::FeatureMapShape shape{.output_activation = Activation::relu,
                                             .last_bias = dead ? -1e6 : 1.0};
        const support::RandomFeatureMap phi_q(random, geometry.heads(), 5, shape),
            phi_k(random, geometry.kv_heads, 5, shape);
        clip.phi_q = phi_q.map(), clip.phi_k = phi_k.map();
        const auto expect_finite = [&](const auto& parameters) {
          const Written w = evaluate(parameters, kernels());
          EXPECT_TRUE(support::all_finite(w.out));
          EXPECT_EQ(w.report.nan_count, 0);
          for (std::int64_t b = 0; b < geometry.batch; ++b) {
            const reference::Output exact = reference::by_sums(reference::case_of(parameters, b));
            const std::size_t size = exact.y.values.size();
            const std::vector<float> entry(w.out.begin() + static_cast<std::ptrdiff_t>(size) * b,
                                           w.out.begin() + static_cast<std::ptrdiff_t>(size) * (b + 1));
            EXPECT_LE(support::relative_error(entry, exact.y.values), 1e-5);
          }
        };
        expect_finite(clip.softmax());
        expect_finite(clip.hybrid(Direction::causal));
        expect_finite(clip.hybrid(Direction::bidirectional));
        expect_finite(clip.uniform());
      }
    }
  }
}

TEST_P(ExtremeTest, DeadLinearAttentionIsNanUnlessTheCallerGuardsIt) {
  Random random(7);
  TestClip clip(random, geometry, Features::relu);
  for (float& x : clip.q) x = -std::abs(x);
  for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
    LinearAttention p = clip.linear(direction);
    const Written w = evaluate(p, kernels());
    for (const float x : w.out) ASSERT_TRUE(std::isnan(x));
    EXPECT_EQ(w.report.smallest, 0);
    EXPECT_EQ(w.report.smallest_magnitude, 0);
    EXPECT_EQ(w.report.nan_count, 0);
    p.denominator_epsilon = 1e-3f;
    for (const float x : evaluate(p, kernels()).out) ASSERT_EQ(x, 0);
    p.denominator_epsilon = 0, p.denominator_floor = 1e-3f;
    for (const float x : evaluate(p, kernels()).out) ASSERT_EQ(x, 0);
  }
}

/// One token with phi_q . z = -0.25 and a numerator of -1: by hand.
TEST_P(ExtremeTest, EpsilonIsAddedAndTheFloorKeepsTheSign) {
  const float q = 0.5f, k = -0.5f, v = 4;
  const auto view = [](const float& x) { return TensorView<const float>::token_major(&x, 1, 1, 1, 1); };
  LinearAttention p{.q = view(q),
                    .k = view(k),
                    .v = view(v),
                    .phi_q = FeatureMap::identity(),
                    .phi_k = FeatureMap::identity()};
  const auto expect = [&](float epsilon, float floor, float out) {
    p.denominator_epsilon = epsilon, p.denominator_floor = floor;
    const Written w = evaluate(p, kernels());
    EXPECT_FLOAT_EQ(w.out[0], out);
    EXPECT_EQ(w.report.smallest, -0.25f);  // before both
    EXPECT_EQ(w.report.smallest_magnitude, 0.25f);
    EXPECT_EQ(w.linear_denominator[0], -0.25f);
  };
  expect(0, 0, 4);
  expect(0.5f, 0, -4);
  expect(0, 2, 0.5f);
  expect(0.125f, 2, 0.5f);
  expect(0.5f, 2, -0.5f);
  expect(0, 0.125f, 4);
}

/// phi_q . z from subnormal to nearly overflowing: a ratio of like sizes keeps the accuracy that its terms
/// have.
TEST_P(ExtremeTest, TinyAndHugeDenominators) {
  const auto view = [](const float& x) { return TensorView<const float>::token_major(&x, 1, 1, 1, 1); };
  for (const float size : {1e-21f, 1e-20f, 3e-20f, 1e-19f, 1e-18f, 1e18f, 5e18f, 9e18f, 1.2e19f}) {
    const float v = 2;
    const LinearAttention p{.q = view(size),
                            .k = view(size),
                            .v = view(v),
                            .phi_q = FeatureMap::identity(),
                            .phi_k = FeatureMap::identity()};
    EXPECT_NEAR(evaluate(p, kernels()).out[0], 2, size < 1e-19f ? 2e-3 : 1e-6) << size;
  }
}

/// Stabilizer::none: softmax weight, linear numerators and linear denominator each of any size. Whichever of
/// them is the largest sets the scale, be it in one channel only; and what is 2^126 times smaller still
/// counts where the values make up for it.
TEST_P(ExtremeTest, BranchesOfUnlikeSizes) {
  struct Sizes {
    int weight, numerator, denominator;  ///< powers of two
    int value = 0;                       ///< of the softmax key, as well
  };
  for (const auto& [weight, numerator, denominator, value] : {Sizes{0, 0, 0},
                                                              {-50, 60, -80},
                                                              {90, -40, 100},
                                                              {90, 100, -40},
                                                              {0, 60, -80},
                                                              {-50, -80, 20},
                                                              {-160, -140, -145},
                                                              {3, -132, -1000, -138},
                                                              {90, -41, -140, -130},
                                                              {-129, -10, 0, 126},
                                                              {-10, -125, 122, 126}}) {
    for (const std::size_t channel : {0u, 1u, 2u}) {
      SCOPED_TRACE(testing::Message() << "2^" << weight << ", 2^" << numerator << " in channel " << channel
                                      << ", 2^" << denominator << ", value 2^" << value);
      // the second of two tokens attends to itself by softmax, to the first by the linear branch
      const float q[] = {1, 1}, k[] = {1, static_cast<float>(weight * std::log(2.0))}, ones[] = {1, 1};
      const float z[] = {std::ldexp(1.0f, denominator), 1};
      const float size = std::ldexp(1.0f, value);
      float v[2][3] = {{}, {size, 2 * size, 3 * size}};
      v[0][channel] = std::ldexp(1.0f, numerator);
      const auto view = [](const float* data, std::int64_t dim = 1) {
        return TensorView<const float>::token_major(data, 1, 2, 1, dim);
      };
      const HybridAttention p{.q = view(q),
                              .k = view(k),
                              .v = view(v[0], 3),
                              .chunking = {.tokens_per_frame = 1, .chunk_frames = 1, .overlap_frames = 0},
                              .phi_q = FeatureMap::given(1),
                              .phi_k = FeatureMap::given(1),
                              .given = {view(ones), view(ones), view(ones), view(z)},
                              .stabilizer = Stabilizer::none,
                              .scale = 1.0f};
      const std::vector<float> out = evaluate(p, kernels()).out;
      for (std::size_t c = 0; c < 3; ++c) {
        const double w = std::ldexp(1.0, weight), linear = v[0][c];
        const double exact = (w * static_cast<double>(v[1][c]) + linear) / (w + std::ldexp(1.0, denominator));
        EXPECT_NEAR(out[3 + c], exact, std::max(1e-4 * exact, 0x1p-148)) << c;
      }
    }
  }
}

REHYAT_TEST_ALL_ISAS(ExtremeTest);

}  // namespace
}  // namespace rehyat
