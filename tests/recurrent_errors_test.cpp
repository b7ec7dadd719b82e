// Every wrong configuration, chunk and entry of a recurrence is refused with its message; outputs and state
// stay.

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "support/clip_stream.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::OwnedState;
using support::Random;
using support::TestClip;
using support::Written;

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();

constexpr Geometry geometry{
    .batch = 2, .frames = 4, .tokens_per_frame = 3, .heads_per_kv = 2, .dim = 6, .value_dim = 5};

class RecurrentErrorsTest : public testing::Test {
 protected:
  /// Refused by every function that takes a configuration.
  template <class F>
  void refuse_config(const std::string& message, F spoil) {
    RecurrentConfig bad = clip_.recurrent(RecurrentSchedule::hybrid);
    spoil(bad);
    const auto expect = [&](const Status& status) {
      EXPECT_EQ(status.message(), message);
      EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    };
    std::vector<double> memory(1 << 16, 1.5);
    expect(RecurrentState::size_bytes(bad).status());
    expect(RecurrentState::workspace_size(bad, 1).status());
    expect(RecurrentState::create(bad, memory.data(), memory.size() * 8).status());
    EXPECT_EQ(memory, std::vector<double>(1 << 16, 1.5));
  }

  /// Refused by step, and by peek and commit where they read what is wrong; neither writes anything.
  template <class F>
  void refuse_chunk(const TestClip& clip, const std::string& message, F spoil, bool by_commit = false) {
    OwnedState state(clip.recurrent(RecurrentSchedule::hybrid), 1, default_kernels());
    Written written(2, 12, 2, 5);
    support::ClipStream chunks(clip, written);
    SerialExecutor serial;
    ASSERT_TRUE(state.step(chunks.chunk(0), serial).ok());
    const Written before = written;
    const std::vector<double> memory = state.memory();
    RecurrentChunk bad = chunks.chunk(1);
    spoil(bad);
    EXPECT_EQ(state.step(bad, serial).message(), message);
    EXPECT_EQ(state.peek(bad, serial).message(), message);
    if (by_commit) {
      EXPECT_EQ(state.commit(bad, serial).message(), message);
    }
    EXPECT_EQ(memory, state.memory());
    EXPECT_TRUE(support::bit_equal(before, written));
    if (!by_commit) {
      const Status status = state.commit(bad, serial);
      EXPECT_TRUE(status.ok()) << "commit reads keys and values only: " << status.message();
    }
  }

  Random random_{1};
  TestClip clip_{random_, geometry, Features::elu1};
  TestClip given_{random_, geometry, Features::given};
  TestClip separate_{random_, geometry, Features::given_separate};
};

TEST_F(RecurrentErrorsTest, Configurations) {
  refuse_config("config.batch is 0, expected at least 1", [](auto& c) { c.batch = 0; });
  refuse_config("config.heads is -1, expected at least 1", [](auto& c) { c.heads = -1; });
  refuse_config("config.kv_heads is 0, expected at least 1", [](auto& c) { c.kv_heads = 0; });
  refuse_config("config.kv_heads is 3, expected a divisor of config.heads (2)",
                [](auto& c) { c.kv_heads = 3; });
  refuse_config("config.head_dim is 0, expected 1 to 512", [](auto& c) { c.head_dim = 0; });
  refuse_config("config.value_dim is 513, expected 1 to 512", [](auto& c) { c.value_dim = 513; });
  refuse_config("chunking.tokens_per_frame is 0, expected at least 1",
                [](auto& c) { c.chunking.tokens_per_frame = 0; });
  refuse_config("chunking.chunk_frames is 0, expected at least 1",
                [](auto& c) { c.chunking.chunk_frames = 0; });
  refuse_config("chunking.overlap_frames is -1, expected at least 0",
                [](auto& c) { c.chunking.overlap_frames = -1; });
  refuse_config("chunking.overlap_frames is 1, expected 0 for linear attention",
                [](auto& c) { c.schedule = RecurrentSchedule::linear; });
  refuse_config("phi_q is unset, expected a feature map (linear keys need one)",
                [](auto& c) { c.phi_q = {}; });
  refuse_config("phi_k.feature_dim is 7, expected that of phi_q (6)",
                [](auto& c) { c.phi_q = FeatureMap::given(6), c.phi_k = FeatureMap::given(7); });
  refuse_config("separate_denominator is 1, expected 0 unless the features are given",
                [](auto& c) { c.separate_denominator = true; });
  refuse_config("scale is inf, expected a finite number",
                [](auto& c) { c.scale = std::numeric_limits<float>::infinity(); });
  refuse_config("denominator_epsilon is 1, expected 0 with Stabilizer::none",
                [](auto& c) { c.stabilizer = Stabilizer::none, c.denominator_epsilon = 1; });
}

