// One instruction set, one answer: to the bit for every executor, number of workers, batch, layout and
// address.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/all_results.hpp"
#include "support/clip_stream.hpp"
#include "support/executors.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::all_results;
using support::bit_equal;
using support::evaluate;
using support::Features;
using support::Geometry;
using support::NamedResult;
using support::OwnedState;
using support::Random;
using support::Shuffling;
using support::streamed;
using support::TestClip;
using support::Wasteful;
using support::Watching;
using support::Written;

class DeterminismTest : public support::IsaTest {
 protected:
  template <class E>
  void expect_results(const std::vector<NamedResult>& expected, const TestClip& clip, E& executor) {
    support::expect_bit_equal(all_results(clip, executor, kernels()), expected);
  }

  /// A clip of which every operator makes at least 3 tasks for each of 7 workers.
  static TestClip busy_clip(Random& random, Features features) {
    TestClip clip(random,
                  {.batch = 2,
                   .frames = 5,
                   .tokens_per_frame = 50,
                   .chunk_frames = 2,
                   .overlap_frames = 3,
                   .kv_heads = 2,
                   .heads_per_kv = 3,
                   .dim = 9,
                   .value_dim = 6},
                  features);
    clip.frames = {5, 4}, clip.tokens = {250, 200};
    return clip;
  }

  SerialExecutor serial_;
};

TEST_P(DeterminismTest, NumberOfWorkers) {
  Random random(1);
  for (const Features features : {Features::polynomial, Features::given_separate}) {
    TestClip clip = busy_clip(random, features);
    clip.stabilizer = features == Features::polynomial ? Stabilizer::row_max : Stabilizer::none;
    const std::vector<NamedResult> expected = all_results(clip, kernels());
    for (const int workers : {1, 2, 3, 7}) {
      SCOPED_TRACE(workers);
      ThreadPool pool(workers);
      ASSERT_EQ(pool.slots(), workers);
      expect_results(expected, clip, pool);
    }
  }
}

TEST_P(DeterminismTest, ThereAreAtLeastThreeTasksForEachOfSevenWorkers) {
  Random random(1);
  const TestClip clip = busy_clip(random, Features::elu1);
  clip.for_each_operator([&](const char* name, const auto& parameters) {
    Watching watching(serial_);
    evaluate(parameters, watching, kernels());
    EXPECT_GE(watching.most_tasks, 3 * 7) << name;
  });
  for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear}) {
    Watching watching(serial_);
    streamed(clip, schedule, watching, kernels());
    EXPECT_GE(watching.most_tasks, 3 * 7);
  }
}

/// Sums of enough keys to be cut into several groups, and of enough elements to be cut into several slices.
TEST_P(DeterminismTest, NumberOfWorkersWithManyKeysAndWideSums) {
  Random random(2);
  const Geometry many_keys{
      .frames = 4, .tokens_per_frame = 400, .chunk_frames = 2, .overlap_frames = 1, .dim = 2, .value_dim = 2};
  const Geometry wide_sums{.tokens_per_frame = 6, .dim = 4, .value_dim = 130, .given_dim = 260};
  const TestClip clips[] = {TestClip(random, many_keys, Features::elu1),
                            TestClip(random, wide_sums, Features::given)};
  for (const TestClip& clip : clips) {
    const std::vector<NamedResult> expected = all_results(clip, kernels());
    for (const int workers : {2, 7}) {
      ThreadPool pool(workers);
      expect_results(expected, clip, pool);
    }
  }
}

TEST_P(DeterminismTest, OrderAndSlotsOfTasks) {
  for (const std::uint64_t seed : support::seeds(15)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    const std::vector<NamedResult> expected = all_results(clip, kernels());
    Shuffling shuffling(seed);
    expect_results(expected, clip, shuffling);
    Wasteful wasteful;
    expect_results(expected, clip, wasteful);
  }
}

