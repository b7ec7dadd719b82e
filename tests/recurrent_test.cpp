// The recurrence: equal to one shot to the bit, and a state that behaves like a value.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "reference/case_of.hpp"
#include "support/clip_stream.hpp"
#include "support/compare.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::ClipStream;
using support::evaluate;
using support::Features;
using support::Geometry;
using support::OwnedState;
using support::Random;
using support::stream;
using support::TestClip;
using support::Written;

constexpr RecurrentSchedule schedules[] = {RecurrentSchedule::hybrid, RecurrentSchedule::linear};

class RecurrentTest : public support::IsaTest {
 protected:
  OwnedState new_state(const TestClip& clip, RecurrentSchedule schedule) const {
    return OwnedState(clip.recurrent(schedule), 1, kernels());
  }

  Written one_shot(const TestClip& clip, RecurrentSchedule schedule) const {
    return schedule == RecurrentSchedule::hybrid ? evaluate(clip.hybrid(Direction::causal), kernels())
                                                 : evaluate(clip.linear(Direction::causal), kernels());
  }

  void expect_equal_to_one_shot(const TestClip& clip, RecurrentSchedule schedule) {
    const Geometry& g = clip.geometry;
    SCOPED_TRACE(testing::Message() << (schedule == RecurrentSchedule::hybrid ? "hybrid, " : "linear, ")
                                    << g.frames << " frames, chunks of " << g.chunk_frames << ", overlap "
                                    << g.overlap_frames);
    OwnedState state = new_state(clip, schedule);
    EXPECT_TRUE(bit_equal(stream(clip, state, serial), one_shot(clip, schedule)));
    for (std::int64_t b = 0; b < g.batch; ++b) {
      const std::int64_t frames = reference::valid(clip.frames, b, g.frames);
      EXPECT_EQ(state->frames_seen(b), frames);
      EXPECT_EQ(state->finished(b), frames % g.chunk_frames != 0);
    }
  }

  SerialExecutor serial;
};

bool same_bytes(const OwnedState& a, const OwnedState& b) {
  return a.memory().size() == b.memory().size() &&
         std::memcmp(a.memory().data(), b.memory().data(), a.memory().size() * sizeof(double)) == 0;
}

/// A clip of several whole chunks and a short one, with tails, groups of heads and given features.
TestClip long_clip(Random& random, std::int64_t batch = 2) {
  return TestClip(random,
                  {.batch = batch,
                   .frames = 7,
                   .tokens_per_frame = 4,
                   .chunk_frames = 2,
                   .overlap_frames = 3,
                   .heads_per_kv = 2},
                  Features::given_separate);
}

TEST_P(RecurrentTest, EqualsOneShotToTheBit) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Geometry geometry = Geometry::random(random);
    TestClip clip = TestClip::random(random, geometry);
    if (clip.stabilizer == Stabilizer::row_max) {
      clip.denominator_epsilon = random.pick({0.0f, 1e-3f});
      clip.denominator_floor = random.pick({0.0f, 1.5f});
    }
    for (const auto schedule : schedules) expect_equal_to_one_shot(clip, schedule);
  }
}

/// Chunks long enough that their keys are summed in several groups, whole, cut by an overlap, or longer than
/// the clip.
TEST_P(RecurrentTest, EqualsOneShotInChunksOfManyTokens) {
  Random random(1);
  Geometry geometry{.tokens_per_frame = 500, .dim = 2, .value_dim = 3};
  const auto clip = [&](std::int64_t frames, std::int64_t chunk_frames, std::int64_t overlap_frames) {
    geometry.frames = frames, geometry.chunk_frames = chunk_frames, geometry.overlap_frames = overlap_frames;
    return TestClip(random, geometry, Features::elu1);
  };
  for (const auto schedule : schedules) {
    expect_equal_to_one_shot(clip(5, 2, 0), schedule);
    expect_equal_to_one_shot(clip(5, 2, 1), schedule);
    expect_equal_to_one_shot(clip(5, 2, 3), schedule);
  }
  expect_equal_to_one_shot(clip(6, 13, 0), RecurrentSchedule::linear);
  expect_equal_to_one_shot(clip(12, 13, 0), RecurrentSchedule::linear);
  expect_equal_to_one_shot(clip(27, 13, 0), RecurrentSchedule::linear);
}