TEST_F(RecurrentErrorsTest, SizesThatOverflow) {
  const auto overlap = [&](std::int64_t frames) {
    refuse_config("chunking.overlap_frames is " + std::to_string(frames) +
                      ", expected a state whose size does not overflow",
                  [&](auto& c) { c.chunking.overlap_frames = frames; });
  };
  for (const std::int64_t frames : {huge, huge / 3, huge / 200}) overlap(frames);
  const auto chunk = [&](const std::string& shape, const auto& spoil) {
    refuse_config("a chunk's q is " + shape + ", expected sizes whose product does not overflow", spoil);
  };
  const std::string most = std::to_string(huge);
  chunk(most + " x 2 * 3 x 2 x 6", [](auto& c) { c.batch = huge; });
  chunk("2 x 2 * 3 x " + most + " x 6", [](auto& c) { c.heads = huge, c.kv_heads = 1; });
  chunk("2 x " + most + " * 3 x 2 x 6", [](auto& c) { c.chunking.chunk_frames = huge; });
  chunk("2 x 2 * " + most + " x 2 x 6", [](auto& c) { c.chunking.tokens_per_frame = huge; });
}

/// A chunk of 2^57 - 1 elements and a tensor of the tail of fewer than 2^59 - 1 are accepted, and no more.
TEST_F(RecurrentErrorsTest, LargestSizes) {
  constexpr std::int64_t chunk = (std::int64_t{1} << 57) - 1, tail = (std::int64_t{1} << 59) - 1;
  RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  config.batch = config.heads = config.kv_heads = config.head_dim = config.value_dim = 1;
  const auto accepted = [&](std::int64_t chunk_frames, std::int64_t overlap_frames) {
    config.chunking = {.tokens_per_frame = 1, .chunk_frames = chunk_frames, .overlap_frames = overlap_frames};
    return RecurrentState::size_bytes(config).ok();
  };
  EXPECT_TRUE(accepted(chunk, 1));
  EXPECT_FALSE(accepted(chunk + 1, 1));
  EXPECT_TRUE(accepted(1, tail - 1));
  EXPECT_FALSE(accepted(1, tail));
  for (std::int64_t* wider : {&config.head_dim, &config.value_dim}) {  // q's elements count, and out's
    *wider = 2;
    EXPECT_TRUE(accepted(chunk / 2, 1));
    EXPECT_FALSE(accepted(chunk / 2 + 1, 1));
    *wider = 1;
  }
}

/// More query heads than memory holds: the state, which has none of them, could do with it.
TEST_F(RecurrentErrorsTest, WorkspaceOfManyHeads) {
  RecurrentConfig config = clip_.recurrent(RecurrentSchedule::linear);
  config.batch = config.kv_heads = config.head_dim = config.value_dim = 1;
  config.chunking = {.tokens_per_frame = 19 * 32, .chunk_frames = 1, .overlap_frames = 0};
  config.heads = huge / 64 / (19 * 32);
  EXPECT_TRUE(RecurrentState::workspace_size(config, 1).ok());
  config.heads = huge / 8;
  EXPECT_FALSE(RecurrentState::workspace_size(config, 1).ok());
}

/// The sums of a chunk, in the workspace, are more than a state that still has a size.
TEST_F(RecurrentErrorsTest, WorkspacesThatOverflow) {
  RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  config.batch = huge / 800;
  config.heads = config.kv_heads = config.head_dim = config.value_dim = 1;
  EXPECT_TRUE(RecurrentState::size_bytes(config).ok());
  EXPECT_STREQ(RecurrentState::workspace_size(config, 3).status().message(),
               "slots is 3, expected a workspace whose size does not overflow");
}

