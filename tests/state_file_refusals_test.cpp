// What is no file of this state is refused with the reason, and leaves the state as it was.

#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "rehyat/io/state_file.hpp"
#include "support/clip_stream.hpp"
#include "support/files.hpp"
#include "support/random.hpp"
#include "support/state_files.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::as_file;
using support::forged;
using support::OwnedState;
using support::Random;
using support::saved;
using support::TestClip;

// Places in the file, as the format's description has them; of entries, in that of one kv head with
// head_dim = value_dim = F = 2 and one frame of overlap.
constexpr std::size_t version_at = 12, length_at = 16, entries_at = 24, first_entry = 144, entry_size = 80;
constexpr std::size_t frames_seen_at = first_entry, finished_at = first_entry + 8;
constexpr std::size_t tail_at = first_entry + 16 + 2 * (2 * 2 + 2) * 4;

std::string hex(std::uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, number);
  return text;
}

/// Two batch entries, of which the second is finished, in a file of 312 bytes.
class StateFileRefusals : public testing::Test {
 protected:
  StateFileRefusals() : clip_(small_clip()), state_(config(), 1, default_kernels()) {
    support::stream(clip_, state_, serial_);
    file_ = saved(*state_);
    EXPECT_EQ(file_.size(), first_entry + 2 * entry_size + 8);
    EXPECT_EQ(state_->frames_seen(0), 4);
    EXPECT_EQ(state_->frames_seen(1), 3);
    EXPECT_TRUE(state_->finished(1));
  }

  static TestClip small_clip() {
    Random random(1);
    TestClip clip(random, {.batch = 2, .tokens_per_frame = 1, .heads_per_kv = 2, .dim = 2, .value_dim = 2},
                  support::Features::elu1);
    clip.frames = {4, 3};
    return clip;
  }
  RecurrentConfig config() const { return clip_.recurrent(RecurrentSchedule::hybrid); }

  /// `restore(state)` refuses with a line that has all `words`, and the state keeps its bytes.
  template <class Restore>
  static void expect_refusal(OwnedState& state, StatusCode code, const std::vector<std::string>& words,
                             Restore restore) {
    const std::vector<double> before = state.memory();
    const Status status = restore(*state);
    for (const std::string& word : words) test::expect_refused(status, code, "", word);
    EXPECT_TRUE(support::same_bytes(state.memory(), before));
  }

  void expect_refused(const std::string& file, const std::vector<std::string>& words) {
    test::parse_exact(file, [&](std::span<const std::byte> bytes) {
      expect_refusal(state_, StatusCode::invalid_file, words,
                     [&](RecurrentState& state) { return restore_state(state, bytes); });
      expect_refusal(state_, StatusCode::invalid_file, words,
                     [&](RecurrentState& state) { return restore_entry(state, 1, bytes, 0); });
    });
  }

  /// A file of `saved_config` in a state of `other_config`.
  static void expect_mismatch(const RecurrentConfig& saved_config, const RecurrentConfig& other_config,
                              const std::vector<std::string>& words) {
    OwnedState from(saved_config, 1, default_kernels()), to(other_config, 1, default_kernels());
    const std::string file = saved(*from);
    expect_refusal(to, StatusCode::invalid_file, words,
                   [&](RecurrentState& state) { return restore_state(state, as_file(file)); });
    const std::string own = saved(*to);
    EXPECT_TRUE(restore_state(*to, as_file(own)).ok());
  }

  TestClip clip_;
  SerialExecutor serial_;
  OwnedState state_;
  std::string file_;
};

TEST_F(StateFileRefusals, EveryTruncation) {
  test::for_each_truncation(
      file_, [&](const std::string& part) { expect_refused(part, {part.size() < 8 ? "" : "truncated"}); });
}

