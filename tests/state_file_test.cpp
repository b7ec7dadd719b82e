// Saved states: what is restored goes on to the bit, anywhere.

#include "rehyat/io/state_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <vector>

#include "rehyat/packed_weights.hpp"
#include "support/allocation_counter.hpp"
#include "support/clip_stream.hpp"
#include "support/compare.hpp"
#include "support/element_tensor.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/state_files.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::as_file;
using support::bit_equal;
using support::ClipStream;
using support::Features;
using support::Geometry;
using support::OwnedState;
using support::Random;
using support::same_bytes;
using support::saved;
using support::saved_entry;
using support::TestClip;
using support::Written;

constexpr RecurrentSchedule schedules[] = {RecurrentSchedule::hybrid, RecurrentSchedule::linear};

/// The batch entries of a chunk in reverse order.
RecurrentChunk reversed(RecurrentChunk chunk, std::vector<std::int64_t>& frames) {
  const auto reverse = [](auto& view) {
    if (view.data == nullptr) return;
    view.data = view.row(view.batch - 1, 0, 0);
    view.batch_stride = -view.batch_stride;
  };
  reverse(chunk.q), reverse(chunk.k), reverse(chunk.v), reverse(chunk.out);
  reverse(chunk.given.q), reverse(chunk.given.k);
  reverse(chunk.given.q_denominator), reverse(chunk.given.k_denominator);
  reverse(chunk.statistics.row_max), reverse(chunk.statistics.row_sum);
  reverse(chunk.statistics.linear_denominator);
  frames.assign(chunk.frames.rbegin(), chunk.frames.rend());
  chunk.frames = frames;
  return chunk;
}

/// A clip, and a state that stopped somewhere in it.
class StateFileTest : public support::IsaTest {
 protected:
  OwnedState new_state(const RecurrentConfig& config) const { return OwnedState(config, 1, kernels()); }

  Written nothing_written(const Geometry& g) const {
    return Written(g.batch, g.tokens(), g.heads(), g.value_dim);
  }

  void step(OwnedState& state, const RecurrentChunk& chunk) {
    const Status status = state.step(chunk, serial);
    EXPECT_TRUE(status.ok()) << status.message();
  }

  /// A state that is full of something else.
  OwnedState used_state(const TestClip& clip, const RecurrentConfig& config) {
    OwnedState state = new_state(config);
    Written unused = nothing_written(clip.geometry);
    ClipStream chunks(clip, unused);
    for (std::int64_t t = 0; t < chunks.chunks() && config.batch == clip.geometry.batch; ++t) {
      step(state, chunks.chunk(t));
    }
    return state;
  }

  /// Stops before chunk `cut`, goes on in every way there is, and compares with the run that does not stop.
  void expect_that_it_goes_on(const TestClip& clip, const RecurrentConfig& config, std::int64_t cut) {
    const Geometry& g = clip.geometry;
    SCOPED_TRACE(testing::Message() << "cut before chunk " << cut << " of " << g.chunks());
    OwnedState state = new_state(config);
    Written before = nothing_written(g), expected = before;
    ClipStream chunks_before(clip, before), chunks(clip, expected);
    for (std::int64_t t = 0; t < cut; ++t) step(state, chunks_before.chunk(t));
    const std::string file = saved(*state);
    std::vector<std::string> entries;
    for (std::int64_t b = 0; b < g.batch; ++b) entries.push_back(saved_entry(*state, b));
    const std::vector<double> memory = state.memory();
    for (std::int64_t t = cut; t < g.chunks(); ++t) step(state, chunks.chunk(t));

    OwnedState restored = used_state(clip, config);
    ASSERT_TRUE(restore_state(*restored, as_file(file)).ok());
    EXPECT_TRUE(same_bytes(restored.memory(), memory));
    EXPECT_EQ(saved(*restored), file);
    Written written = nothing_written(g);
    ClipStream again(clip, written);
    for (std::int64_t t = cut; t < g.chunks(); ++t) step(restored, again.chunk(t));
    EXPECT_TRUE(bit_equal(written, expected));
    EXPECT_TRUE(same_bytes(restored.memory(), state.memory()));

    expect_that_entries_go_on_in_other_slots(clip, config, cut, file, expected);
    expect_that_entries_go_on_alone(clip, config, cut, entries, expected);
  }