TEST_F(RecurrentErrorsTest, StateMemory) {
  const RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  const std::size_t size = *RecurrentState::size_bytes(config);
  std::vector<double> memory(size / 8 + 1);
  const auto message = [&](void* data, std::size_t bytes) {
    return std::string(RecurrentState::create(config, data, bytes).status().message());
  };
  EXPECT_EQ(message(nullptr, size), "data is null, expected memory");
  EXPECT_EQ(message(memory.data(), size - 1),
            "size is " + std::to_string(size - 1) + ", expected at least " + std::to_string(size) + " bytes");
  EXPECT_EQ(message(reinterpret_cast<char*>(memory.data()) + 4, size), "data modulo 8 is 4, expected 0");
  EXPECT_EQ(message(memory.data(), size), "");
  EXPECT_STREQ(RecurrentState::workspace_size(config, 0).status().message(),
               "slots is 0, expected at least 1");
}

TEST_F(RecurrentErrorsTest, Chunks) {
  refuse_chunk(
      clip_, "k.tokens is -1, expected at least 0", [](auto& c) { c.k.tokens = -1; }, true);
  refuse_chunk(
      clip_, "k.tokens is 5, expected 0 to 2 whole frames of 3 tokens", [](auto& c) { c.k.tokens = 5; },
      true);
  refuse_chunk(
      clip_, "k.tokens is 9, expected 0 to 2 whole frames of 3 tokens", [](auto& c) { c.k.tokens = 9; },
      true);
  refuse_chunk(
      clip_, "k.batch is 1, expected 2", [](auto& c) { c.k.batch = 1; }, true);
  refuse_chunk(
      clip_, "k.dim is 5, expected 6", [](auto& c) { c.k.dim = 5; }, true);
  refuse_chunk(
      clip_, "k.heads is 2, expected 1", [](auto& c) { c.k.heads = 2; }, true);
  refuse_chunk(
      clip_, "k.data is null, expected memory", [](auto& c) { c.k.data = nullptr; }, true);
  refuse_chunk(
      clip_, "v.tokens is 3, expected 6", [](auto& c) { c.v.tokens = 3; }, true);
  refuse_chunk(
      clip_, "v.data is null, expected memory", [](auto& c) { c.v.data = nullptr; }, true);
  refuse_chunk(clip_, "q.data is null, expected memory", [](auto& c) { c.q.data = nullptr; });
  refuse_chunk(clip_, "q.tokens is 3, expected 6", [](auto& c) { c.q.tokens = 3; });
  refuse_chunk(clip_, "q.heads is 1, expected 2", [](auto& c) { c.q.heads = 1; });
  refuse_chunk(clip_, "out.data is null, expected memory", [](auto& c) { c.out.data = nullptr; });
  refuse_chunk(clip_, "out.dim is 6, expected 5", [](auto& c) { c.out.dim = 6; });
  refuse_chunk(clip_, "out strides are 120, 10, 0, expected ones that give every element its own address",
               [](auto& c) { c.out.head_stride = 0; });
  refuse_chunk(clip_, "statistics.row_sum.dim is 2, expected 1",
               [](auto& c) { c.statistics.row_sum.dim = 2; });
  const std::int64_t three[] = {1, 1, 1}, many[] = {1, 3}, negative[] = {-1, 1};
  refuse_chunk(
      clip_, "frames.size() is 3, expected q.batch (2) or none", [&](auto& c) { c.frames = three; }, true);
  refuse_chunk(
      clip_, "frames[1] is 3, expected 0 to 2", [&](auto& c) { c.frames = many; }, true);
  refuse_chunk(
      clip_, "frames[0] is -1, expected 0 to 2", [&](auto& c) { c.frames = negative; }, true);
}