TEST_F(StateFileRefusals, EveryFlippedBit) {
  int damaged = 0;
  test::for_each_flip(file_, [&](const std::string& flipped) {
    const std::vector<double> before = state_.memory();
    const Status status = restore_state(*state_, as_file(flipped));
    ASSERT_EQ(status.code(), StatusCode::invalid_file);
    ASSERT_TRUE(support::same_bytes(state_.memory(), before));
    damaged += std::string_view(status.message()).starts_with("checksum is ");
  });
  EXPECT_EQ(damaged, 9 * static_cast<int>(file_.size() - 24)) << "all but magic, mark, version and length";
}

/// The checksum of a file notices what it has to: here, every burst of up to 64 bits with random contents.
TEST_F(StateFileRefusals, Bursts) {
  for (const std::uint64_t seed : support::seeds(200)) {
    Random random(seed);
    std::string burst = file_;
    const std::size_t first = static_cast<std::size_t>(random.integer(0, 8 * (std::ssize(file_) - 8)));
    for (std::size_t bit = first; bit < first + 64; ++bit) {
      if (bit == first || random.coin()) burst[bit / 8] = static_cast<char>(burst[bit / 8] ^ 1 << bit % 8);
    }
    ASSERT_FALSE(restore_state(*state_, as_file(burst)).ok()) << support::replay(seed);
  }
}

TEST_F(StateFileRefusals, TrailingBytes) {
  for (const std::size_t more : {1u, 8u, 80u, 312u}) {
    expect_refused(file_ + std::string(more, '\0'), {"size is " + std::to_string(312 + more) + " bytes",
                                                     "expected the 312", "trailing bytes"});
  }
  expect_refused(file_ + file_, {"trailing bytes"});
}

TEST_F(StateFileRefusals, OtherFiles) {
  expect_refused("", {"magic is ''", "expected '89 72 65 68 79 61 74 0a'"});
  expect_refused(std::string(400, 'x'), {"magic is '78 78 78 78 78 78 78 78'"});
  expect_refused(std::string("\x93NUMPY\x01\x00", 8) + std::string(300, ' '), {"magic", "no state file"});
  expect_refused(forged(file_, 8, 0x04030201u), {"byte order mark is 0x04030201, expected 0x01020304"});
  expect_refused(forged(file_, version_at, 2u), {"format version is 2, expected 1 to 1", "newer release"});
  expect_refused(forged(file_, version_at, 0u), {"format version is 0, expected 1 to 1"});
}

/// Sizes that lie, with a right checksum.
TEST_F(StateFileRefusals, ForgedSizes) {
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{311}, std::uint64_t{313}, ~std::uint64_t{0}}) {
    expect_refused(forged(file_, length_at, length),
                   {"size is 312 bytes", "expected the " + std::to_string(length)});
  }
  for (const std::int64_t entries : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
    expect_refused(forged(file_, entries_at, entries),
                   {"entries is " + std::to_string(entries), "at least 1"});
  }
  for (const std::int64_t entries : {1, 3, 1 << 30}) {
    expect_refused(forged(file_, entries_at, entries),
                   {"size is 312 bytes", "for " + std::to_string(entries)});
  }
  // 80 bytes each: 2^60 times 80 is 2^64 * 5, which would wrap to nothing
  for (const std::int64_t entries : {std::int64_t{1} << 60, (std::int64_t{1} << 60) + 2, INT64_MAX}) {
    expect_refused(forged(file_, entries_at, entries), {"entries is " + std::to_string(entries), "overflow"});
  }
}