  void expect_that_entries_go_on_in_other_slots(const TestClip& clip, const RecurrentConfig& config,
                                                std::int64_t cut, const std::string& file,
                                                const Written& expected) {
    const std::int64_t batch = config.batch;
    OwnedState moved = used_state(clip, config);
    for (std::int64_t b = 0; b < batch; ++b) {
      ASSERT_TRUE(restore_entry(*moved, batch - 1 - b, as_file(file), b).ok());
    }
    Written written = nothing_written(clip.geometry);
    ClipStream chunks(clip, written);
    std::vector<std::int64_t> frames;
    for (std::int64_t t = cut; t < chunks.chunks(); ++t) step(moved, reversed(chunks.chunk(t), frames));
    EXPECT_TRUE(bit_equal(written, expected));
  }

  void expect_that_entries_go_on_alone(const TestClip& clip, RecurrentConfig config, std::int64_t cut,
                                       const std::vector<std::string>& entries, Written expected) {
    config.batch = 1;
    Written written = nothing_written(clip.geometry);
    ClipStream chunks(clip, written);
    for (std::int64_t b = 0; b < clip.geometry.batch; ++b) {
      const std::string& file = entries[static_cast<std::size_t>(b)];
      OwnedState alone = new_state(config);
      ASSERT_TRUE(restore_state(*alone, as_file(file)).ok());
      EXPECT_EQ(saved(*alone), file);
      for (std::int64_t t = cut; t < chunks.chunks(); ++t) {
        step(alone, support::entry_of(chunks.chunk(t), b));
      }
    }
    written.report = expected.report;  // that of one entry
    EXPECT_TRUE(bit_equal(written, expected));
  }

  SerialExecutor serial;
};

TEST_P(StateFileTest, WhatIsRestoredGoesOnToTheBit) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    for (const auto schedule : schedules) {
      RecurrentConfig config = clip.recurrent(schedule);
      config.tail_type = support::random_element(random);
      expect_that_it_goes_on(clip, config, random.integer(0, clip.geometry.chunks()));
    }
  }
}

/// Cut before every chunk, and after the last, in clips that have what random ones may lack.
TEST_P(StateFileTest, EveryCutOfTheCornerCases) {
  Random random(2);
  const Geometry plain{.batch = 2, .frames = 5, .tokens_per_frame = 2, .chunk_frames = 2, .heads_per_kv = 2};
  Geometry without_overlap = plain, long_overlap = plain, longer_than_the_clip = plain, whole = plain;
  without_overlap.overlap_frames = 0;
  long_overlap.overlap_frames = 3;
  longer_than_the_clip.overlap_frames = 9;
  whole.frames = 6, whole.kv_heads = 2, whole.dim = 5, whole.value_dim = 33;
  for (const Geometry& geometry : {plain, without_overlap, long_overlap, longer_than_the_clip, whole}) {
    for (const Features features : {Features::polynomial, Features::given_separate}) {
      TestClip clip(random, geometry, features);
      clip.frames = {geometry.frames, 3};  // the second entry is finished before the first
      for (const auto schedule : schedules) {
        for (std::int64_t cut = 0; cut <= geometry.chunks(); ++cut) {
          expect_that_it_goes_on(clip, clip.recurrent(schedule), cut);
        }
      }
    }
  }
}

/// NaN and infinity come back as they were, payloads included.
TEST_P(StateFileTest, KeepsWhatIsNotFinite) {
  Random random(3);
  TestClip clip(random, {.overlap_frames = 3}, Features::relu);
  const float values[] = {std::bit_cast<float>(0x7fa5c3e1u), std::bit_cast<float>(0xffc12345u),
                          std::numeric_limits<float>::infinity(), -0.0f, 1e-42f};
  std::copy(std::begin(values), std::end(values), clip.k.begin() + 3);
  std::copy(std::begin(values), std::end(values), clip.v.begin() + 11);
  for (const auto schedule : schedules) {
    for (std::int64_t cut = 0; cut <= 2; ++cut) {
      const RecurrentConfig config = clip.recurrent(schedule);
      OwnedState state = new_state(config), restored = new_state(config);
      Written unused = nothing_written(clip.geometry);
      ClipStream chunks(clip, unused);
      for (std::int64_t t = 0; t < cut; ++t) step(state, chunks.chunk(t));
      const std::string file = saved(*state);
      ASSERT_TRUE(restore_state(*restored, as_file(file)).ok());
      EXPECT_EQ(saved(*restored), file);
    }
  }
}

