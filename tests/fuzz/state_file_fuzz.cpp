// Restoring a state from any bytes: it is refused and the state stays as it is, or the state goes on and
// saves as the bytes that it came from.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "byte_reader.hpp"
#include "rehyat/io/state_file.hpp"
#include "rehyat/rehyat.hpp"
#include "strided_memory.hpp"
#include "support/clip_stream.hpp"
#include "support/isas.hpp"
#include "support/test_clip.hpp"

namespace rehyat::fuzz {
namespace {

using support::Features;

/// The recurrences whose states are restored: every kind of feature map, tail and schedule once.
struct Recipe {
  support::Geometry geometry;
  Features features = Features::elu1;
  RecurrentSchedule schedule = RecurrentSchedule::hybrid;
  ElementType tail_type = ElementType::float32;
};

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = {
      {.geometry = {.frames = 5, .tokens_per_frame = 1, .dim = 2, .value_dim = 3}},
      {.geometry = {.batch = 2,
                    .frames = 6,
                    .tokens_per_frame = 2,
                    .overlap_frames = 3,
                    .kv_heads = 2,
                    .dim = 3,
                    .value_dim = 2},
       .features = Features::polynomial},
      {.geometry =
           {.frames = 7, .tokens_per_frame = 2, .heads_per_kv = 2, .dim = 2, .value_dim = 2, .given_dim = 3},
       .features = Features::given_separate},
      {.geometry =
           {.batch = 3, .frames = 4, .tokens_per_frame = 1, .chunk_frames = 3, .dim = 1, .value_dim = 1},
       .features = Features::relu,
       .schedule = RecurrentSchedule::linear},
      {.geometry = {.frames = 6, .tokens_per_frame = 3, .overlap_frames = 5, .dim = 3, .value_dim = 5},
       .features = Features::given,
       .tail_type = ElementType::bfloat16},
      {.geometry = {.frames = 6, .tokens_per_frame = 1, .overlap_frames = 2, .dim = 17, .value_dim = 1},
       .tail_type = ElementType::float16},
      {.geometry = {.frames = 4,
                    .tokens_per_frame = 2,
                    .chunk_frames = 1,
                    .overlap_frames = 0,
                    .dim = 2,
                    .value_dim = 2}},
  };
  return all;
}

/// A state in memory of exactly its size, and the clip that it sees.
class Recurrence {
 public:
  explicit Recurrence(const Recipe& recipe)
      : clip_(random_, recipe.geometry, recipe.features),
        config_(config_of(clip_, recipe)),
        memory_(*RecurrentState::size_bytes(config_)),
        workspace_(*RecurrentState::workspace_size(config_, 1)),
        state_(*RecurrentState::create(config_, memory_.data(), memory_.size())) {}

  RecurrentState& state() { return state_; }
  const RecurrentConfig& config() const { return config_; }
  std::vector<char> bytes() const { return memory_.copy(); }

  /// Feeds chunk `t` of the clip.
  Status step(std::int64_t t) {
    const support::Geometry& g = clip_.geometry;
    support::Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
    support::ClipStream chunks(clip_, written);
    SerialExecutor serial;
    return state_.step(chunks.chunk(t % chunks.chunks()), workspace_.workspace(), serial);
  }

  std::string saved() const {
    ExactBytes file(state_file_size(state_));
    const Status status = save_state(state_, std::as_writable_bytes(std::span(file.data(), file.size())));
    EXPECT_TRUE(status.ok()) << status.message();
    return {file.data(), file.size()};
  }

 private:
  static RecurrentConfig config_of(const support::TestClip& clip, const Recipe& recipe) {
    RecurrentConfig config = clip.recurrent(recipe.schedule);
    config.tail_type = recipe.tail_type;
    return config;
  }

