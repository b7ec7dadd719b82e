#pragma once
// Every schedule on one clip: the one-shot operators and both recurrences.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "clip_stream.hpp"
#include "test_clip.hpp"

namespace rehyat::support {

struct NamedResult {
  std::string name;
  Written written;
};

template <class E>
Written streamed(const TestClip& clip, RecurrentSchedule schedule, E& executor, const Kernels& kernels) {
  OwnedState state(clip.recurrent(schedule), executor.slots(), kernels);
  return stream(clip, state, executor);
}

/// What every operator and both recurrences write, in a fixed order.
template <class E>
std::vector<NamedResult> all_results(const TestClip& clip, E& executor, const Kernels& kernels) {
  std::vector<NamedResult> results;
  clip.for_each_operator([&](const char* name, const auto& parameters) {
    results.push_back({name, evaluate(parameters, executor, kernels)});
  });
  results.push_back({"recurrent hybrid", streamed(clip, RecurrentSchedule::hybrid, executor, kernels)});
  results.push_back({"recurrent linear", streamed(clip, RecurrentSchedule::linear, executor, kernels)});
  return results;
}

inline std::vector<NamedResult> all_results(const TestClip& clip, const Kernels& kernels) {
  SerialExecutor executor;
  return all_results(clip, executor, kernels);
}

/// Equal to the bit, all of them.
inline void expect_bit_equal(const std::vector<NamedResult>& results,
                             const std::vector<NamedResult>& expected) {
  ASSERT_EQ(results.size(), expected.size());
  for (std::size_t i = 0; i < results.size(); ++i)
    EXPECT_TRUE(bit_equal(results[i].written, expected[i].written)) << results[i].name;
}

/// How far an output is from another: the norm of the difference over the norm, and the largest difference
/// over the largest element.
struct Distance {
  double l2 = 0, element = 0;
};

/// Elements that no run wrote do not count, nor do those that are NaN in both. Infinity where one is finite
/// alone.
inline Distance distance(const std::vector<float>& actual, const std::vector<float>& expected) {
  constexpr double apart = std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0, most = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (actual[i] == untouched && expected[i] == untouched) continue;
    if (std::isnan(actual[i]) && std::isnan(expected[i])) continue;
    if (!std::isfinite(actual[i]) || !std::isfinite(expected[i])) {
      if (actual[i] == expected[i]) continue;
      return {apart, apart};
    }
    const double e = expected[i], d = actual[i] - e;
    difference += d * d, norm += e * e;
    most = std::max(most, std::abs(d)), largest = std::max(largest, std::abs(e));
  }
  if (difference == 0) return {};
  return {std::sqrt(difference / norm), most / largest};
}

}  // namespace rehyat::support