TEST_P(StateFileTest, GoesOnUnderAnotherInstructionSet) {
  Random random(4);
  const TestClip clip(random, {.batch = 2, .frames = 7, .overlap_frames = 3, .heads_per_kv = 2},
                      Features::given);
  for (const auto schedule : schedules) {
    const RecurrentConfig config = clip.recurrent(schedule);
    OwnedState state = new_state(config), scalar(config, 1, **find_kernels("scalar"));
    Written written = nothing_written(clip.geometry);
    ClipStream chunks(clip, written);
    OwnedState uninterrupted = new_state(config);
    const Written expected = support::stream(clip, uninterrupted, serial);
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      OwnedState &now = t % 2 == 0 ? state : scalar, &next = t % 2 == 0 ? scalar : state;
      step(now, chunks.chunk(t));
      ASSERT_TRUE(restore_state(*next, as_file(saved(*now))).ok());
    }
    EXPECT_LE(support::relative_error(written.out, expected.out), 1e-5);
  }
}

TEST_P(StateFileTest, AllocatesNothing) {
  if (!support::AllocationCounter::works()) GTEST_SKIP() << "malloc cannot be replaced in this build";
  Random random(5);
  const TestClip clip(random, {.batch = 2, .overlap_frames = 3}, Features::polynomial);
  OwnedState state = used_state(clip, clip.recurrent(RecurrentSchedule::hybrid));
  std::string file = saved(*state), entry = saved_entry(*state, 1), damaged = file;
  damaged.back() = static_cast<char>(damaged.back() + 1);
  support::AllocationCounter counter;
  const bool refused = !restore_state(*state, as_file(damaged)).ok() &&
                       !restore_state(*state, as_file(entry)).ok() &&
                       !save_state(*state, std::span<std::byte>()).ok();
  const bool done = save_state(*state, std::as_writable_bytes(std::span(file))).ok() &&
                    restore_state(*state, as_file(file)).ok() &&
                    save_entry(*state, 1, std::as_writable_bytes(std::span(entry))).ok() &&
                    restore_entry(*state, 0, as_file(entry)).ok();
  EXPECT_EQ(counter.stop(), 0);
  EXPECT_TRUE(refused && done);
}

REHYAT_TEST_ALL_ISAS(StateFileTest);

TEST(StateFile, DoesNotDependOnHowWeightsArePacked) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry geometry = Geometry::random(random);
    geometry.dim = random.pick<std::int64_t>({geometry.dim, 64, 65, 130});
    const TestClip clip(random, geometry, Features::polynomial);
    RecurrentConfig config = clip.recurrent(RecurrentSchedule::hybrid);
    OwnedState rows(config, 1, default_kernels());
    std::vector<char> memory[2];
    const auto pack = [&](FeatureMap& map, std::vector<char>& bytes) {
      bytes.resize(*packed_weights_size(map, config.head_dim));
      map = *pack_weights(map, config.head_dim, {bytes.data(), bytes.size()});
    };
    pack(config.phi_q, memory[0]), pack(config.phi_k, memory[1]);
    OwnedState panels(config, 1, default_kernels());
    EXPECT_EQ(saved(*rows), saved(*panels));
    EXPECT_TRUE(restore_state(*panels, as_file(saved(*rows))).ok());
  }
}

TEST(StateFile, TheChecksumIsCrc64) {
  const auto crc = [](std::string_view text, std::size_t cut) {
    detail::Crc64 crc64;
    crc64.add(as_file(text.substr(0, cut)));
    crc64.add(as_file(text.substr(cut)));
    return crc64.value();
  };
  EXPECT_EQ(crc("123456789", 0), 0x995DC9BBDF1939FA);
  const std::string text = "any text in any two pieces, longer than a word or two";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(crc(text, cut), support::plain_crc64(text)) << cut;
  }
}

}  // namespace
}  // namespace rehyat