/// Every number of the description, where it says, with a right checksum.
TEST_F(StateFileRefusals, ForgedFields) {
  const auto expect = [&](std::size_t offset, auto value, const char* name, const char* found,
                          const char* expected) {
    SCOPED_TRACE(name);
    expect_refused(forged(file_, offset, value),
                   {name, std::string(" is ") + found + ", expected " + expected + " as the state has"});
  };
  expect(32, 1u, "tail_type", "1", "0");
  expect(32, 7u, "tail_type", "7", "0");
  expect(36, 1u, "schedule", "1", "0");
  expect(40, std::int64_t{3}, "heads", "3", "2");
  expect(48, std::int64_t{INT64_MAX}, "kv_heads", "9223372036854775807", "1");
  expect(56, std::int64_t{-2}, "head_dim", "-2", "2");
  expect(64, std::int64_t{1}, "value_dim", "1", "2");
  expect(72, std::int64_t{4}, "feature_dim", "4", "2");
  expect(80, std::int64_t{2}, "tokens_per_frame", "2", "1");
  expect(88, std::int64_t{0}, "chunk_frames", "0", "2");
  expect(96, std::int64_t{2}, "overlap_frames", "2", "1");
  expect(104, 1u, "separate_denominator", "1", "0");
  expect(108, 1u, "stabilizer", "1", "0");
  expect(112, 0.5, "scale", "0.5", "0.70710678118654746");
  expect(120, 0.5f, "denominator_epsilon", "0.5", "0");
  expect(124, -0.0f, "denominator_floor", "-0", "0");
  const std::vector<std::int64_t> elementwise_elu1{1, 5};
  const std::string hash = hex(support::plain_crc64(test::bytes_of(elementwise_elu1)));
  expect(128, std::uint64_t{0x123}, "hash of phi_q", "0000000000000123", hash.c_str());
  expect(136, ~std::uint64_t{0}, "hash of phi_k", "ffffffffffffffff", hash.c_str());
}

/// What no run leads to, with a right checksum.
TEST_F(StateFileRefusals, ForgedEntries) {
  for (const std::int64_t frames : {std::int64_t{-1}, INT64_MIN, INT64_MAX, (std::int64_t{1} << 62) + 2}) {
    expect_refused(forged(file_, frames_seen_at, frames),
                   {"frames_seen of entry 0 is " + std::to_string(frames), "expected 0 to "});
  }
  expect_refused(forged(file_, frames_seen_at, std::int64_t{3}),
                 {"finished of entry 0 is 0, expected 1 after 3 frames in chunks of 2"});
  expect_refused(forged(file_, finished_at, std::int64_t{1}),
                 {"finished of entry 0 is 1, expected 0 after 4"});
  expect_refused(forged(file_, finished_at + entry_size, std::int64_t{0}), {"finished of entry 1 is 0"});
  expect_refused(forged(file_, finished_at + entry_size, std::int64_t{2}), {"finished of entry 1 is 2"});
  expect_refused(forged(file_, frames_seen_at, std::int64_t{0}), {"entry 0", "tail beyond 0 frames"});

  OwnedState empty(config(), 1, default_kernels());
  for (std::size_t at = tail_at; at < first_entry + entry_size; ++at) {
    expect_refused(forged(saved(*empty), at, char{64}),
                   {"byte " + std::to_string(at - first_entry) + " of entry 0 is 64, expected 0"});
  }
  std::string far = forged(file_, frames_seen_at, std::int64_t{1} << 62);
  EXPECT_TRUE(restore_state(*empty, as_file(far)).ok());
  EXPECT_EQ(empty->frames_seen(0), std::int64_t{1} << 62);
}

