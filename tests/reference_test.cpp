// The reference against itself: two algebraic forms, the recurrence, known answers, and the plain float32
// version.

#include "reference/reference.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "reference/plain_float.hpp"
#include "reference/random_clip.hpp"
#include "reference/recurrence.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/random_feature_map.hpp"

namespace rehyat::reference {
namespace {

using support::Random;
using support::RandomFeatureMap;
using support::relative_error;

/// Everything but the denominator and its shift, which the forms may choose; their product must agree.
void expect_same(const Output& a, const Output& b, double tolerance) {
  EXPECT_LE(relative_error(a.y.values, b.y.values), tolerance);
  EXPECT_LE(relative_error(a.row_max.values, b.row_max.values), tolerance);
  EXPECT_LE(relative_error(a.row_sum.values, b.row_sum.values), tolerance);
  EXPECT_LE(relative_error(a.linear_denominator.values, b.linear_denominator.values), tolerance);
  std::vector<double> log_a, log_b;
  for (std::size_t i = 0; i < a.denominator.values.size(); ++i) {
    log_a.push_back(std::log(std::abs(a.denominator.values[i])) + a.shift.values[i]);
    log_b.push_back(std::log(std::abs(b.denominator.values[i])) + b.shift.values[i]);
  }
  EXPECT_LE(relative_error(log_a, log_b), 10 * tolerance);
}

void expect_forms_agree(const Case& c, const std::string& name) {
  SCOPED_TRACE(name);
  const Output weights = by_weights(c);
  ASSERT_TRUE(support::all_finite(weights.y.values));
  expect_same(by_sums(c), weights, 1e-12);
  EXPECT_LE(relative_error(plain_float(c).y.values, weights.y.values), 1e-4);
}

TEST(Reference, FormsAndPlainFloatAgree) {
  for (const std::uint64_t seed : support::seeds(150)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Clip clip(random);
    expect_forms_agree(clip.hybrid(Direction::causal), "hybrid, causal");
    expect_forms_agree(clip.hybrid(Direction::bidirectional), "hybrid, bidirectional");
    expect_forms_agree(clip.linear(Direction::causal), "linear, causal");
    expect_forms_agree(clip.linear(Direction::bidirectional), "linear, bidirectional");
    expect_forms_agree(clip.uniform(random.integer(1, 5)), "uniform");
  }
}

TEST(Reference, SoftmaxWithOtherKeyCountAgrees) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Index queries = random.integer(1, 20), keys = random.integer(1, 20);
    expect_forms_agree({.inputs = normal_inputs(random, queries, keys, 4, 2, 8, 5),
                        .model = {},
                        .chunks = softmax_key_sets(queries, keys)},
                       "softmax");
  }
}

TEST(Reference, SignedFeaturesAgree) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Clip clip(random);
    clip.model.phi_q = clip.model.phi_k = FeatureMap::identity();
    for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
      const Case c = clip.hybrid(direction);
      const Output weights = by_weights(c);
      // Cancellation in a denominator costs digits in both forms.
      const double smallest = std::min(1.0, static_cast<double>(weights.report().smallest_magnitude));
      EXPECT_LE(relative_error(by_sums(c).y.values, weights.y.values), 1e-12 / smallest);
    }
  }
}

TEST(Reference, RecurrentEqualsCausal) {
  for (const std::uint64_t seed : support::seeds(150)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Clip clip(random);
    expect_same(recurrent(clip.inputs, clip.model, clip.chunking, Recurrence::Kind::hybrid),
                by_sums(clip.hybrid(Direction::causal)), 1e-12);
    expect_same(recurrent(clip.inputs, clip.model, clip.chunking, Recurrence::Kind::linear),
                by_sums(clip.linear(Direction::causal)), 1e-12);
  }
}

TEST(Reference, PeekLeavesTheState) {
  Random random(7);
  const Clip clip(random);
  const Index chunk_tokens =
      std::min(clip.chunking.chunk_frames, clip.frames) * clip.chunking.tokens_per_frame;
  const Inputs chunk = clip.inputs.slice(0, chunk_tokens);
  Recurrence state(clip.model, clip.chunking, Recurrence::Kind::hybrid);
  const Output peeked = state.peek(chunk);
  EXPECT_EQ(state.frames_seen(), 0);
  EXPECT_EQ(state.step(chunk).y.values, peeked.y.values);
  EXPECT_EQ(state.frames_seen(), chunk_tokens / clip.chunking.tokens_per_frame);
}

TEST(Reference, OneChunkIsSoftmaxAttention) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Clip clip(random);
    clip.chunking.chunk_frames = clip.frames + random.integer(0, 2);
    const Index tokens = clip.inputs.q.tokens;
    const Output softmax = by_weights(clip.with(softmax_key_sets(tokens, tokens)));
    expect_same(by_sums(clip.hybrid(Direction::causal)), softmax, 1e-12);
    expect_same(by_sums(clip.hybrid(Direction::bidirectional)), softmax, 1e-12);
  }
}