/// Batch entry `b` of a run, and the same sequence run alone with no frames behind it.
template <class P>
void expect_same_alone(P parameters, std::int64_t b, std::int64_t tokens, const Kernels& kernels,
                       const char* name) {
  const Written together = evaluate(parameters, kernels);
  const std::size_t row = static_cast<std::size_t>(parameters.q.heads * parameters.v.dim);
  const std::size_t begin = static_cast<std::size_t>(b * parameters.q.tokens) * row,
                    size = static_cast<std::size_t>(tokens) * row;
  const auto cut = [&](InputView& view) {
    if (view.data != nullptr) view = view.slice_batch(b).slice_tokens(0, tokens);
  };
  cut(parameters.q), cut(parameters.k), cut(parameters.v);
  if constexpr (requires { parameters.given; }) {
    cut(parameters.given.q), cut(parameters.given.k), cut(parameters.given.q_denominator),
        cut(parameters.given.k_denominator);
  }
  if constexpr (requires { parameters.frames; }) parameters.frames = {};
  if constexpr (requires { parameters.tokens; }) parameters.tokens = {};
  if constexpr (requires { parameters.query_tokens; }) parameters.query_tokens = parameters.key_tokens = {};
  const Written alone = evaluate(parameters, kernels);
  EXPECT_TRUE(bit_equal(std::span(together.out).subspan(begin, size), alone.out))
      << name << ", batch entry " << b;
}

TEST_P(DeterminismTest, AloneOrInABatch) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry geometry = Geometry::random(random);
    geometry.batch = 3;
    const TestClip clip = TestClip::random(random, geometry);
    for (std::int64_t b = 0; b < 3; ++b) {
      clip.for_each_operator([&](const char* name, const auto& parameters) {
        expect_same_alone(parameters, b, clip.tokens[static_cast<std::size_t>(b)], kernels(), name);
      });
    }
  }
}

/// The same for recurrences: a state of the batch, and one for each entry.
TEST_P(DeterminismTest, StatesAloneOrInABatch) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry g = Geometry::random(random);
    g.batch = 3;
    const TestClip clip = TestClip::random(random, g);
    for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear}) {
      const Written together = streamed(clip, schedule, serial_, kernels());
      Written alone(g.batch, g.tokens(), g.heads(), g.value_dim);
      support::ClipStream chunks(clip, alone);
      RecurrentConfig config = clip.recurrent(schedule);
      config.batch = 1;
      for (std::int64_t b = 0; b < 3; ++b) {
        OwnedState state(config, 1, kernels());
        for (std::int64_t t = 0; t < chunks.chunks(); ++t)
          ASSERT_TRUE(state.step(support::entry_of(chunks.chunk(t), b), serial_).ok());
      }
      alone.report = together.report;  // each step has its own
      EXPECT_TRUE(bit_equal(alone, together));
    }
  }
}

/// More keys than the least group times the most groups: cuts must follow from the entry, not from the batch.
TEST_P(DeterminismTest, AloneOrInABatchWithManyKeys) {
  Random random(3);
  const auto expect = [&](const Geometry& geometry, std::int64_t frames) {
    TestClip clip(random, geometry, Features::elu1);
    clip.frames = {frames}, clip.tokens = {frames * geometry.tokens_per_frame};
    expect_same_alone(clip.linear(Direction::causal), 0, clip.tokens[0], kernels(), "linear, causal");
    expect_same_alone(clip.linear(Direction::bidirectional), 0, clip.tokens[0], kernels(),
                      "linear, bidirectional");
  };
  expect({.frames = 27,
          .tokens_per_frame = 1000,
          .chunk_frames = 27,
          .overlap_frames = 0,
          .dim = 1,
          .value_dim = 1},
         1);
  expect({.frames = 7,
          .tokens_per_frame = 1000,
          .chunk_frames = 7,
          .overlap_frames = 0,
          .dim = 1,
          .value_dim = 1},
         5);
  Geometry small_frames{.frames = 27,
                        .tokens_per_frame = 1000,
                        .chunk_frames = 1,
                        .overlap_frames = 0,
                        .dim = 1,
                        .value_dim = 1};
  TestClip clip(random, small_frames, Features::elu1);
  clip.frames = {24}, clip.tokens = {24000};
  expect_same_alone(clip.linear(Direction::bidirectional), 0, 24000, kernels(), "linear, bidirectional");
}