  support::Random random_{1};
  support::TestClip clip_;
  RecurrentConfig config_;
  ExactBytes memory_, workspace_;
  RecurrentState state_;
};

/// The length and the checksum that a file should have, so that what else is wrong with it is looked at.
void repair(std::string& file) {
  if (file.size() < detail::state_header_size + detail::state_checksum_size) return;
  const std::uint64_t length = file.size();
  std::memcpy(file.data() + offsetof(detail::StatePrefix, length), &length, sizeof length);
  const std::uint64_t checksum = detail::state_checksum(std::as_bytes(std::span(file)));
  std::memcpy(file.data() + file.size() - sizeof checksum, &checksum, sizeof checksum);
}

/// Changes numbers of a file, mostly those in its header and in those of its entries, cuts it or makes it
/// longer.
void damage(ByteReader& bytes, std::string& file) {
  for (std::int64_t i = bytes.integer(0, 4); i > 0; --i) {
    const std::int64_t last = static_cast<std::int64_t>(std::min<std::size_t>(file.size() - 8, 65535));
    const std::int64_t at =
        bytes.coin() ? bytes.integer(0, std::min<std::int64_t>(last, 168) / 4) * 4 : bytes.integer(0, last);
    std::int64_t number = 0;
    std::memcpy(&number, file.data() + at, sizeof number);
    const std::uint64_t by = static_cast<std::uint64_t>(number);
    number = bytes.pick<std::int64_t>({static_cast<std::int64_t>(by + 1), static_cast<std::int64_t>(by - 1),
                                       0, -1, 2, 1 << 20, std::int64_t{1} << 62, INT64_MAX, INT64_MIN,
                                       static_cast<std::int64_t>(by ^ 0x80)});
    std::memcpy(file.data() + at, &number, bytes.coin() ? 8 : 4);
  }
  if (bytes.one_in(8)) file.resize(static_cast<std::size_t>(bytes.integer(8, 4095)), '\0');
}

/// A file to restore: bytes of the fuzzer's, or a state's file with some damage.
std::string choose_file(ByteReader& bytes, const Recurrence& source) {
  const bool from_scratch = bytes.one_in(8);
  std::string file = source.saved();
  if (from_scratch) {
    file.clear();
    while (!bytes.empty()) file.push_back(static_cast<char>(bytes.byte()));
    return file;
  }
  damage(bytes, file);
  if (!bytes.one_in(8)) repair(file);
  return file;
}

void expect_refused(const Status& status, bool of_the_file) {
  const std::string_view message = status.message();
  EXPECT_TRUE(status.code() == StatusCode::invalid_file ||
              (!of_the_file && status.code() == StatusCode::invalid_argument))
      << message;
  EXPECT_TRUE(!message.empty() && message.find('\n') == std::string_view::npos) << message;
}

/// Every entry is one that steps could have led to, and further steps go through, whatever numbers it now
/// holds; or its sequence had ended.
void expect_goes_on(Recurrence& recurrence) {
  const RecurrentConfig& config = recurrence.config();
  for (std::int64_t b = 0; b < config.batch; ++b) {
    const std::int64_t seen = recurrence.state().frames_seen(b);
    EXPECT_GE(seen, 0);
    EXPECT_EQ(recurrence.state().finished(b), seen % config.chunking.chunk_frames != 0) << seen;
  }
  for (const std::int64_t t : {0, 1}) {
    const Status status = recurrence.step(t);
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::sequence_finished) << status.message();
  }
}

void restore_all(Recurrence& target, std::span<const std::byte> file) {
  const std::vector<char> before = target.bytes();
  const Status status = restore_state(target.state(), file);
  if (!status.ok()) {
    expect_refused(status, true);
    EXPECT_EQ(before, target.bytes()) << status.message();
    return;
  }
  const std::string saved = target.saved();
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(saved)), file)) << "saves as other bytes";
  expect_goes_on(target);
}

/// The other entries stay as they are.
void restore_one(ByteReader& bytes, Recurrence& target, std::span<const std::byte> file) {
  const std::int64_t batch = target.config().batch;
  const std::int64_t to = bytes.integer(-1, batch), from = bytes.integer(-1, 3);
  const std::vector<char> before = target.bytes();
  const Status status = restore_entry(target.state(), to, file, from);
  std::vector<char> after = target.bytes();
  if (status.ok()) {
    const std::ptrdiff_t entry = static_cast<std::ptrdiff_t>(before.size()) / batch;
    std::copy_n(before.begin() + to * entry, entry, after.begin() + to * entry);
  } else {
    expect_refused(status, false);
  }
  EXPECT_EQ(before, after) << status.message();
  if (status.ok()) expect_goes_on(target);
}

void run(ByteReader& bytes) {
  const Recipe& recipe =
      recipes()[static_cast<std::size_t>(bytes.integer(0, static_cast<std::int64_t>(recipes().size()) - 1))];
  Recurrence source(recipe), target(recipe);
  for (std::int64_t t = bytes.integer(0, 3), i = 0; i < t && source.step(i).ok();) ++i;
  for (std::int64_t t = bytes.integer(0, 3), i = 0; i < t && target.step(i).ok();) ++i;
  const std::string bytes_of_file = choose_file(bytes, source);
  ExactBytes file(bytes_of_file.size());
  std::copy(bytes_of_file.begin(), bytes_of_file.end(), file.data());
  const std::span<const std::byte> exact = std::as_bytes(std::span<const char>(file.data(), file.size()));
  if (bytes.coin()) return restore_one(bytes, target, exact);
  restore_all(target, exact);
}

}  // namespace
}  // namespace rehyat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  rehyat::fuzz::ByteReader bytes({data, size});
  rehyat::fuzz::run(bytes);
  return 0;
}