/// With scores a_i + b_j, exp(score) has one exact feature: without a stabilizer every split is softmax
/// attention.
TEST(Reference, ExactFeaturesWithoutStabilizerGiveSoftmax) {
  Random random(11);
  for (const double size : {1.0, 100.0, 600.0}) {
    Clip clip(random);
    const Index tokens = clip.inputs.q.tokens;
    clip.inputs = normal_inputs(random, tokens, tokens, 2, 2, 2, 3);
    clip.inputs.given_q = clip.inputs.given_k = Array<double>(tokens, 2, 1);
    for (Index t = 0; t < tokens; ++t) {
      for (Index h = 0; h < 2; ++h) {
        const double a = random.uniform(-size, size) / 2, b = random.uniform(-size, size) / 2;
        clip.inputs.q.row(t, h)[0] = a;
        clip.inputs.q.row(t, h)[1] = 1;
        clip.inputs.k.row(t, h)[0] = 1;
        clip.inputs.k.row(t, h)[1] = b;
        clip.inputs.given_q.at(t, h) = std::exp(a);
        clip.inputs.given_k.at(t, h) = std::exp(b);
      }
    }
    clip.model = {.phi_q = FeatureMap::given(1),
                  .phi_k = FeatureMap::given(1),
                  .stabilizer = Stabilizer::none,
                  .scale = 1};
    const Output softmax = by_weights(clip.with(softmax_key_sets(tokens, tokens)));
    for (const Case& c : {clip.hybrid(Direction::bidirectional), clip.uniform(3)}) {
      EXPECT_LE(relative_error(by_weights(c).y.values, softmax.y.values), 1e-11);
      EXPECT_LE(relative_error(by_sums(c).y.values, softmax.y.values), 1e-11);
      if (size > 1) continue;  // the features would not fit a float
      EXPECT_LE(relative_error(plain_float(c).y.values, softmax.y.values), 1e-5);
    }
  }
}

/// Two frames of one token, by hand: the second query has a softmax weight of 1 for itself and
/// phi(q) phi(k) = (1 + 1)(2 + 1) for the first key.
TEST(Reference, HandComputedHybrid) {
  Case c;
  c.inputs = {.q = Array<double>(2, 1, 1), .k = Array<double>(2, 1, 1), .v = Array<double>(2, 1, 1)};
  c.inputs.q.values = {5, 1};
  c.inputs.k.values = {2, -3};
  c.inputs.v.values = {10, 20};
  c.model = {.phi_q = FeatureMap::elu1(), .phi_k = FeatureMap::elu1(), .scale = 0.5};
  c.chunks =
      hybrid_key_sets(2, {.tokens_per_frame = 1, .chunk_frames = 1, .overlap_frames = 0}, Direction::causal);
  const double with_row_max = (20 + 6 * 10) / 7.0;
  const double own = std::exp(-1.5), without = (own * 20 + 6 * 10) / (own + 6);
  for (const auto form : {by_weights, by_sums, plain_float}) {
    c.model.stabilizer = Stabilizer::row_max;
    Output out = form(c);
    EXPECT_DOUBLE_EQ(out.y.values[0], 10);
    EXPECT_NEAR(out.y.values[1], with_row_max, 1e-6);
    EXPECT_DOUBLE_EQ(out.row_max.values[1], -1.5);
    EXPECT_DOUBLE_EQ(out.row_sum.values[1], 1);
    EXPECT_DOUBLE_EQ(out.linear_denominator.values[0], 0);
    EXPECT_DOUBLE_EQ(out.linear_denominator.values[1], 6);
    EXPECT_DOUBLE_EQ(out.denominator.values[1], 7);
    c.model.denominator_floor = 8;
    EXPECT_NEAR(form(c).y.values[1], 10, 1e-6);
    c.model.denominator_floor = 0;
    c.model.stabilizer = Stabilizer::none;
    EXPECT_NEAR(form(c).y.values[1], without, 1e-5);
  }
}

TEST(Reference, PolynomialByHand) {
  const float weight[] = {1, -2, 3, 4}, bias[] = {0.5f, -1};
  FeatureMap map;
  map.kind = FeatureMap::Kind::polynomial;
  map.num_layers = 1;
  map.degree = 2;
  map.layers[0] = {.weight = weight, .bias = bias, .out_dim = 2};
  Array<double> x(1, 1, 2);
  x.values = {2, 1};
  const std::vector<double> expected = {0.5, 81};  // 2 - 2 + 0.5, and (6 + 4 - 1)^2
  EXPECT_EQ(features(x, map, {}).values, expected);
  EXPECT_EQ(plain_features(x.cast<float>(), map, {}).cast<double>().values, expected);
}

