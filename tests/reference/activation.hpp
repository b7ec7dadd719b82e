#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "rehyat/feature_map.hpp"

namespace rehyat::reference {

/// The definitions, in T's own library functions. NaN stays NaN.
template <class T>
T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::identity:
      return x;
    case Activation::relu:
      return x < 0 ? T(0) : x;
    case Activation::gelu:
      return T(0.5) * x * (T(1) + std::erf(x / std::numbers::sqrt2_v<T>));
    case Activation::silu:
      return x / (T(1) + std::exp(-x));
    case Activation::softplus:
      return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    case Activation::elu1:
      return x > 0 ? x + T(1) : std::exp(x);
  }
  return std::numeric_limits<T>::quiet_NaN();
}

/// x to the power of `exponent` >= 1.
template <class T>
T power(T x, int exponent) {
  T result = x;
  for (int i = 1; i < exponent; ++i) result *= x;
  return result;
}

}  // namespace rehyat::reference
