// A clip in parts, as processes share it: states that begin in the middle, and sums of theirs added up.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "support/all_results.hpp"
#include "support/clip_stream.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::ClipStream;
using support::Features;
using support::Geometry;
using support::OwnedState;
using support::Random;
using support::TestClip;
using support::Written;

constexpr RecurrentSchedule schedules[] = {RecurrentSchedule::hybrid, RecurrentSchedule::linear};

/// What start_at() wants: the last min(overlap, begin) frames before frame `begin`.
RecurrentChunk overlap_before(const TestClip& clip, std::int64_t begin, std::int64_t overlap_frames) {
  const std::int64_t m = clip.geometry.tokens_per_frame, frames = std::min(begin, overlap_frames);
  const auto cut = [&](InputView view) { return view.slice_tokens((begin - frames) * m, frames * m); };
  RecurrentChunk overlap{.k = cut(clip.k_view()), .v = cut(clip.v_view())};
  overlap.given.k = cut(clip.given().k);
  overlap.given.k_denominator = cut(clip.given().k_denominator);
  return overlap;
}

/// A state over a clip, of which entries may be shorter than others.
struct Part {
  const TestClip& clip;
  OwnedState state;
  std::int64_t overlap_frames;

  Part(const TestClip& c, const RecurrentConfig& config, const Kernels& kernels)
      : clip(c), state(config, 1, kernels), overlap_frames(config.chunking.overlap_frames) {}

  void start_at_chunk(std::int64_t t, const Kernels& kernels) {
    const std::int64_t begin = t * clip.geometry.chunk_frames;
    const Status status = state->start_at(begin, overlap_before(clip, begin, overlap_frames), kernels);
    ASSERT_TRUE(status.ok()) << status.message();
  }
};

void for_each_head(const TestClip& clip, auto visit) {
  for (std::int64_t b = 0; b < clip.geometry.batch; ++b) {
    for (std::int64_t g = 0; g < clip.geometry.kv_heads; ++g) visit(b, g);
  }
}

class RecurrentPartsTest : public support::IsaTest {
 protected:
  void add(Part& from, Part& to) {
    for_each_head(from.clip, [&](std::int64_t b, std::int64_t g) {
      const RecurrentState& source = *from.state;
      const Status status = add_sums(source.sums(b, g), to.state->sums(b, g), kernels());
      ASSERT_TRUE(status.ok()) << status.message();
    });
  }

  SerialExecutor serial;
};

/// A clip, the configuration of a recurrence over it, and a tail of any type.
struct RandomCase {
  TestClip clip;
  std::vector<RecurrentConfig> configs;

  explicit RandomCase(Random& random) : clip(TestClip::random(random, Geometry::random(random))) {
    for (const RecurrentSchedule schedule : schedules) {
      configs.push_back(clip.recurrent(schedule));
      configs.back().tail_type =
          random.pick({ElementType::float32, ElementType::bfloat16, ElementType::float16});
    }
  }
};

/// The sums are those of the frames before, to the bit, and with them everything that follows.
TEST_P(RecurrentPartsTest, GoesOnFromTheMiddleLikeTheStateThatCameThere) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const RandomCase c(random);
    const Geometry& g = c.clip.geometry;
    for (const RecurrentConfig& config : c.configs) {
      Part whole(c.clip, config, kernels()), part(c.clip, config, kernels());
      Written expected(g.batch, g.tokens(), g.heads(), g.value_dim), written = expected;
      ClipStream chunks(c.clip, expected), again(c.clip, written);
      const std::int64_t cut = random.integer(0, g.chunks() - 1);
      for (std::int64_t t = 0; t < cut; ++t) ASSERT_TRUE(whole.state.step(chunks.chunk(t), serial).ok());
      ASSERT_TRUE(part.state.step(again.chunk(0), serial).ok()) << "what start_at() has to forget";
      part.start_at_chunk(cut, kernels());
      add(whole, part);
      written = expected;
      for (std::int64_t t = cut; t < g.chunks(); ++t) {
        // an entry that has ended stays so, but only the first state knows
        const Status first = whole.state.step(chunks.chunk(t), serial);
        const Status second = part.state.step(again.chunk(t), serial);
        ASSERT_TRUE(first.ok() && second.ok()) << first.message() << second.message();
      }
      EXPECT_TRUE(bit_equal(written, expected)) << "cut at chunk " << cut;
    }
  }
}