/// The pairwise definition against the library's ranges.
TEST(Reference, KeySetsMatchTheSchedule) {
  const auto tokens_of = [](Range frames, Range more, Index per_frame) {
    std::vector<Index> tokens;
    for (const Range& r : {frames.scaled(per_frame), more.scaled(per_frame)}) {
      for (Index t = r.begin; t < r.end; ++t) tokens.push_back(t);
    }
    return tokens;
  };
  const auto expect_sets = [&](const std::vector<KeySets>& chunks, Index chunk, const ChunkSets& s,
                               Index per_frame) {
    const KeySets& sets = chunks[static_cast<std::size_t>(chunk)];
    EXPECT_EQ(sets.queries, tokens_of(s.queries, {}, per_frame));
    EXPECT_EQ(sets.softmax, tokens_of(s.softmax, {}, per_frame));
    EXPECT_EQ(sets.linear, tokens_of(s.linear_before, s.linear_after, per_frame));
  };
  for (Index code = 0; code < 12 * 5 * 8 * 2; ++code) {
    const Index frames = code / 80 + 1;
    const Chunking c{
        .tokens_per_frame = 2, .chunk_frames = code / 16 % 5 + 1, .overlap_frames = code / 2 % 8};
    const Direction direction = code % 2 == 0 ? Direction::causal : Direction::bidirectional;
    const auto hybrid = hybrid_key_sets(frames, c, direction), linear = linear_key_sets(frames, c, direction);
    ASSERT_EQ(static_cast<Index>(hybrid.size()), chunk_count(frames, c));
    for (Index chunk = 0; chunk < chunk_count(frames, c); ++chunk) {
      expect_sets(hybrid, chunk, hybrid_sets(frames, chunk, c, direction), c.tokens_per_frame);
      expect_sets(linear, chunk, linear_sets(frames, chunk, c, direction), c.tokens_per_frame);
    }
  }
}

TEST(Reference, ExtremeLogitsAndDeadFeaturesAreFiniteWithoutStabilizer) {
  Random random(5);
  for (const double logit : {-1e4, 1e4}) {
    for (const bool dead : {false, true}) {
      Clip clip(random);
      // A shared direction moves every score by `logit`.
      Inputs& in = clip.inputs;
      in = normal_inputs(random, in.q.tokens, in.k.tokens, 2, 1, 8, 4);
      for (Index t = 0; t < in.q.tokens; ++t) {
        in.q.row(t, 0)[0] = in.q.row(t, 1)[0] = 100;
        in.k.row(t, 0)[0] = logit / 100;
      }
      const support::FeatureMapShape shape{.output_activation = Activation::relu,
                                           .last_bias = dead ? -1e6 : 1.0};
      const RandomFeatureMap phi_q(random, 2, 8, shape), phi_k(random, 1, 8, shape);
      clip.model = {.phi_q = phi_q.map(), .phi_k = phi_k.map(), .stabilizer = Stabilizer::none, .scale = 1};
      for (const Case& c :
           {clip.hybrid(Direction::causal), clip.hybrid(Direction::bidirectional), clip.uniform(2)}) {
        const Output weights = by_weights(c);
        EXPECT_TRUE(support::all_finite(weights.y.values));
        EXPECT_LE(relative_error(by_sums(c).y.values, weights.y.values), 1e-11);
        EXPECT_LE(relative_error(plain_float(c).y.values, weights.y.values), 2e-3);
      }
    }
  }
}

/// A NaN value stays in its channel, a NaN query in its row, in all three versions and with both stabilizers.
TEST(Reference, NanStaysWhereItBelongs) {
  Random random(3);
  Case c{.inputs = normal_inputs(random, 8, 8, 1, 1, 4, 3),
         .model = {.phi_q = FeatureMap::elu1(), .phi_k = FeatureMap::elu1()},
         .chunks = hybrid_key_sets(8, {.tokens_per_frame = 1, .chunk_frames = 2, .overlap_frames = 1},
                                   Direction::causal)};
  c.inputs.v.row(2, 0)[1] = NAN;
  c.inputs.q.row(3, 0)[0] = NAN;
  for (const Stabilizer stabilizer : {Stabilizer::row_max, Stabilizer::none}) {
    c.model.stabilizer = stabilizer;
    for (const auto form : {by_weights, by_sums, plain_float}) {
      const Output out = form(c);
      for (Index t = 0; t < 8; ++t) {
        for (Index d = 0; d < 3; ++d) {
          EXPECT_EQ(std::isnan(out.y.row(t, 0)[d]), t == 3 || (t >= 2 && d == 1))
              << "token " << t << ", channel " << d;
        }
      }
    }
  }
}

}  // namespace
}  // namespace rehyat::reference
