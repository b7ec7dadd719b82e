// The recurrence from C and from C++: outputs and saved states equal to the bit.

#include <gtest/gtest.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "c_api/outputs.hpp"
#include "rehyat/io/state_file.hpp"
#include "support/clip_stream.hpp"

namespace rehyat {
namespace {

using namespace c_test;

/// A state of C's with its memory and workspace.
class CState {
 public:
  CState(const RecurrentConfig& config, int slots) {
    const rehyat_recurrent_config c = to_c(config);
    std::size_t size = 0, workspace = 0;
    EXPECT_TRUE(ok(rehyat_recurrent_size(&c, &size)));
    EXPECT_TRUE(ok(rehyat_recurrent_workspace_size(&c, slots, &workspace)));
    EXPECT_EQ(workspace, *RecurrentState::workspace_size(config, slots));
    memory_.resize(size / 8 + 1);
    workspace_.resize(workspace);
    EXPECT_TRUE(ok(rehyat_recurrent_create(&c, memory_.data(), size, &state_)));
  }

  rehyat_recurrent_state* get() { return state_; }

  /// `function` is one of peek, commit and step.
  template <class Function>
  rehyat_status operator()(Function function, const RecurrentChunk& chunk, const rehyat_executor& executor) {
    Arguments<rehyat_recurrent_chunk> a;
    to_c(chunk, a);
    const rehyat_status status = function(state_, &a.c, workspace_.data(), workspace_.size(), &executor);
    if (status.code == REHYAT_OK && a.report.nan_count >= 0) store(a.report, chunk.report);
    return status;
  }

  std::vector<std::byte> saved() {
    std::size_t size = 0;
    EXPECT_TRUE(ok(rehyat_recurrent_save_size(state_, &size)));
    std::vector<std::byte> file(size);
    EXPECT_TRUE(ok(rehyat_recurrent_save(state_, file.data(), size)));
    return file;
  }

 private:
  std::vector<double> memory_;
  std::vector<char> workspace_;
  rehyat_recurrent_state* state_ = nullptr;
};

std::vector<std::byte> saved(const RecurrentState& state) {
  std::vector<std::byte> file(state_file_size(state));
  EXPECT_TRUE(save_state(state, file).ok());
  return file;
}

void expect_same_recurrence(const Case& c, RecurrentSchedule schedule, Random& random) {
  RecurrentConfig config = c.clip.recurrent(schedule);
  config.tail_type = support::random_element(random);
  const support::TypedInputs inputs(c.clip, c.types);
  RecurrentChunk whole;
  inputs.feed(whole);
  Outputs expected(whole, c.types.out), actual(whole, c.types.out);
  RecurrentChunk whole_in_c = whole;
  expected.receive(whole);
  actual.receive(whole_in_c);
  support::ClipStream chunks(c.clip, whole), chunks_in_c(c.clip, whole_in_c);

  SerialExecutor serial;
  const rehyat_executor executor = rehyat_serial_executor();
  support::OwnedState state(config, 1, default_kernels());
  CState in_c(config, 1), other(config, 1);
  for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
    SCOPED_TRACE(t);
    const RecurrentChunk chunk = chunks.chunk(t), chunk_in_c = chunks_in_c.chunk(t);
    if (random.coin()) {
      ASSERT_TRUE(state.step(chunk, serial).ok());
      ASSERT_TRUE(ok(in_c(rehyat_recurrent_step, chunk_in_c, executor)));
    } else {
      ASSERT_TRUE(state.peek(chunk, serial).ok());
      ASSERT_TRUE(ok(in_c(rehyat_recurrent_peek, chunk_in_c, executor)));
      ASSERT_TRUE(state.commit(chunk, serial).ok());
      ASSERT_TRUE(ok(in_c(rehyat_recurrent_commit, chunk_in_c, executor)));
    }
    expect_equal(actual, expected);
    ASSERT_EQ(in_c.saved(), saved(*state));

    switch (random.integer(0, 3)) {  // goes on in another state, or in the same
      case 0:
        ASSERT_TRUE(ok(rehyat_recurrent_copy(other.get(), in_c.get())));
        std::swap(in_c, other);
        break;
      case 1: {
        const std::vector<std::byte> file = in_c.saved();
        ASSERT_TRUE(ok(rehyat_recurrent_restore(other.get(), file.data(), file.size())));
        std::swap(in_c, other);
        break;
      }
      default:
        break;
    }
  }
  for (std::int64_t b = 0; b < config.batch; ++b) {
    std::int64_t frames = -1;
    std::int32_t finished = -1;
    ASSERT_TRUE(ok(rehyat_recurrent_frames_seen(in_c.get(), b, &frames)));
    ASSERT_TRUE(ok(rehyat_recurrent_finished(in_c.get(), b, &finished)));
    EXPECT_EQ(frames, state->frames_seen(b));
    EXPECT_EQ(finished, state->finished(b) ? 1 : 0);
  }
}

TEST(CRecurrence, SameBits) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Case c(random);
    expect_same_recurrence(c, RecurrentSchedule::hybrid, random);
    expect_same_recurrence(c, RecurrentSchedule::linear, random);
  }
}

/// Copies, files and resets of one entry leave the others alone.
TEST(CRecurrence, SameEntries) {
  Random random(1);
  const Geometry g{.batch = 3, .frames = 4};
  const TestClip clip(random, g, support::Features::elu1);
  const RecurrentConfig config = clip.recurrent(RecurrentSchedule::hybrid);
  Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
  support::ClipStream chunks(clip, written);
  const RecurrentChunk chunk = chunks.chunk(0);
  SerialExecutor serial;
  support::OwnedState state(config, 1, default_kernels()), empty(config, 1, default_kernels());
  CState in_c(config, 1), empty_in_c(config, 1);
  ASSERT_TRUE(state.step(chunk, serial).ok());
  ASSERT_TRUE(ok(in_c(rehyat_recurrent_step, chunk, rehyat_serial_executor())));

  ASSERT_TRUE(empty->copy_entry(2, *state, 0).ok());
  ASSERT_TRUE(ok(rehyat_recurrent_copy_entry(empty_in_c.get(), 2, in_c.get(), 0)));
  EXPECT_EQ(empty_in_c.saved(), saved(*empty));

  std::size_t size = 0;
  ASSERT_TRUE(ok(rehyat_recurrent_save_entry_size(in_c.get(), &size)));
  std::vector<std::byte> file(size), expected(entry_file_size(*state));
  ASSERT_TRUE(ok(rehyat_recurrent_save_entry(in_c.get(), 1, file.data(), size)));
  ASSERT_TRUE(save_entry(*state, 1, expected).ok());
  EXPECT_EQ(file, expected);
  ASSERT_TRUE(ok(rehyat_recurrent_restore_entry(empty_in_c.get(), 0, file.data(), size, 0)));
  ASSERT_TRUE(restore_entry(*empty, 0, file, 0).ok());
  EXPECT_EQ(empty_in_c.saved(), saved(*empty));

  ASSERT_TRUE(ok(rehyat_recurrent_reset_entry(in_c.get(), 1)));
  ASSERT_TRUE(state->reset(1).ok());
  EXPECT_EQ(in_c.saved(), saved(*state));
  ASSERT_TRUE(ok(rehyat_recurrent_reset(in_c.get())));
  state->reset();
  EXPECT_EQ(in_c.saved(), saved(*state));
}

}  // namespace
}  // namespace rehyat