/// Chunks committed in parts of any length; each part goes on from the sums of those before it.
TEST_P(RecurrentPartsTest, PartsEqualTheWholeWithinTheBound) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const RandomCase c(random);
    const Geometry& g = c.clip.geometry;
    for (const RecurrentConfig& config : c.configs) {
      Part whole(c.clip, config, kernels()), sum(c.clip, config, kernels()), part(c.clip, config, kernels());
      Written expected(g.batch, g.tokens(), g.heads(), g.value_dim), written = expected;
      ClipStream chunks(c.clip, expected), again(c.clip, written);
      for (std::int64_t begin = 0; begin < g.chunks();) {
        const std::int64_t end = random.integer(begin + 1, g.chunks());
        part.start_at_chunk(begin, kernels());
        for (std::int64_t t = begin; t < end; ++t) {
          ASSERT_TRUE(whole.state.step(chunks.chunk(t), serial).ok());
          ASSERT_TRUE(part.state.commit(again.chunk(t), serial).ok());
        }
        Part reader(c.clip, config, kernels());
        reader.start_at_chunk(begin, kernels());
        add(sum, reader);
        for (std::int64_t t = begin; t < end; ++t)
          ASSERT_TRUE(reader.state.step(again.chunk(t), serial).ok());
        add(part, sum);
        begin = end;
      }
      const support::Distance d = support::distance(written.out, expected.out);
      EXPECT_LE(d.l2, 4e-6);
      EXPECT_LE(d.element, 1e-5);
    }
  }
}

/// hi and lo as the kernels leave them, and their exact sum.
struct Pairs {
  std::vector<float> floats;
  std::int64_t half() const { return static_cast<std::int64_t>(floats.size()) / 2; }
  long double value(std::int64_t i) const {
    return static_cast<long double>(floats[static_cast<std::size_t>(i)]) +
           static_cast<long double>(floats[static_cast<std::size_t>(i + half())]);
  }

  Pairs(Random& random, std::size_t half) : floats(2 * half) {
    for (std::size_t i = 0; i < half; ++i) {
      const double x = random.normal() * std::pow(10.0, random.uniform(-8, 8));
      floats[i] = static_cast<float>(x);
      floats[i + half] = static_cast<float>(x - static_cast<double>(floats[i]));
    }
  }
};

TEST_P(RecurrentPartsTest, SumsAddWithinTheBoundInAnyOrder) {
  for (const std::uint64_t seed : support::seeds(20, 100)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const auto half = static_cast<std::size_t>(16 * random.integer(1, 40));
    const Pairs a(random, half), c(random, half);
    Pairs b(random, half);
    for (std::size_t i = 0; i < half; i += 3) {  // hi cancels, and lo or not
      b.floats[i] = -a.floats[i];
      b.floats[i + half] = random.coin() ? a.floats[i + half] : -a.floats[i + half];
    }
    const auto sum = [&](Pairs x, const Pairs& y) {
      EXPECT_TRUE(add_sums(y.floats, x.floats, kernels()).ok());
      return x;
    };
    const Pairs ab = sum(a, b), left = sum(ab, c), right = sum(a, sum(b, c));
    for (std::int64_t i = 0; i < a.half(); ++i) {
      const long double size = std::abs(a.value(i)) + std::abs(b.value(i)), bound = 0x1p-46L;
      const long double all = size + std::abs(c.value(i));
      EXPECT_LE(std::abs(ab.value(i) - (a.value(i) + b.value(i))), bound * size);
      EXPECT_LE(std::abs(left.value(i) - (a.value(i) + b.value(i) + c.value(i))), 2 * bound * all);
      EXPECT_LE(std::abs(left.value(i) - right.value(i)), 4 * bound * all);
      EXPECT_EQ(left.floats[static_cast<std::size_t>(i)], static_cast<float>(left.value(i)))
          << "hi is rounded";
    }
    const Pairs zero = [&] {
      Pairs p = a;
      std::fill(p.floats.begin(), p.floats.end(), 0.0f);
      return p;
    }();
    EXPECT_EQ(sum(a, zero).floats, a.floats);
    EXPECT_EQ(sum(zero, a).floats, a.floats);
    Pairs twice = a;
    ASSERT_TRUE(add_sums(twice.floats, twice.floats, kernels()).ok());
    EXPECT_EQ(twice.floats, sum(a, a).floats);
  }
}

