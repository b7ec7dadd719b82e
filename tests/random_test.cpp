// Every operator on random problems against the double reference: at most twice the error of a plain float32
// implementation.

#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/plain_float.hpp"
#include "reference/recurrence.hpp"
#include "reference/reference.hpp"
#include "support/clip_stream.hpp"
#include "support/compare.hpp"
#include "support/isas.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::evaluate;
using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

/// What one batch entry should be, and how far off plain float32 is.
struct Expected {
  reference::Output exact, plain;

  /// How much larger than a denominator its terms may be, seen from the largest denominator.
  double conditioning() const {
    double largest = 0, smallest = std::numeric_limits<double>::infinity();
    for (const double d : exact.denominator.values) {
      largest = std::max(largest, std::abs(d));
      smallest = std::min(smallest, std::abs(d));
    }
    return largest / smallest;
  }

  /// A score's error grows with its size, and is the relative error of its exponential.
  double largest_score() const {
    double largest = 1;
    for (const double s : exact.row_max.values) {
      if (std::isfinite(s)) largest = std::max(largest, std::abs(s));
    }
    return largest;
  }
};

/// What multiplies a feature's relative error: its own power and its counterpart's.
template <class P>
double highest_power(const P& p) {
  if constexpr (requires { p.phi_q; }) return p.phi_q.degree + p.phi_k.degree;
  return 1;
}

/// The tokens of one batch entry, of which the first `valid` may have been written.
struct Slice {
  std::size_t entry, tokens, valid, row;  // row: elements of a token

  std::vector<float> written(const std::vector<float>& all) const {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(entry * tokens * row);
    return {begin, begin + static_cast<std::ptrdiff_t>(valid * row)};
  }
  bool rest_untouched(const std::vector<float>& all) const {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(entry * tokens * row);
    return std::all_of(begin + static_cast<std::ptrdiff_t>(valid * row),
                       begin + static_cast<std::ptrdiff_t>(tokens * row),
                       [](float x) { return x == support::untouched; });
  }
};

class RandomTest : public support::IsaTest {
 protected:
  /// Computed once for all instruction sets.
  template <class P>
  const std::vector<Expected>& expected(const std::string& key, const P& p) {
    static std::map<std::string, std::vector<Expected>> known;
    auto [at, is_new] = known.try_emplace(key);
    for (std::int64_t b = 0; is_new && b < p.q.batch; ++b) {
      const reference::Case c = reference::case_of(p, b);
      at->second.push_back({reference::by_sums(c), reference::plain_float(c)});
    }
    return at->second;
  }

  void expect_field(const char* name, const Slice& slice, const std::vector<float>& actual,
                    const reference::Array<double>& exact, const reference::Array<double>& plain,
                    double conditioning) {
    if (slice.valid > 0) {
      const double allowed = 2 * support::relative_error(plain.values, exact.values) + 1e-6 * conditioning;
      EXPECT_LE(support::relative_error(slice.written(actual), exact.values), allowed)
          << name << ", batch entry " << slice.entry;
    }
    EXPECT_TRUE(slice.rest_untouched(actual)) << name << ", batch entry " << slice.entry;
  }

  void expect_report(const Written& w, const std::vector<Expected>& entries, Stabilizer stabilizer) {
    DenominatorReport exact;
    double largest = 0, plain_error = 0;
    for (const Expected& e : entries) {
      const DenominatorReport r = e.exact.report();
      exact.smallest = std::min(exact.smallest, r.smallest);
      exact.smallest_magnitude = std::min(exact.smallest_magnitude, r.smallest_magnitude);
      for (const double d : e.exact.denominator.values) largest = std::max(largest, std::abs(d));
      plain_error = std::max(plain_error,
                             support::relative_error(e.plain.denominator.values, e.exact.denominator.values));
    }
    EXPECT_EQ(w.report.nan_count, 0);
    if (stabilizer == Stabilizer::none) {  // the shift is free
      EXPECT_EQ(std::signbit(w.report.smallest), std::signbit(exact.smallest));
      EXPECT_EQ(w.report.smallest == INFINITY, exact.smallest == INFINITY);
    } else if (exact.smallest == INFINITY) {  // no query at all
      EXPECT_EQ(w.report.smallest, INFINITY);
      EXPECT_EQ(w.report.smallest_magnitude, INFINITY);
    } else {
      const double allowed = support::allowed_error(plain_error) * largest;
      EXPECT_NEAR(w.report.smallest, exact.smallest, allowed);
      EXPECT_NEAR(w.report.smallest_magnitude, exact.smallest_magnitude, allowed);
    }
  }

  template <class P>
  void expect_close(const std::string& key, const P& p, bool signed_features = false) {
    SCOPED_TRACE(key);
    const std::vector<Expected>& entries = expected(key, p);
    const Written w = evaluate(p, kernels());
    for (std::size_t b = 0; b < entries.size(); ++b) {
      const auto& [exact, plain] = entries[b];
      const std::size_t tokens = static_cast<std::size_t>(p.q.tokens),
                        heads = static_cast<std::size_t>(p.q.heads);
      Slice slice{
          .entry = b, .tokens = tokens, .valid = static_cast<std::size_t>(exact.y.tokens), .row = heads};
      const double conditioning = signed_features && slice.valid > 0 ? entries[b].conditioning() : 1;
      expect_field("row_max", slice, w.row_max, exact.row_max, plain.row_max, 1);
      expect_field("row_sum", slice, w.row_sum, exact.row_sum, plain.row_sum, entries[b].largest_score());
      expect_field("linear_denominator", slice, w.linear_denominator, exact.linear_denominator,
                   plain.linear_denominator, highest_power(p));
      slice.row = heads * static_cast<std::size_t>(p.v.dim);
      expect_field("out", slice, w.out, exact.y, plain.y, conditioning);
    }
    Stabilizer stabilizer = Stabilizer::row_max;
    if constexpr (requires { p.stabilizer; }) stabilizer = p.stabilizer;
    expect_report(w, entries, stabilizer);
  }