TEST_P(RecurrentTest, PeekGivesWhatStepGivesAndLeavesTheState) {
  for (const std::uint64_t seed : support::seeds(10, 200)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    const Geometry& g = clip.geometry;
    for (const RecurrentSchedule schedule : schedules) {
      OwnedState state = new_state(clip, schedule), committed = new_state(clip, schedule);
      Written peeked(g.batch, g.tokens(), g.heads(), g.value_dim), stepped = peeked, unwritten = peeked,
                                                                   fresh = peeked;
      ClipStream peeks(clip, peeked), steps(clip, stepped), commits(clip, unwritten);
      for (std::int64_t t = 0; t < peeks.chunks(); ++t) {
        const std::vector<double> before = state.memory();
        ASSERT_TRUE(state.peek(peeks.chunk(t), serial).ok());
        EXPECT_EQ(std::memcmp(before.data(), state.memory().data(), before.size() * sizeof(double)), 0);
        ASSERT_TRUE(state.step(steps.chunk(t), serial).ok());
        ASSERT_TRUE(committed.commit(commits.chunk(t), serial).ok());
        EXPECT_TRUE(same_bytes(state, committed));
      }
      EXPECT_TRUE(bit_equal(peeked, stepped));
      EXPECT_TRUE(bit_equal(unwritten, fresh)) << "commit wrote outputs";
    }
  }
}

/// A diffusion sampler peeks noisy versions of a chunk and commits the clean one.
TEST_P(RecurrentTest, PeeksMayHaveOtherTensorsThanTheCommit) {
  Random random(3);
  const TestClip clean = long_clip(random);
  const Geometry& g = clean.geometry;
  const std::size_t chunk_tokens = static_cast<std::size_t>(g.chunk_frames * g.tokens_per_frame);
  for (const RecurrentSchedule schedule : schedules) {
    OwnedState state = new_state(clean, schedule);
    Written written(g.batch, g.tokens(), g.heads(), g.value_dim), peeked = written;
    ClipStream chunks(clean, written);
    DenominatorReport total;
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      Random noise(static_cast<std::uint64_t>(t) + 50);
      const TestClip noisy = long_clip(noise);
      ClipStream noisy_chunks(noisy, peeked);
      ASSERT_TRUE(state.peek(noisy_chunks.chunk(t), serial).ok());
      if (t == 0) {  // nothing clean was seen: the noisy clip's own first chunk
        const Written alone = one_shot(noisy, schedule);
        EXPECT_TRUE(bit_equal(std::span(peeked.row_max).first(chunk_tokens * 2),
                              std::span(alone.row_max).first(chunk_tokens * 2)));
        EXPECT_TRUE(bit_equal(std::span(peeked.out).first(chunk_tokens * 16),
                              std::span(alone.out).first(chunk_tokens * 16)));
      }
      ASSERT_TRUE(state.step(chunks.chunk(t), serial).ok());
      support::merge(total, written.report);
    }
    written.report = total;
    EXPECT_TRUE(bit_equal(written, one_shot(clean, schedule)));
  }
}

TEST_P(RecurrentTest, CopiesAreIndependent) {
  Random random(4);
  const TestClip clip = long_clip(random), other = long_clip(random);
  const Geometry& g = clip.geometry;
  Written written(g.batch, g.tokens(), g.heads(), g.value_dim), unused = written;
  ClipStream chunks(clip, written), other_chunks(other, unused);
  OwnedState first = new_state(clip, RecurrentSchedule::hybrid),
             second = new_state(clip, RecurrentSchedule::hybrid);
  for (std::int64_t t = 0; t < 2; ++t) ASSERT_TRUE(first.step(chunks.chunk(t), serial).ok());
  ASSERT_TRUE(second->copy_from(*first).ok());
  EXPECT_TRUE(same_bytes(first, second));
  EXPECT_EQ(second->frames_seen(1), 4);
  ASSERT_TRUE(second.step(other_chunks.chunk(2), serial).ok());
  EXPECT_FALSE(same_bytes(first, second));
  EXPECT_EQ(first->frames_seen(0), 4);
  for (std::int64_t t = 2; t < chunks.chunks(); ++t) ASSERT_TRUE(first.step(chunks.chunk(t), serial).ok());
  EXPECT_TRUE(bit_equal(written.out, one_shot(clip, RecurrentSchedule::hybrid).out));
}