TEST_F(StateFileRefusals, OtherConfigurations) {
  const RecurrentConfig base = config();
  const auto expect = [&](const std::vector<std::string>& words, auto change) {
    RecurrentConfig other = base;
    change(other);
    expect_mismatch(base, other, words);
  };
  expect({"entries is 2, expected 3"}, [](auto& c) { c.batch = 3; });
  expect({"tail_type", "is 0, expected 1"}, [](auto& c) { c.tail_type = ElementType::bfloat16; });
  expect({"tail_type", "is 0, expected 2"}, [](auto& c) { c.tail_type = ElementType::float16; });
  expect({"schedule", "is 0, expected 1"}, [](auto& c) {
    c.schedule = RecurrentSchedule::linear;
    c.chunking.overlap_frames = 0;
  });
  expect({"heads is 2, expected 4"}, [](auto& c) { c.heads = 4; });
  expect({"kv_heads is 1, expected 2"}, [](auto& c) { c.kv_heads = 2; });
  expect({"head_dim is 2, expected 3"}, [](auto& c) { c.head_dim = 3; });
  expect({"value_dim is 2, expected 1"}, [](auto& c) { c.value_dim = 1; });
  expect({"feature_dim is 2, expected 5"}, [](auto& c) { c.phi_q = c.phi_k = FeatureMap::given(5); });
  expect({"tokens_per_frame is 1, expected 2"}, [](auto& c) { c.chunking.tokens_per_frame = 2; });
  expect({"chunk_frames is 2, expected 1"}, [](auto& c) { c.chunking.chunk_frames = 1; });
  expect({"overlap_frames is 1, expected 0"}, [](auto& c) { c.chunking.overlap_frames = 0; });
  expect({"stabilizer", "is 0, expected 1"}, [](auto& c) { c.stabilizer = Stabilizer::none; });
  expect({"scale is 0.7071", "expected 0.25"}, [](auto& c) { c.scale = 0.25f; });
  expect({"denominator_epsilon is 0, expected 0.5"}, [](auto& c) { c.denominator_epsilon = 0.5f; });
  expect({"denominator_floor is 0, expected 0.100000001"}, [](auto& c) { c.denominator_floor = 0.1f; });
  expect({"hash of phi_q"}, [](auto& c) { c.phi_q = FeatureMap::relu(); });
  expect({"hash of phi_k"}, [](auto& c) { c.phi_k = FeatureMap::identity(); });
  expect({"hash of phi_q"}, [](auto& c) { c.phi_q = c.phi_k = FeatureMap::given(2); });

  RecurrentConfig given = base, separate = base;
  given.phi_q = given.phi_k = separate.phi_q = separate.phi_k = FeatureMap::given(2);
  separate.separate_denominator = true;
  expect_mismatch(given, separate, {"separate_denominator is 0, expected 1"});
  expect_mismatch(separate, given, {"separate_denominator is 1, expected 0"});

  RecurrentConfig natural = base, explicit_scale = base;  // the same number, said or not
  natural.head_dim = explicit_scale.head_dim = 4;
  explicit_scale.scale = 0.5f;
  OwnedState unsaid(natural, 1, default_kernels()), said(explicit_scale, 1, default_kernels());
  EXPECT_TRUE(restore_state(*said, as_file(saved(*unsaid))).ok());
}

TEST_F(StateFileRefusals, Arguments) {
  const auto refuse = [&](StatusCode code, const char* words, auto call) {
    expect_refusal(state_, code, {words}, call);
  };
  std::vector<std::byte> memory(312);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{311}}) {
    const std::string says = "file.size is " + std::to_string(size) + ", expected at least 312 bytes";
    refuse(StatusCode::workspace_too_small, says.c_str(),
           [&](RecurrentState& state) { return save_state(state, std::span(memory).first(size)); });
  }
  EXPECT_EQ(memory, std::vector<std::byte>(312));
  refuse(StatusCode::invalid_argument, "file.data is null, expected 232 bytes",
         [](RecurrentState& state) { return save_entry(state, 0, std::span<std::byte>()); });
  for (const std::int64_t entry : {-1, 2}) {
    const std::string number = " is " + std::to_string(entry) + ", expected 0 to ";
    refuse(StatusCode::invalid_argument, ("entry" + number + "config.batch - 1").c_str(),
           [&](RecurrentState& state) { return save_entry(state, entry, memory); });
    refuse(StatusCode::invalid_argument, ("entry" + number + "config.batch - 1").c_str(),
           [&](RecurrentState& state) { return save_entry(state, entry, "never.state"); });
    refuse(StatusCode::invalid_argument, ("to" + number + "config.batch - 1").c_str(),
           [&](RecurrentState& state) { return restore_entry(state, entry, as_file(file_)); });
    refuse(StatusCode::invalid_argument, ("from" + number + "1").c_str(),
           [&](RecurrentState& state) { return restore_entry(state, 0, as_file(file_), entry); });
  }
  const char* const nowhere = nullptr;
  refuse(StatusCode::invalid_argument, "path is null",
         [&](RecurrentState& state) { return save_state(state, nowhere); });
  refuse(StatusCode::invalid_argument, "path is null",
         [&](RecurrentState& state) { return restore_state(state, nowhere); });
}

}  // namespace
}  // namespace rehyat
