// Numbers at the edge: what attention.hpp says comes out of them, in every schedule.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/reference.hpp"
#include "support/all_results.hpp"
#include "support/compare.hpp"
#include "support/edge_clips.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::all_results;
using support::Features;
using support::Geometry;
using support::NamedResult;
using support::Random;
using support::TestClip;
using support::Written;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr Stabilizer stabilizers[] = {Stabilizer::row_max, Stabilizer::none};

class EdgeTest : public support::IsaTest {};

TEST_P(EdgeTest, FiniteNumbersGiveTheirFiniteResult) {
  Random random(1);
  for (const Stabilizer stabilizer : stabilizers) {
    for (const support::EdgeClip& edge : support::edge_clips(random, stabilizer)) {
      SCOPED_TRACE(edge.name + (stabilizer == Stabilizer::none ? ", none" : ", row_max"));
      const std::vector<std::vector<double>> exact = support::exact_results(edge.clip);
      const std::vector<NamedResult> results = all_results(edge.clip, kernels());
      for (std::size_t i = 0; i < results.size(); ++i) {
        SCOPED_TRACE(results[i].name);
        if (!edge.has_linear_sums && results[i].name.find("linear") != std::string::npos) continue;
        EXPECT_TRUE(support::all_finite(results[i].written.out));
        EXPECT_EQ(results[i].written.report.nan_count, 0);
        EXPECT_LE(support::relative_error(results[i].written.out, exact[i]), edge.tolerance);
      }
    }
  }
}

/// Every weight is exactly 1.
TEST_P(EdgeTest, EqualLogitsCountTheKeys) {
  Random random(2);
  TestClip clip(random, {.frames = 2, .tokens_per_frame = 150, .chunk_frames = 2, .dim = 9}, Features::elu1);
  for (const float k : {0.0f, 1e4f, -1e4f}) {
    std::fill(clip.k.begin(), clip.k.end(), k);
    std::fill(clip.q.begin(), clip.q.end(), 1.0f);
    for (const NamedResult& r : all_results(clip, kernels())) {
      if (r.name.find("linear") != std::string::npos) continue;
      const float keys = r.name == "uniform" ? 100 : 300;
      EXPECT_EQ(r.written.row_sum, std::vector<float>(300, keys)) << r.name << ", k " << k;
    }
  }
}

TEST_P(EdgeTest, RowsWithoutAFiniteScoreAreNan) {
  Random random(3);
  for (const Stabilizer stabilizer : stabilizers) {
    TestClip clip(random, support::edge_geometry, Features::given);
    clip.stabilizer = stabilizer;
    std::fill(clip.q.begin(), clip.q.end(), 1e30f);
    std::fill(clip.k.begin(), clip.k.end(), -1e30f);
    for (const NamedResult& r : all_results(clip, kernels())) {
      SCOPED_TRACE(r.name);
      const bool linear = r.name.find("linear") != std::string::npos;
      for (const float x : r.written.out) ASSERT_EQ(std::isnan(x), !linear);
      EXPECT_EQ(r.written.report.nan_count, linear ? 0 : 2 * 30 * 4);
      EXPECT_EQ(r.written.row_max,
                std::vector<float>(2 * 30 * 4, -infinity));  // also where there are no scores
    }
  }
}

/// Finite numbers near the largest whose product overflows: upwards the row is NaN, downwards the key has
/// weight 0.
TEST_P(EdgeTest, AScoreThatOverflowsReachesItsRowAlone) {
  const Geometry g{.frames = 1, .tokens_per_frame = 30, .chunk_frames = 1, .overlap_frames = 0, .dim = 17};
  Random random(4);
  for (const float key : {3e38f, -3e38f}) {
    TestClip clip(random, g, Features::elu1);
    clip.rate = 1;
    for (std::size_t i = 0; i < clip.q.size(); i += 17) clip.q[i] = 0.01f;
    clip.q[12 * 17] = 3e38f;
    clip.k[7 * 17] = key;
    for (const NamedResult& r : all_results(clip, kernels())) {
      if (r.name.find("linear") != std::string::npos) continue;
      SCOPED_TRACE(r.name);
      for (std::size_t i = 0; i < r.written.out.size(); ++i)
        ASSERT_EQ(std::isnan(r.written.out[i]), key > 0 && i / 8 == 12) << i;
    }
  }
}

/// Numerators are divided last: values whose weighted sum overflows make their channel infinite or NaN, and
/// no other.
TEST_P(EdgeTest, ValuesWhoseSumOverflowsReachTheirChannelAlone) {
  Random random(5);
  for (const Stabilizer stabilizer : stabilizers) {
    TestClip clip(random, support::edge_geometry, Features::given);
    clip.stabilizer = stabilizer;
    std::fill(clip.q.begin(), clip.q.end(), 0.0f);  // weights of 1
    std::fill(clip.given_q.begin(), clip.given_q.end(), 1.0f);
    std::fill(clip.given_k.begin(), clip.given_k.end(), 1.0f);
    const std::vector<NamedResult> clean = all_results(clip, kernels());
    for (std::size_t i = 4; i < clip.v.size(); i += 19) clip.v[i] = 3e38f;
    const std::vector<NamedResult> results = all_results(clip, kernels());
    for (std::size_t r = 0; r < results.size(); ++r) {
      SCOPED_TRACE(results[r].name);
      for (std::size_t i = 0; i < results[r].written.out.size(); ++i) {
        const float x = results[r].written.out[i], before = clean[r].written.out[i];
        if (i % 19 == 4) {
          ASSERT_FALSE(std::isfinite(x)) << i;
        } else {
          ASSERT_NEAR(x, before, 1e-6 * (1 + std::abs(before))) << i;  // the common shift may be another
        }
      }
      EXPECT_EQ(results[r].written.report.nan_count, 0);
    }
  }
}

