#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "model.hpp"

namespace rehyat::minidit {

/// SplitMix64's output number `index` for `seed`: a counter-based generator, so that the noise of any frame
/// is what it is however a video is cut.
inline std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// Standard normal number `index` (Box and Muller).
inline float normal(std::uint64_t seed, std::uint64_t index) {
  const auto uniform = [&](std::uint64_t i) {
    return (static_cast<double>(random_bits(seed, i) >> 11) + 0.5) * 0x1p-53;
  };
  const double radius = std::sqrt(-2 * std::log(uniform(2 * index)));
  return static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform(2 * index + 1)));
}

/// Noise of `rows` tokens from token `first` of a video on, [rows, channels].
inline Matrix noise(std::uint64_t seed, Index first, Index rows, Index channels) {
  Matrix x(rows, channels);
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = normal(seed, static_cast<std::uint64_t>(first * channels + i));
  return x;
}

}  // namespace rehyat::minidit
