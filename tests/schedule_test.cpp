// Key sets as constants, and operation counts against counting every key of every query.

#include "rehyat/schedule.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <set>
#include <string>

#include "reference/case_of.hpp"
#include "rehyat/operation_count.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;

constexpr int times_in(const Range& r, std::int64_t frame) {
  return frame >= r.begin && frame < r.end ? 1 : 0;
}

/// Each frame is in one set of the chunk, or, when causal, in the future and in none.
constexpr bool each_frame_in_one_set(const ChunkSets& s, std::int64_t frames, Direction direction) {
  for (std::int64_t f = 0; f < frames; ++f) {
    const int times = times_in(s.softmax, f) + times_in(s.linear_before, f) + times_in(s.linear_after, f);
    const bool future = direction == Direction::causal && f >= s.queries.end;
    if (times != (future ? 0 : 1)) return false;
  }
  return true;
}

/// Every frame is a query of one chunk, chunks follow each other, and sets are as SPEC'd in both directions.
constexpr bool sets_are_sound(std::int64_t frames, const Chunking& c) {
  std::int64_t next = 0;
  for (std::int64_t t = 0; t < chunk_count(frames, c); ++t) {
    for (const Direction d : {Direction::causal, Direction::bidirectional}) {
      const ChunkSets hybrid = hybrid_sets(frames, t, c, d), linear = linear_sets(frames, t, c, d);
      if (!each_frame_in_one_set(hybrid, frames, d) || !each_frame_in_one_set(linear, frames, d))
        return false;
      if (hybrid.queries != linear.queries || hybrid.queries.begin != next || hybrid.queries.empty())
        return false;
      if (hybrid.softmax.end != hybrid.queries.end || hybrid.softmax.begin != softmax_begin(t, c))
        return false;
      if (hybrid.queries.begin - hybrid.softmax.begin > c.overlap_frames || !linear.softmax.empty())
        return false;
    }
    next = hybrid_sets(frames, t, c, Direction::causal).queries.end;
  }
  return next == frames;
}

constexpr bool all_small_schedules_are_sound() {
  for (std::int64_t frames = 0; frames <= 9; ++frames) {
    for (std::int64_t chunk = 1; chunk <= 5; ++chunk) {
      for (std::int64_t overlap = 0; overlap <= 6; ++overlap) {
        if (!sets_are_sound(frames, {.chunk_frames = chunk, .overlap_frames = overlap})) return false;
      }
    }
  }
  return true;
}
static_assert(all_small_schedules_are_sound());

/// The increments that a recurrence absorbs, [s_t, s_(t+1)), follow each other without gap or overlap.
static_assert(softmax_begin(0, {.chunk_frames = 3, .overlap_frames = 1}) == 0);
static_assert(softmax_begin(1, {.chunk_frames = 3, .overlap_frames = 1}) == 2);
static_assert(softmax_begin(2, {.chunk_frames = 3, .overlap_frames = 7}) == 0);
static_assert(softmax_begin(3, {.chunk_frames = 3, .overlap_frames = 7}) == 2);
static_assert(hybrid_sets(7, 2, {.chunk_frames = 3, .overlap_frames = 1}, Direction::bidirectional).queries ==
              Range{6, 7});
static_assert(hybrid_sets(9, 1, {.chunk_frames = 3, .overlap_frames = 1}, Direction::bidirectional)
                  .linear_after == Range{6, 9});
static_assert(Range{2, 5}.scaled(4) == Range{8, 20} && Range{2, 5}.size() == 3 && Range{3, 3}.empty() &&
              Range{4, 3}.empty());

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
static_assert(ceil_div(0, 3) == 0 && ceil_div(1, 3) == 1 && ceil_div(3, 3) == 1 && ceil_div(4, 3) == 2);
static_assert(ceil_div(huge, 2) == huge / 2 + 1 && ceil_div(5, huge) == 1 && ceil_div(huge, huge) == 1);
static_assert(round_up(0, 16) == 0 && round_up(1, 16) == 16 && round_up(16, 16) == 16 &&
              round_up(17, 16) == 32);