/// One batch entry goes on in another state, and in another place.
TEST_P(RecurrentTest, EntriesCopyAndResetAlone) {
  Random random(5);
  const TestClip clip = long_clip(random, 3);
  const Geometry& g = clip.geometry;
  Written written(3, g.tokens(), g.heads(), g.value_dim), moved_out = written, again = written;
  ClipStream chunks(clip, written);
  OwnedState state = new_state(clip, RecurrentSchedule::hybrid);
  RecurrentConfig alone = clip.recurrent(RecurrentSchedule::hybrid);
  alone.batch = 1;
  OwnedState moved(alone, 1, kernels());
  for (std::int64_t t = 0; t < 2; ++t) ASSERT_TRUE(state.step(chunks.chunk(t), serial).ok());
  ASSERT_TRUE(moved->copy_entry(0, *state, 2).ok());
  ClipStream moved_chunks(clip, moved_out);
  for (std::int64_t t = 2; t < chunks.chunks(); ++t) {
    ASSERT_TRUE(moved.step(support::entry_of(moved_chunks.chunk(t), 2), serial).ok());
    ASSERT_TRUE(state.step(chunks.chunk(t), serial).ok());
  }
  const std::size_t late = written.out.size() / 3 / 7;  // the third entry's last frame
  EXPECT_TRUE(bit_equal(std::span(written.out).last(late), std::span(moved_out.out).last(late)));

  ASSERT_TRUE(state->reset(1).ok());
  EXPECT_EQ(state->frames_seen(1), 0);
  EXPECT_FALSE(state->finished(1));
  EXPECT_EQ(state->frames_seen(0), 7);
  EXPECT_TRUE(state->finished(2));
  ClipStream replay_chunks(clip, again);
  for (std::int64_t t = 0; t < chunks.chunks(); ++t) {  // only the entry that was reset may go on
    RecurrentChunk chunk = replay_chunks.chunk(t);
    const std::int64_t frames[] = {0, chunk.k.tokens / g.tokens_per_frame, 0};
    chunk.frames = frames;
    const Status status = state.step(chunk, serial);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  const std::size_t entry_size = written.out.size() / 3;
  EXPECT_TRUE(bit_equal(std::span(written.out).subspan(entry_size, entry_size),
                        std::span(again.out).subspan(entry_size, entry_size)));
  EXPECT_EQ(again.out.front(), support::untouched);
  EXPECT_EQ(again.out.back(), support::untouched);

  OwnedState fresh = new_state(clip, RecurrentSchedule::hybrid);
  state->reset();
  EXPECT_TRUE(same_bytes(state, fresh));
}

TEST_P(RecurrentTest, AShortChunkEndsTheSequenceUntilReset) {
  Random random(6);
  TestClip clip = long_clip(random);
  clip.frames = {3, 4};
  const Geometry& g = clip.geometry;
  Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
  ClipStream chunks(clip, written);
  OwnedState state = new_state(clip, RecurrentSchedule::hybrid);
  for (std::int64_t t = 0; t < 2; ++t) ASSERT_TRUE(state.step(chunks.chunk(t), serial).ok());
  EXPECT_TRUE(state->finished(0));
  EXPECT_FALSE(state->finished(1));
  const std::vector<double> before = state.memory();
  const Written expected = written;
  RecurrentChunk chunk = chunks.chunk(0);
  chunk.frames = {};
  const auto expect_refused = [&](const Status& status) {
    EXPECT_EQ(status.code(), StatusCode::sequence_finished);
    EXPECT_TRUE(std::string(status.message()).starts_with("batch entry 0 got a chunk after 3 frames"))
        << status.message();
  };
  expect_refused(state.step(chunk, serial));
  expect_refused(state.peek(chunk, serial));
  expect_refused(state.commit(chunk, serial));
  EXPECT_EQ(before, state.memory());
  EXPECT_TRUE(bit_equal(written, expected));
  ASSERT_TRUE(state->reset(0).ok());
  EXPECT_TRUE(state.step(chunk, serial).ok());
  EXPECT_EQ(state->frames_seen(0), 2);
  EXPECT_EQ(state->frames_seen(1), 6);
}

/// The layout does not depend on the instruction set: a state goes on under any other.
TEST_P(RecurrentTest, AStateMovesBetweenInstructionSets) {
  Random random(7);
  const TestClip clip = long_clip(random);
  const Geometry& g = clip.geometry;
  Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
  const Written expected = one_shot(clip, RecurrentSchedule::hybrid);
  ClipStream chunks(clip, written);
  OwnedState scalar(clip.recurrent(RecurrentSchedule::hybrid), 1, **find_kernels("scalar"));
  OwnedState state = new_state(clip, RecurrentSchedule::hybrid);
  EXPECT_EQ(scalar.memory().size(), state.memory().size());
  for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
    ASSERT_TRUE((t % 2 == 0 ? scalar : state).step(chunks.chunk(t), serial).ok());
    ASSERT_TRUE((t % 2 == 0 ? state->copy_from(*scalar) : scalar->copy_from(*state)).ok());
  }
  EXPECT_LE(support::relative_error(written.out, expected.out), 1e-5);
}

REHYAT_TEST_ALL_ISAS(RecurrentTest);

}  // namespace
}  // namespace rehyat
