// The run path allocates nothing: every operator and every use of a state, serial and on threads started
// beforehand.

#include <gtest/gtest.h>

#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/allocation_counter.hpp"
#include "support/clip_stream.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::AllocationCounter;
using support::Features;
using support::Random;
using support::TestClip;
using support::Written;

class AllocationTest : public support::IsaTest {
 protected:
  void SetUp() override {
    if (!AllocationCounter::works()) GTEST_SKIP() << "malloc cannot be replaced in this build";
  }

  static TestClip clip_with(Features features) {
    Random random(1);
    TestClip clip(random,
                  {.batch = 2,
                   .frames = 5,
                   .tokens_per_frame = 60,
                   .chunk_frames = 2,
                   .overlap_frames = 3,
                   .heads_per_kv = 2},
                  features);
    clip.frames = {5, 3}, clip.tokens = {300, 180};
    return clip;
  }

  template <class E>
  void expect_none_in_operators(const TestClip& clip, E& executor) {
    clip.for_each_operator([&](const char* name, auto parameters) {
      Written written(2, 300, 2, 8);
      written.receive(parameters);
      support::NanWorkspace workspace(*workspace_size(parameters, executor.slots(), kernels()));
      AllocationCounter counter;
      const Result<std::size_t> size = workspace_size(parameters, executor.slots(), kernels());
      const Status status = support::call(parameters, workspace.get(), executor, kernels());
      EXPECT_EQ(counter.stop(), 0) << name;
      EXPECT_TRUE(size.ok() && status.ok()) << name;
    });
  }

  template <class E>
  void expect_none_in_a_recurrence(const TestClip& clip, RecurrentSchedule schedule, E& executor) {
    support::OwnedState state(clip.recurrent(schedule), executor.slots(), kernels());
    support::OwnedState copy(clip.recurrent(schedule), executor.slots(), kernels());
    Written written(2, 300, 2, 8);
    support::ClipStream chunks(clip, written);
    const RecurrentChunk first = chunks.chunk(0);
    AllocationCounter counter;
    bool ok = state.peek(first, executor).ok() && state.step(first, executor).ok() &&
              state.commit(first, executor).ok();
    ok = ok && copy->copy_from(*state).ok() && copy->copy_entry(0, *state, 1).ok() && state->reset(1).ok();
    state->reset();
    ok = ok && state->frames_seen() == 0 && copy->frames_seen() == 4 && !copy->finished();
    EXPECT_EQ(counter.stop(), 0);
    EXPECT_TRUE(ok);
  }

  template <class E>
  void expect_none(E& executor) {
    for (const Features features : {Features::polynomial, Features::given_separate}) {
      const TestClip clip = clip_with(features);
      expect_none_in_operators(clip, executor);
      for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear}) {
        expect_none_in_a_recurrence(clip, schedule, executor);
      }
    }
  }
};

TEST_P(AllocationTest, Serial) {
  SerialExecutor serial;
  expect_none(serial);
}

TEST_P(AllocationTest, OnAThreadPool) {
  ThreadPool pool(3);
  expect_none(pool);
}

/// Refusals carry their message without a heap.
TEST_P(AllocationTest, Errors) {
  const TestClip clip = clip_with(Features::elu1);
  HybridAttention bad = clip.hybrid(Direction::causal);
  bad.q.dim = 1000;
  SerialExecutor serial;
  AllocationCounter counter;
  const Status status = hybrid_attention(bad, {}, serial, kernels());
  EXPECT_EQ(counter.stop(), 0);
  EXPECT_FALSE(status.ok());
}

REHYAT_TEST_ALL_ISAS(AllocationTest);

}  // namespace
}  // namespace rehyat