/// 2 operations a multiply-add of a feature map's layers.
double map_operations(const FeatureMap& map, std::int64_t in_dim) {
  double operations = 0;
  for (int i = 0; i < map.num_layers; ++i) {
    operations += 2.0 * static_cast<double>(in_dim * map.layers[i].out_dim);
    in_dim = map.layers[i].out_dim;
  }
  return operations;
}

/// Counts keys by walking the reference's sets.
template <class P>
OperationCount counted(const P& p, const FeatureMap& phi_q, const FeatureMap& phi_k) {
  OperationCount n;
  const double heads = static_cast<double>(p.q.heads), kv_heads = static_cast<double>(p.k.heads);
  const double read = 2.0 * static_cast<double>(phi_q.feature_dim(p.q.dim) * p.v.dim);
  for (std::int64_t b = 0; b < p.q.batch; ++b) {
    std::set<std::int64_t> absorbed;
    for (const reference::KeySets& sets : reference::case_of(p, b).chunks) {
      const double queries = static_cast<double>(sets.queries.size()) * heads;
      n.softmax +=
          2.0 * static_cast<double>(p.q.dim + p.v.dim) * queries * static_cast<double>(sets.softmax.size());
      if (sets.linear.empty()) continue;
      n.read += queries * read;
      n.feature_map += queries * map_operations(phi_q, p.q.dim);
      absorbed.insert(sets.linear.begin(), sets.linear.end());
    }
    const double keys = static_cast<double>(absorbed.size()) * kv_heads;
    n.absorb += keys * read;
    n.feature_map += keys * map_operations(phi_k, p.q.dim);
  }
  return n;
}

TEST(ScheduleTest, OperationCountsAreThoseOfTheKeySets) {
  for (const std::uint64_t seed : support::seeds(200)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry geometry = Geometry::random(random);
    geometry.tokens_per_frame = random.integer(1, 3);
    const TestClip clip = TestClip::random(random, geometry);
    clip.for_each_operator([&](const char* name, const auto& parameters) {
      SCOPED_TRACE(name);
      const bool no_features = std::string(name) == "softmax";
      const OperationCount expected = counted(parameters, no_features ? FeatureMap{} : clip.phi_q,
                                              no_features ? FeatureMap{} : clip.phi_k);
      const OperationCount actual = operation_count(parameters);
      EXPECT_EQ(actual.softmax, expected.softmax);
      EXPECT_EQ(actual.feature_map, expected.feature_map);
      EXPECT_EQ(actual.read, expected.read);
      EXPECT_EQ(actual.absorb, expected.absorb);
      EXPECT_EQ(actual.total(), expected.softmax + expected.feature_map + expected.read + expected.absorb);
    });
  }
}

/// Wan2.1-1.3B's full attention: 4 D N^2 a head.
TEST(ScheduleTest, FullAttentionCountsByHand) {
  const float nothing = 0;
  const auto view = TensorView<const float>::token_major(&nothing, 1, 21 * 30 * 52, 12, 128);
  EXPECT_EQ(operation_count(SoftmaxAttention{.q = view, .k = view, .v = view}).total(),
            12 * 4 * 128 * 32760.0 * 32760.0);
}

/// What cannot be is no work, and no division by zero.
TEST(ScheduleTest, ChunkingAndRateThatAreRefusedCountNothing) {
  const float nothing = 0;
  const auto view = TensorView<const float>::token_major(&nothing, 1, 6, 1, 4);
  const FeatureMap elu1 = FeatureMap::elu1();
  HybridAttention good{.q = view,
                       .k = view,
                       .v = view,
                       .chunking = {.tokens_per_frame = 2, .chunk_frames = 1, .overlap_frames = 0},
                       .phi_q = elu1,
                       .phi_k = elu1};
  EXPECT_GT(operation_count(good).total(), 0);
  for (std::int64_t Chunking::*member : {&Chunking::tokens_per_frame, &Chunking::chunk_frames}) {
    HybridAttention bad = good;
    bad.chunking.*member = 0;
    EXPECT_EQ(operation_count(bad).total(), 0);
  }
  EXPECT_EQ(operation_count(UniformAttention{.q = view, .k = view, .v = view, .rate = 0}).total(), 0);
}

}  // namespace
}  // namespace rehyat