/// Queries are multiplied by scale * log2(e) first, and that product has to be finite, whatever the score
/// would be.
TEST_P(EdgeTest, ScaledQueriesMayOverflow) {
  const float q = 3e38f, k = 1e-38f, v = 1;
  const auto view = [](const float& x) { return TensorView<const float>::token_major(&x, 1, 1, 1, 1); };
  SoftmaxAttention p{.q = view(q), .k = view(k), .v = view(v)};
  EXPECT_TRUE(std::isnan(support::evaluate(p, kernels()).out[0]));
  p.scale = 0.5f;
  EXPECT_EQ(support::evaluate(p, kernels()).out[0], 1);
}

/// The second of two tokens: a softmax key of weight 1 with value 2, and a linear key of weight `feature`
/// with `value`.
class TwoKeys {
 public:
  TwoKeys(float feature, float value)
      : random_(1),
        clip_(random_,
              {.frames = 2, .tokens_per_frame = 1, .chunk_frames = 1, .overlap_frames = 0, .given_dim = 1},
              Features::given) {
    clip_.rate = 2;
    std::fill(clip_.q.begin(), clip_.q.end(), 0.0f);
    clip_.given_q = {feature, feature}, clip_.given_k = {1, 1};
    std::fill_n(clip_.v.begin(), 8, value), std::fill_n(clip_.v.begin() + 8, 8, 2.0f);
  }
  TestClip& clip() { return clip_; }

  void expect(const Kernels& kernels, float out, float denominator) {
    const auto near = [](float a, float b) { return std::isnan(b) ? std::isnan(a) : a == b; };
    // `other`: the first token's
    const auto expect_result = [&](const std::string& name, const Written& w, float other) {
      EXPECT_TRUE(near(w.out[8], out)) << name << " gave " << w.out[8] << ", expected " << out;
      if (clip_.stabilizer == Stabilizer::row_max || denominator == 0) {
        EXPECT_EQ(w.report.smallest, std::min(denominator, other)) << name;
        EXPECT_EQ(w.report.smallest_magnitude, std::min(std::abs(denominator), std::abs(other))) << name;
      } else {
        EXPECT_EQ(std::signbit(w.report.smallest), denominator < 0) << name;
      }
      EXPECT_EQ(w.report.nan_count, 0) << name;
    };
    SerialExecutor serial;
    expect_result("one shot", support::evaluate(clip_.hybrid(Direction::causal), kernels), 1);
    expect_result("recurrent", support::streamed(clip_, RecurrentSchedule::hybrid, serial, kernels), 1);
    // every second token keeps softmax: the tokens change places
    std::rotate(clip_.v.begin(), clip_.v.begin() + 8, clip_.v.end());
    UniformAttention p = clip_.uniform();
    expect_result("uniform", support::evaluate(p, kernels), denominator);
    std::rotate(clip_.v.begin(), clip_.v.begin() + 8, clip_.v.end());
  }

 private:
  Random random_;
  TestClip clip_;
};

TEST_P(EdgeTest, DenominatorsNearZeroAndNegative) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const float almost = -1 + 0x1p-24f;
  for (const Stabilizer stabilizer : stabilizers) {
    SCOPED_TRACE(stabilizer == Stabilizer::none ? "none" : "row_max");
    const auto expect = [&](float feature, float value, float out) {
      SCOPED_TRACE(testing::Message() << "feature " << feature << ", value " << value);
      TwoKeys keys(feature, value);
      keys.clip().stabilizer = stabilizer;
      keys.expect(kernels(), out, 1 + feature);
    };
    expect(-1, 4, -infinity);
    expect(-1, -4, infinity);
    expect(-1, 2, nan);  // 0/0
    expect(-3, 4, 5);
    expect(-0.5f, 4, 0);
    expect(almost, 1, 0x1p24f * (2 + almost));
    expect(3, 4, 3.5f);
    expect(0, 4, 2);
  }
}

TEST_P(EdgeTest, EpsilonAndFloorInEverySchedule) {
  const auto expect = [&](float feature, float epsilon, float floor, float out) {
    SCOPED_TRACE(testing::Message() << "feature " << feature << ", epsilon " << epsilon << ", floor "
                                    << floor);
    TwoKeys keys(feature, 4);
    keys.clip().denominator_epsilon = epsilon, keys.clip().denominator_floor = floor;
    keys.expect(kernels(), out, 1 + feature);  // the report is of what came before both
  };
  expect(-1, 0.5f, 0, -4);         // -2 / (0 + 0.5)
  expect(-1, 0, 0.25f, -8);        // 0 counts as positive
  expect(-1.25f, 0, 0.5f, 6);      // -3 / -0.5
  expect(-1.25f, 0.5f, 0, -12);    // -3 / 0.25
  expect(-1.25f, 0.5f, 0.5f, -6);  // epsilon first
  expect(1, 0, 1, 3);              // 6 / 2: above the floor
}

REHYAT_TEST_ALL_ISAS(EdgeTest);

}  // namespace
}  // namespace rehyat