  void expect_all_close(const char* kind, std::uint64_t seed, const TestClip& clip,
                        bool signed_features = false) {
    clip.for_each_operator([&](const char* name, const auto& parameters) {
      expect_close(std::string(kind) + " " + std::to_string(seed) + ", " + name, parameters, signed_features);
    });
  }
};

void guard_denominator(TestClip& clip, Random& random) {
  if (clip.stabilizer == Stabilizer::none) return;
  clip.denominator_epsilon = random.pick({0.0f, 0.0f, 1e-3f});
  clip.denominator_floor = random.pick({0.0f, 0.0f, 1.5f});
}

TEST_P(RandomTest, Small) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip = TestClip::random(random, Geometry::random(random));
    guard_denominator(clip, random);
    expect_all_close("small", seed, clip);
  }
}

TEST_P(RandomTest, WideHeads) {
  for (const std::uint64_t seed : support::seeds(10)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry geometry{.batch = random.integer(1, 2),
                      .frames = random.integer(2, 5),
                      .tokens_per_frame = random.integer(1, 14),
                      .chunk_frames = random.integer(1, 2),
                      .overlap_frames = random.integer(0, 2),
                      .heads_per_kv = random.integer(1, 2),
                      .dim = random.integer(1, 512),
                      .value_dim = random.integer(1, 512)};
    if (seed == 1) geometry.dim = geometry.value_dim = 512;
    expect_all_close("wide", seed, TestClip::random(random, geometry));
  }
}

/// Several key blocks, query blocks and groups of query blocks.
TEST_P(RandomTest, ManyTokens) {
  for (const std::uint64_t seed : support::seeds(3)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Geometry geometry{.frames = random.integer(2, 4),
                            .tokens_per_frame = random.integer(100, 200),
                            .chunk_frames = random.integer(1, 3),
                            .overlap_frames = random.integer(0, 3),
                            .heads_per_kv = random.integer(1, 2),
                            .dim = random.integer(4, 20),
                            .value_dim = random.integer(4, 20)};
    expect_all_close("many tokens", seed, TestClip::random(random, geometry));
  }
}

/// Features of either sign: denominators may come near zero, and then nothing is accurate.
TEST_P(RandomTest, SignedFeatures) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip(random, Geometry::random(random), random.pick({Features::identity, Features::polynomial}));
    clip.stabilizer = random.pick({Stabilizer::row_max, Stabilizer::none});
    clip.phi_q.output_activation = clip.phi_k.output_activation =
        random.pick({Activation::identity, Activation::identity, Activation::gelu, Activation::silu});
    expect_all_close("signed", seed, clip, true);
  }
}

TEST_P(RandomTest, SoftmaxWithOtherKeyCount) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const std::int64_t batch = random.integer(1, 3), queries = random.integer(0, 150),
                       keys = random.integer(1, 400);
    const std::int64_t kv_heads = random.integer(1, 2), heads = kv_heads * random.integer(1, 3);
    const std::int64_t dim = random.integer(1, 40), value_dim = random.integer(1, 40);
    const auto q = random.normals(batch * queries * heads * dim),
               k = random.normals(batch * keys * kv_heads * dim),
               v = random.normals(batch * keys * kv_heads * value_dim);
    std::vector<std::int64_t> query_tokens, key_tokens;
    for (std::int64_t b = 0; b < batch; ++b) query_tokens.push_back(random.integer(0, queries));
    for (const std::int64_t n : query_tokens) key_tokens.push_back(random.integer(n > 0 ? 1 : 0, keys));
    SoftmaxAttention p{.q = TensorView<const float>::token_major(q.data(), batch, queries, heads, dim),
                       .k = TensorView<const float>::token_major(k.data(), batch, keys, kv_heads, dim),
                       .v = TensorView<const float>::token_major(v.data(), batch, keys, kv_heads, value_dim)};
    if (random.coin()) p.scale = static_cast<float>(random.uniform(-1, 1));
    if (random.coin()) p.query_tokens = query_tokens, p.key_tokens = key_tokens;
    expect_close("cross " + std::to_string(seed), p);
  }
}

/// Chunk by chunk, against the recurrence in double.
TEST_P(RandomTest, Recurrent) {
  for (const std::uint64_t seed : support::seeds(15)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry geometry = Geometry::random(random);
    geometry.batch = 1;
    const TestClip clip = TestClip::random(random, geometry);
    SerialExecutor serial;
    for (const bool hybrid : {true, false}) {
      const RecurrentConfig config =
          clip.recurrent(hybrid ? RecurrentSchedule::hybrid : RecurrentSchedule::linear);
      support::OwnedState state(config, 1, kernels());
      const Written written = support::stream(clip, state, serial);
      const reference::Case c = hybrid ? reference::case_of(clip.hybrid(Direction::causal))
                                       : reference::case_of(clip.linear(Direction::causal));
      const reference::Output exact = reference::recurrent(
          c.inputs, c.model, config.chunking,
          hybrid ? reference::Recurrence::Kind::hybrid : reference::Recurrence::Kind::linear);
      const double plain = support::relative_error(reference::plain_float(c).y.values, exact.y.values);
      EXPECT_LE(support::relative_error(written.out, exact.y.values), support::allowed_error(plain));
    }
  }
}

REHYAT_TEST_ALL_ISAS(RandomTest);

}  // namespace
}  // namespace rehyat
