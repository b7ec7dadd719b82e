// A video of 100,000 chunks: the state's sums A and z against long double sums of the same features times
// values.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "support/element_tensor.hpp"
#include "support/isas.hpp"
#include "support/long_videos.hpp"
#include "support/random.hpp"
#include "support/run.hpp"

namespace rehyat {
namespace {

using support::OwnedState;
using namespace support::long_video;

/// Element types of the tail: of keys and values; given features stay float32.
constexpr ElementType tail_types[] = {ElementType::float32, ElementType::bfloat16, ElementType::float16};

/// One sum over the frames absorbed so far: exactly, of magnitudes, and as plain float sums of the frames'
/// parts.
struct Sum {
  long double exact = 0, magnitude = 0;
  float plain = 0;

  /// Adds a frame: a[i] b[i] over its tokens.
  void add(const float* a, const float* b) {
    float part = 0;
    for (std::int64_t i = 0; i < tokens; ++i) {
      const long double product = static_cast<long double>(a[i]) * b[i];
      exact += product;
      magnitude += std::abs(product);
      part += a[i] * b[i];
    }
    plain += part;
  }
};

/// A, then z.
struct Sums {
  std::vector<Sum> at = std::vector<Sum>(features * values + features);

  /// Adds what the state absorbs of a frame that comes out of a tail of that type.
  void add(const Frame& f, const Signal& signal, ElementType tail) {
    const bool given = signal.phi.kind == FeatureMap::Kind::given;
    const auto stored = [&](float x) { return support::rounded(x, tail); };
    float phi[features][tokens], phi_z[features][tokens], v[values][tokens];
    for (std::int64_t i = 0; i < tokens; ++i) {
      for (std::int64_t d = 0; d < features; ++d) {
        phi[d][i] = given ? f.given[i][d] : signal.feature(stored(f.k[i][d]));
        phi_z[d][i] = given ? f.given_denominator[i][d] : phi[d][i];
        v[d][i] = stored(f.v[i][d]);
      }
    }
    constexpr float ones[tokens] = {1, 1};
    for (std::int64_t d = 0; d < features; ++d) {
      for (std::int64_t c = 0; c < values; ++c)
        at[static_cast<std::size_t>(d * values + c)].add(phi[d], v[c]);
      at[static_cast<std::size_t>(features * values + d)].add(phi_z[d], ones);
    }
  }
};

/// The largest error of any element.
struct Errors {
  double to_magnitude = 0;  ///< relative to the sum of magnitudes
  double to_value = 0;  ///< relative to the value, where that is at least a tenth of the sum of magnitudes

  void add(long double actual, const Sum& sum) {
    const long double difference = std::abs(actual - sum.exact);
    const long double error =
        std::isnan(difference) ? std::numeric_limits<long double>::infinity() : difference;
    to_magnitude = std::max(to_magnitude, static_cast<double>(error / sum.magnitude));
    if (std::abs(sum.exact) >= sum.magnitude / 10) {
      to_value = std::max(to_value, static_cast<double>(error / std::abs(sum.exact)));
    }
  }
};

constexpr double allowed = 1e-6, allowed_to_value = 1e-5;

/// The errors of a state's checkpoints, to the sum of magnitudes.
struct History {
  double first = -1, latest = 0;
};

void expect_within(const Errors& now, History& history) {
  if (history.first < 0) history.first = now.to_magnitude;
  history.latest = now.to_magnitude;
  EXPECT_LE(now.to_magnitude, allowed);
  EXPECT_LE(now.to_magnitude, history.first + 0x1p-24) << "it grows";
  EXPECT_LE(now.to_value, allowed_to_value);
}

/// A state that is committed to, and nothing else.
class Committed {
 public:
  Committed(const RecurrentConfig& config, const Kernels& with)
      : kernels(with), config_(config), state_(config, 1, with) {}

