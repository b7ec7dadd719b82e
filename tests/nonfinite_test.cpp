// Where NaN and infinity go, and what stays finite that looks as if it would not.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
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

constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();

/// What one element that is not finite may change.
enum class Source { q, k, v, given_q, given_k, given_q_denominator, given_k_denominator };

/// The element (token, head, channel) of batch entry 0 that is not finite.
struct Spot {
  Source source;
  std::int64_t token, head, channel;
};

/// Which keys of batch entry 0 the queries attend to.
class Attended {
 public:
  explicit Attended(const std::vector<reference::KeySets>& chunks) : chunks_(chunks) {}

  reference::Membership of(std::int64_t query, std::int64_t key) const {
    for (const reference::KeySets& sets : chunks_) {
      if (!has(sets.queries, query)) continue;
      if (has(sets.softmax, key)) return reference::Membership::softmax;
      if (has(sets.linear, key)) return reference::Membership::linear;
    }
    return reference::Membership::outside;
  }
  bool reads_linear(std::int64_t query) const {
    for (const reference::KeySets& sets : chunks_) {
      if (has(sets.queries, query)) return !sets.linear.empty();
    }
    return false;
  }

 private:
  static bool has(const std::vector<reference::Index>& sorted, std::int64_t token) {
    return std::binary_search(sorted.begin(), sorted.end(), token);
  }
  std::vector<reference::KeySets> chunks_;
};

class NonfiniteTest : public support::IsaTest {
 protected:
  /// Whether the element reaches a row of batch entry 0 at all.
  static bool reaches(const Spot& spot, const Attended& attended, const Geometry& g, std::int64_t token,
                      std::int64_t head) {
    using reference::Membership;
    const bool of_queries = spot.source == Source::q || spot.source == Source::given_q ||
                            spot.source == Source::given_q_denominator;
    if ((of_queries ? head : head / g.heads_per_kv) != spot.head) return false;
    switch (spot.source) {
      case Source::q:
        return token == spot.token;
      case Source::given_q:
      case Source::given_q_denominator:
        return token == spot.token && attended.reads_linear(token);
      case Source::given_k:
      case Source::given_k_denominator:
        return attended.of(token, spot.token) == Membership::linear;
      default:
        return attended.of(token, spot.token) != Membership::outside;
    }
  }

  /// Compares a run with the element to one without it (`in_denominator`: the denominator is made of it,
  /// too). Every row it does not reach is equal to the bit.
  static void expect_reached(const Spot& spot, const Attended& attended, const Geometry& g,
                             const Written& clean, const Written& hit, bool shift_is_fixed,
                             bool in_denominator) {
    std::size_t i = 0;
    std::int64_t reached = 0, wrong = 0;
    for (std::int64_t b = 0; b < g.batch; ++b) {
      for (std::int64_t row = 0; row < g.tokens() * g.heads(); ++row) {
        const std::int64_t token = row / g.heads(), head = row % g.heads();
        const bool touched = b == 0 && reaches(spot, attended, g, token, head);
        reached += touched;
        for (std::int64_t d = 0; d < g.value_dim; ++d, ++i) {
          bool right = std::bit_cast<std::uint32_t>(hit.out[i]) == std::bit_cast<std::uint32_t>(clean.out[i]);
          if (touched && (spot.source != Source::v || d == spot.channel)) {
            right = !std::isfinite(hit.out[i]);
          } else if (touched && !shift_is_fixed) {  // the channel may have decided the common shift
            right = std::abs(hit.out[i] - clean.out[i]) <= 1e-5f * (1 + std::abs(clean.out[i]));
          }
          wrong += !right;
        }
      }
    }
    EXPECT_EQ(wrong, 0) << "of " << i << " elements, " << reached << " rows reached";
    EXPECT_EQ(hit.report.nan_count, in_denominator ? reached : 0);
  }

  template <class P>
  void expect_reach(TestClip& clip, const P& parameters, Random& random) {
    const Geometry& g = clip.geometry;
    const Written clean = evaluate(parameters, kernels());
    ASSERT_TRUE(support::all_finite(clean.out));
    const Attended attended(reference::case_of(parameters).chunks);
    Stabilizer stabilizer = Stabilizer::row_max;
    if constexpr (requires { parameters.stabilizer; }) stabilizer = parameters.stabilizer;
    const bool separate = !clip.given_q_denominator.empty();
    const auto poison = [&](Source source, std::vector<float>& values, std::int64_t heads, std::int64_t dim) {
      for (const float value : {nan, inf, -inf}) {
        const Spot spot{source, random.integer(0, g.tokens() - 1), random.integer(0, heads - 1),
                        random.integer(0, dim - 1)};
        SCOPED_TRACE(testing::Message()
                     << value << " in tensor " << static_cast<int>(source) << ", token " << spot.token
                     << ", head " << spot.head << ", channel " << spot.channel);
        float& element =
            values[static_cast<std::size_t>((spot.token * heads + spot.head) * dim + spot.channel)];
        const float before = element;
        element = value;
        expect_reached(
            spot, attended, g, clean, evaluate(parameters, kernels()), stabilizer == Stabilizer::row_max,
            source != Source::v && !(separate && (source == Source::given_q || source == Source::given_k)));
        element = before;
      }
    };
    poison(Source::v, clip.v, g.kv_heads, g.value_dim);
    const bool has_linear = requires { parameters.phi_q; };
    if (clip.given_q.empty() || !has_linear) {
      poison(Source::q, clip.q, g.heads(), g.dim);
      poison(Source::k, clip.k, g.kv_heads, g.dim);
      return;
    }
    poison(Source::given_q, clip.given_q, g.heads(), g.given_dim);
    poison(Source::given_k, clip.given_k, g.kv_heads, g.given_dim);
    if (!separate) return;
    poison(Source::given_q_denominator, clip.given_q_denominator, g.heads(), g.given_dim);
    poison(Source::given_k_denominator, clip.given_k_denominator, g.kv_heads, g.given_dim);
  }

  void expect_reach_everywhere(TestClip& clip, Random& random) {
    for (const Stabilizer stabilizer : {Stabilizer::row_max, Stabilizer::none}) {
      clip.stabilizer = stabilizer;
      clip.for_each_operator([&](const char* name, const auto& parameters) {
        SCOPED_TRACE(std::string(name) + (stabilizer == Stabilizer::none ? ", no stabilizer" : ", row_max"));
        expect_reach(clip, parameters, random);
      });
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
    const Attended attended(reference::case_of(parameters).chunks);
    for (const float value : {nan, inf, -inf}) {
      const Spot spot{Source::v, dead, 1, 2};
      float& element = clip.v[static_cast<std::size_t>((dead * 2 + 1) * 7 + 2)];
      const float before = element;
      element = value;
      expect_reached(spot, attended, geometry, clean, evaluate(parameters, kernels()), true, false);
      element = before;
    }
  });
}

REHYAT_TEST_ALL_ISAS(NonfiniteTest);

}  // namespace
}  // namespace rehyat
