#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace rehyat::support {

/// max |actual - expected| / max |expected|, over finite expected values. Where one is not finite and the
/// other is not the same kind of it, or the sizes differ: infinity.
template <class A, class B>
double relative_error(const std::vector<A>& actual, const std::vector<B>& expected) {
  constexpr double wrong = std::numeric_limits<double>::infinity();
  if (actual.size() != expected.size()) return wrong;
  double error = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    if (std::isfinite(a) && std::isfinite(e)) {
      error = std::max(error, std::abs(a - e));
      largest = std::max(largest, std::abs(e));
    } else if (!(a == e || (std::isnan(a) && std::isnan(e)))) {
      return wrong;
    }
  }
  return error == 0 ? 0 : error / largest;
}

/// The error allowed to a float32 kernel where the plain float32 implementation has `plain_error`, both
/// relative.
constexpr double allowed_error(double plain_error) { return 2 * plain_error + 1e-6; }

/// True where no element is NaN or infinite.
template <class T>
bool all_finite(const std::vector<T>& values) {
  return std::all_of(values.begin(), values.end(), [](T x) { return std::isfinite(x); });
}

/// The first element whose bits differ, if any. NaNs with the same bits are equal, 0 and -0 are not.
inline std::optional<std::size_t> first_bit_difference(std::span<const float> a, std::span<const float> b) {
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return i;
  }
  if (a.size() != b.size()) return std::min(a.size(), b.size());
  return std::nullopt;
}

/// For EXPECT_TRUE: names the first element that differs.
inline testing::AssertionResult bit_equal(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size())
    return testing::AssertionFailure() << "sizes differ: " << a.size() << " and " << b.size();
  const std::optional<std::size_t> i = first_bit_difference(a, b);
  if (!i) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "element " << *i << " of " << a.size()
                                     << " differs: " << std::hexfloat << a[*i] << " and " << b[*i];
}

}  // namespace rehyat::support