/// The same values, at other addresses and strides.
TEST_P(DeterminismTest, LayoutAndAlignment) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    const Geometry& g = clip.geometry;
    // head-major, each one float behind what malloc aligns
    std::vector<float> q(clip.q.size() + 1), k(clip.k.size() + 1), v(clip.v.size() + 1);
    const auto move = [&](std::vector<float>& to, TensorView<const float> from) {
      auto view = TensorView<float>::head_major(to.data() + 1, from.batch, from.tokens, from.heads, from.dim);
      for (std::int64_t b = 0; b < from.batch; ++b) {
        for (std::int64_t t = 0; t < from.tokens; ++t) {
          for (std::int64_t h = 0; h < from.heads; ++h)
            std::copy_n(from.row(b, t, h), from.dim, view.row(b, t, h));
        }
      }
      return view;
    };
    // q, k and v of each token side by side, as a fused projection leaves them
    const std::int64_t row = g.heads() * g.dim + g.kv_heads * (g.dim + g.value_dim);
    std::vector<float> fused(static_cast<std::size_t>(g.batch * g.tokens() * row));
    std::int64_t used = 0;
    const auto fuse = [&](TensorView<const float> from) {
      TensorView<float> view{fused.data() + used, from.batch, from.tokens, from.heads, from.dim,
                             from.tokens * row,   row,        from.dim};
      used += from.heads * from.dim;
      for (std::int64_t b = 0; b < from.batch; ++b) {
        for (std::int64_t t = 0; t < from.tokens; ++t)
          std::copy_n(from.row(b, t, 0), from.heads * from.dim, view.row(b, t, 0));
      }
      return view;
    };
    const TensorView<const float> views[2][3] = {
        {move(q, clip.q_view()), move(k, clip.k_view()), move(v, clip.v_view())},
        {fuse(clip.q_view()), fuse(clip.k_view()), fuse(clip.v_view())}};
    clip.for_each_operator([&](const char* name, auto parameters) {
      const Written plain = evaluate(parameters, kernels());
      for (const auto& [qs, ks, vs] : views) {
        parameters.q = qs, parameters.k = ks, parameters.v = vs;
        EXPECT_TRUE(bit_equal(evaluate(parameters, kernels()), plain)) << name;
      }
    });
  }
}

/// Statistics and report are taken, never computed differently; the workspace may be anywhere.
TEST_P(DeterminismTest, WithoutStatisticsAndWithAnyWorkspace) {
  for (const std::uint64_t seed : support::seeds(10)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    clip.for_each_operator([&](const char* name, auto parameters) {
      const Written plain = evaluate(parameters, kernels());
      Written bare = plain;
      std::fill(bare.out.begin(), bare.out.end(), support::untouched);
      parameters.out = TensorView<float>::token_major(
          bare.out.data(), parameters.q.batch, parameters.q.tokens, parameters.q.heads, parameters.v.dim);
      const std::size_t size = *workspace_size(parameters, 1, kernels());
      for (const std::size_t offset : {1u, 4u, 60u}) {
        std::vector<char> bytes(size + offset, '\x7f');
        ASSERT_TRUE(support::call(parameters, {bytes.data() + offset, size}, serial_, kernels()).ok());
        EXPECT_TRUE(bit_equal(bare, plain)) << name;
      }
    });
  }
}

REHYAT_TEST_ALL_ISAS(DeterminismTest);

}  // namespace
}  // namespace rehyat