TEST_F(RecurrentErrorsTest, GivenFeaturesOfChunks) {
  refuse_chunk(
      given_, "given.k.data is null, expected memory", [](auto& c) { c.given.k.data = nullptr; }, true);
  refuse_chunk(
      given_, "given.k.dim is 4, expected 5", [](auto& c) { c.given.k.dim = 4; }, true);
  refuse_chunk(given_, "given.q.data is null, expected memory", [](auto& c) { c.given.q.data = nullptr; });
  refuse_chunk(given_, "given.k_denominator (its counterpart is set) is null, expected memory",
               [](auto& c) { c.given.q_denominator = c.given.q; });
  const std::string both = ", expected to be there if and only if config.separate_denominator";
  refuse_chunk(
      given_, "given.k_denominator (0: null) is 1" + both,
      [](auto& c) { c.given.q_denominator = c.given.q, c.given.k_denominator = c.given.k; }, true);
  refuse_chunk(
      separate_, "given.k_denominator (0: null) is 0" + both,
      [](auto& c) { c.given.q_denominator = c.given.k_denominator = {}; }, true);
  refuse_chunk(separate_, "given.q_denominator (its counterpart is set) is null, expected memory",
               [](auto& c) { c.given.q_denominator = {}; });
}

TEST_F(RecurrentErrorsTest, Workspace) {
  const RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  std::vector<double> memory(*RecurrentState::size_bytes(config) / 8);
  const std::size_t needed = *RecurrentState::workspace_size(config, 1);
  std::vector<char> workspace(needed);
  RecurrentState state = *RecurrentState::create(config, memory.data(), memory.size() * 8);
  const std::vector<double> before = memory;
  Written written(2, 12, 2, 5);
  support::ClipStream chunks(clip_, written);
  SerialExecutor serial;
  const Status small = state.step(chunks.chunk(0), {workspace.data(), needed - 1}, serial);
  EXPECT_EQ(small.code(), StatusCode::workspace_too_small);
  EXPECT_EQ(small.message(), "workspace.size is " + std::to_string(needed - 1) + ", expected at least " +
                                 std::to_string(needed) + " bytes for 1 slots");
  EXPECT_STREQ(state.commit(chunks.chunk(0), {nullptr, needed}, serial).message(),
               "workspace.data is null, expected memory");
  EXPECT_EQ(memory, before);
  EXPECT_EQ(written.out.front(), support::untouched);
}

TEST_F(RecurrentErrorsTest, EntriesAndCopies) {
  RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  OwnedState state(config, 1, default_kernels());
  EXPECT_STREQ(state->reset(2).message(), "batch_entry is 2, expected 0 to config.batch - 1");
  EXPECT_STREQ(state->reset(-1).message(), "batch_entry is -1, expected 0 to config.batch - 1");
  EXPECT_STREQ(state->copy_entry(2, *state, 0).message(), "to is 2, expected 0 to config.batch - 1");
  EXPECT_STREQ(state->copy_entry(-1, *state, 0).message(), "to is -1, expected 0 to config.batch - 1");
  EXPECT_STREQ(state->copy_entry(0, *state, 2).message(), "from is 2, expected 0 to other.config.batch - 1");
  EXPECT_TRUE(state->copy_entry(0, *state, 0).ok());
  const auto refuse = [&](auto spoil, const char* message) {
    RecurrentConfig other_config = config;
    spoil(other_config);
    OwnedState other(other_config, 1, default_kernels());
    EXPECT_STREQ(state->copy_from(*other).message(), message);
  };
  const char* geometry_differs = "other has a different geometry, expected this state's";
  refuse([](auto& c) { c.batch = 3; }, "other.config.batch is 3, expected this state's batch");
  refuse([](auto& c) { c.kv_heads = 2; }, geometry_differs);
  refuse([](auto& c) { c.head_dim = 7; }, geometry_differs);
  refuse([](auto& c) { c.value_dim = 6; }, geometry_differs);
  refuse([](auto& c) { c.phi_q = c.phi_k = FeatureMap::given(6); }, geometry_differs);
  refuse([](auto& c) { c.chunking.chunk_frames = 3; }, geometry_differs);
  refuse([](auto& c) { c.chunking.overlap_frames = 2; }, geometry_differs);
  refuse([](auto& c) { c.chunking.tokens_per_frame = 4; }, geometry_differs);
  refuse([](auto& c) { c.schedule = RecurrentSchedule::linear, c.chunking.overlap_frames = 0; },
         geometry_differs);
}

}  // namespace
}  // namespace rehyat