REHYAT_TEST_ALL_ISAS(RecurrentPartsTest);

constexpr Geometry geometry{
    .batch = 2, .frames = 6, .tokens_per_frame = 3, .heads_per_kv = 2, .dim = 6, .value_dim = 5};

TEST(RecurrentPartsErrors, WhereAPartBegins) {
  Random random(1);
  const TestClip clip(random, geometry, Features::given_separate);
  const RecurrentConfig config = clip.recurrent(RecurrentSchedule::hybrid);
  OwnedState state(config, 1, default_kernels());
  const RecurrentChunk good = overlap_before(clip, 2, 1);
  ASSERT_TRUE(state->start_at(2, good).ok());
  const std::vector<double> before = state.memory();
  const auto refuse = [&](std::int64_t frames_seen, const std::string& message, auto spoil) {
    RecurrentChunk bad = good;
    spoil(bad);
    const Status status = state->start_at(frames_seen, bad);
    EXPECT_EQ(status.message(), message);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_EQ(state.memory(), before);
  };
  const std::string expected = ", expected whole chunks of chunk_frames (2), 0 to 4611686018427387904 frames";
  const auto nothing = [](auto&) {};
  refuse(-2, "frames_seen is -2" + expected, nothing);
  refuse(3, "frames_seen is 3" + expected, nothing);
  refuse((std::int64_t{1} << 62) + 2, "frames_seen is 4611686018427387906" + expected, nothing);
  refuse(0, "k.tokens is 3, expected 0", nothing);
  refuse(2, "k.tokens is 0, expected 3", [](auto& c) { c.k.tokens = 0; });
  refuse(2, "k.data is null, expected memory", [](auto& c) { c.k.data = nullptr; });
  refuse(2, "k.batch is 1, expected 2", [](auto& c) { c.k.batch = 1; });
  refuse(2, "v.dim is 6, expected 5", [](auto& c) { c.v.dim = 6; });
  refuse(2, "v.tokens is 6, expected 3", [](auto& c) { c.v.tokens = 6; });
  refuse(2, "given.k.tokens is 1, expected 3", [](auto& c) { c.given.k.tokens = 1; });
  refuse(
      2,
      "given.k_denominator (0: null) is 0, expected to be there if and only if config.separate_denominator",
      [](auto& c) { c.given.k_denominator = {}; });
  const std::int64_t frames[] = {1, 1};
  refuse(2, "frames.size() is 2, expected 0: all entries begin at the same frame",
         [&](auto& c) { c.frames = frames; });
  EXPECT_TRUE(state->start_at(std::int64_t{1} << 62, good).ok());
}

TEST(RecurrentPartsErrors, Sums) {
  Random random(1);
  const TestClip clip(random, geometry, Features::elu1);
  OwnedState state(clip.recurrent(RecurrentSchedule::hybrid), 1, default_kernels());
  for (const auto& [b, g] : {std::pair{-1, 0}, {2, 0}, {0, -1}, {0, 1}})
    EXPECT_TRUE(state->sums(b, g).empty());
  EXPECT_EQ(state->sums(1, 0).size(), 2 * (6 * 16 + 16));
  const auto refuse = [&](std::size_t from, std::size_t to, const std::string& message) {
    std::vector<float> a(from, 1.0f), b(to, 2.0f);
    const Status status = add_sums(a, b);
    EXPECT_EQ(status.message(), message);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_EQ(b, std::vector<float>(to, 2.0f));
  };
  refuse(32, 64, "from.size() is 32, expected to.size() (64)");
  refuse(0, 0, "to.size() is 0, expected that of RecurrentState::sums()");
  refuse(48, 48, "to.size() is 48, expected that of RecurrentState::sums()");
}

}  // namespace
}  // namespace rehyat
