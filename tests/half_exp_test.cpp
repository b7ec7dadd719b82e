// The exponential of half-precision scores, of this unit's own instruction set (its flags say which), against
// double.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "rehyat/kernel/half_softmax.hpp"

namespace rehyat::kernel {
namespace {

/// The weights, in units of the largest, of scores that are `top` less each distance.
std::vector<double> weights_of(const std::vector<float>& distances, float unit) {
  const HalfExponential exponential(Halves::zero(), V::broadcast(unit));
  std::vector<double> weights;
  for (const float distance : distances) {
    Word words[static_cast<std::size_t>(V::lanes)];
    const V score = V::broadcast(-distance);
    exponential(Halves::of(score, score)).store(words);
    const auto bits = static_cast<std::uint16_t>(words[0]);
    EXPECT_EQ(words[0] >> 16, bits);
    weights.push_back(Float16::get(&bits) * HalfExponential::weight_unit);
  }
  return weights;
}

/// Every finite half from 0 on.
std::vector<float> all_halves() {
  std::vector<float> halves;
  for (std::uint16_t bits = 0; bits < 0x7c00; ++bits) halves.push_back(Float16::get(&bits));
  return halves;
}

TEST(HalfExponentialTest, IsOffByItsRoundingsFromMinus20On) {
  const std::vector<float> distances = all_halves();
  for (int power = -40; power <= 15; ++power) {
    const float unit = std::ldexp(1.0f, power);
    const std::vector<double> weights = weights_of(distances, unit);
    EXPECT_EQ(weights[0], 1.0);
    double worst = 0;
    for (std::size_t i = 0; i < distances.size(); ++i) {
      const double x = static_cast<double>(distances[i]) * static_cast<double>(unit);
      if (x <= 19.99) worst = std::max(worst, std::abs(weights[i] / std::exp2(-x) - 1));
      if (x >= 20.01) {
        ASSERT_LE(weights[i], 1e-6) << x;
      }
    }
    // units below 2^-24, the least half, are 0: their largest distance is 65,504 * 2^-25
    EXPECT_LE(worst, power < -24 ? 1.4e-3 : 7e-4) << "unit 2^" << power;
  }
}

/// Beyond 2^15 the unit is taken for that: what is further from the largest than 6e-4 weighs nothing.
TEST(HalfExponentialTest, HugeUnits) {
  for (const float unit : {0x1p+16f, 0x1p+30f, 0x1p+127f}) {
    const std::vector<double> weights = weights_of({0.0f, 6.2e-4f, 1.0f, 3e4f}, unit);
    EXPECT_EQ(weights[0], 1.0);
    for (std::size_t i = 1; i < weights.size(); ++i) EXPECT_LE(weights[i], 1e-6) << unit;
  }
}

}  // namespace
}  // namespace rehyat::kernel
