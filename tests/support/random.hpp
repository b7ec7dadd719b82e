#pragma once
// Seeded random numbers, the same on every platform, and the line that replays a failing case.

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <numbers>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace rehyat::support {

/// A generator of test data. The standard distributions differ between libraries, so it brings its own.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// In [low, high].
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// In [low, high).
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }
  /// Standard normal (Box and Muller).
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform(0, 1)));
    return radius * std::cos(2 * std::numbers::pi * uniform(0, 1));
  }
  bool coin() { return integer(0, 1) == 1; }

  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[integer(0, static_cast<std::int64_t>(choices.size()) - 1)];
  }

  void fill_normal(std::span<float> values, double deviation = 1) {
    for (float& x : values) x = static_cast<float>(deviation * normal());
  }
  std::vector<float> normals(std::int64_t count, double deviation = 1) {
    std::vector<float> values(static_cast<std::size_t>(count));
    fill_normal(values, deviation);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

/// A decimal number from the environment; nothing if the variable is unset or empty, the end of the program
/// if it is wrong.
inline std::optional<std::uint64_t> number_in_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const std::uint64_t number = std::strtoull(text, &end, 10);
  if (*end != '\0' || errno != 0) {
    std::fprintf(stderr, "%s is '%s', expected a decimal number\n", name, text);
    std::abort();
  }
  return number;
}

/// The seeds a randomised test runs: `count` of them from `first` on (at most as many as the environment
/// variable REHYAT_TEST_SEEDS says, for emulators), or the one that REHYAT_TEST_SEED names. Prints which.
inline std::vector<std::uint64_t> seeds(int count, std::uint64_t first = 1) {
  std::vector<std::uint64_t> result;
  if (const std::optional<std::uint64_t> only = number_in_environment("REHYAT_TEST_SEED")) {
    result.push_back(*only);
  } else {
    const std::uint64_t most = number_in_environment("REHYAT_TEST_SEEDS").value_or(1 << 30);
    if (static_cast<std::uint64_t>(count) > most) count = most < 1 ? 1 : static_cast<int>(most);
    for (int i = 0; i < count; ++i) result.push_back(first + static_cast<std::uint64_t>(i));
  }
  std::printf("[   seeds  ] %llu to %llu\n", static_cast<unsigned long long>(result.front()),
              static_cast<unsigned long long>(result.back()));
  return result;
}

/// How to run the current test with this seed alone; for SCOPED_TRACE.
inline std::string replay(std::uint64_t seed) {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  return "replay with: REHYAT_TEST_SEED=" + std::to_string(seed) + " " + program_invocation_name +
         " --gtest_filter=" + test->test_suite_name() + "." + test->name();
}

}  // namespace rehyat::support