  void commit(const Frame& f) {
    const auto view = [](const float* data) {
      return TensorView<const float>::token_major(data, 1, tokens, 1, features);
    };
    RecurrentChunk chunk{.k = view(&f.k[0][0]), .v = view(&f.v[0][0])};
    if (config_.separate_denominator) {
      chunk.given = {.k = view(&f.given[0][0]), .k_denominator = view(&f.given_denominator[0][0])};
    }
    const Status status = state_.commit(chunk, serial_);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  /// Of hi + lo, which the state keeps, or of hi, which queries read.
  Errors errors(const Sums& sums, bool with_lo) const {
    std::vector<double> memory = state_.memory();
    const detail::StateMemory layout(config_, reinterpret_cast<char*>(memory.data()));
    const float *hi = layout.sums().hi(0, 0), *lo = layout.sums().lo(0, 0);
    Errors errors;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(sums.at.size()); ++i) {
      const std::int64_t z = i - features * values;
      const std::int64_t at =
          z >= 0 ? features * kernel::padded(values) + z : i / values * kernel::padded(values) + i % values;
      errors.add(with_lo ? static_cast<long double>(hi[at]) + lo[at] : hi[at],
                 sums.at[static_cast<std::size_t>(i)]);
    }
    return errors;
  }

  const Kernels& kernels;
  History kept, read;  ///< hi + lo, and hi

 private:
  RecurrentConfig config_;
  OwnedState state_;
  SerialExecutor serial_;
};

/// 100,000, or what the environment variable REHYAT_TEST_CHUNKS says, for emulators.
std::int64_t chunks() {
  return static_cast<std::int64_t>(support::number_in_environment("REHYAT_TEST_CHUNKS").value_or(100000));
}

struct Setting {
  const Signal* signal;
  ElementType tail;
  std::int64_t overlap;  ///< 0: keys are absorbed as they come; 1: out of the tail
};

class LongVideoTest : public testing::TestWithParam<Setting> {};

/// At 100, 1,000, 10,000 and 100,000 chunks, for hi + lo and for hi alone: at most 1e-6 of the sum of |phi_k|
/// |v| (z: of |phi_k|), and at most what it was at 100 chunks plus a rounding of hi (2^-24); where at least a
/// tenth of that sum does not cancel, at most 1e-5 of the value.
TEST_P(LongVideoTest, LosesNothing) {
  const auto [signal, tail, overlap] = GetParam();
  RecurrentConfig config{
      .head_dim = features,
      .value_dim = values,
      .chunking = {.tokens_per_frame = tokens, .chunk_frames = 1, .overlap_frames = overlap},
      .phi_q = signal->phi,
      .phi_k = signal->phi,
      .separate_denominator = signal->phi.kind == FeatureMap::Kind::given};
  config.tail_type = tail;
  std::deque<Committed> states;
  for (const Isa isa : support::tested_isas()) states.emplace_back(config, **find_kernels(isa_name(isa)));

  const Video video = signal->video();
  const std::int64_t last = chunks();
  Sums sums;
  Frame now, before;
  for (std::int64_t frame = 0, checkpoint = std::min<std::int64_t>(100, last); checkpoint <= last; ++frame) {
    video(frame, now);
    for (Committed& state : states) ASSERT_NO_FATAL_FAILURE(state.commit(now));
    if (overlap == 0) {
      sums.add(now, *signal, ElementType::float32);
    } else if (frame > 0) {
      sums.add(before, *signal, tail);
    }
    before = now;
    if (frame + 1 - overlap != checkpoint) continue;
    for (Committed& state : states) {
      SCOPED_TRACE(testing::Message() << isa_name(state.kernels.isa) << ", " << checkpoint << " chunks");
      expect_within(state.errors(sums, true), state.kept);
      expect_within(state.errors(sums, false), state.read);
    }
    checkpoint = checkpoint == last ? last + 1 : std::min(checkpoint * 10, last);
  }
  Errors plain;
  for (const Sum& sum : sums.at) plain.add(sum.plain, sum);
  std::printf("[  errors  ] state %.1e, read %.1e, plain float sums %.1e\n", states.back().kept.latest,
              states.back().read.latest, plain.to_magnitude);
  if (signal->plain_sums_fail && last >= 100000) {
    EXPECT_GT(plain.to_magnitude, allowed);
  }
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const Signal& signal : signals) {
    all.push_back({&signal, ElementType::float32, 0});
    for (const ElementType type : tail_types) all.push_back({&signal, type, 1});
  }
  return all;
}

std::string name_of(const testing::TestParamInfo<Setting>& setting) {
  const auto [signal, tail, overlap] = setting.param;
  return std::string(signal->name) +
         (overlap == 0 ? "_without_tail" : std::string("_tail_of_") + element_name(tail));
}

INSTANTIATE_TEST_SUITE_P(, LongVideoTest, testing::ValuesIn(settings()), name_of);

}  // namespace
}  // namespace rehyat
