#pragma once
// The activations of feature maps and their derivatives, in Real.

#include <cmath>
#include <limits>
#include <numbers>

#include "rehyat/feature_map.hpp"

namespace rehyat::train::detail {

/// NaN stays NaN.
template <class Real>
Real activate(Activation activation, Real x) {
  switch (activation) {
    case Activation::identity:
      return x;
    case Activation::relu:
      return x < 0 ? Real(0) : x;
    case Activation::gelu:
      return x / 2 * (1 + std::erf(x / std::numbers::sqrt2_v<Real>));
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::softplus:
      return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    case Activation::elu1:
      return x > 0 ? x + 1 : std::exp(x);
  }
  return std::numeric_limits<Real>::quiet_NaN();
}

/// d activate / dx. NaN stays NaN. At 0 relu's is 0 and elu1's is 1, as in PyTorch.
template <class Real>
Real derivative(Activation activation, Real x) {
  switch (activation) {
    case Activation::identity:
      return 1;
    case Activation::relu:
      return x > 0 ? Real(1) : std::isnan(x) ? x : Real(0);
    case Activation::gelu: {
      const Real density =
          std::exp(-x * x / 2) * std::numbers::inv_sqrtpi_v<Real> / std::numbers::sqrt2_v<Real>;
      return (1 + std::erf(x / std::numbers::sqrt2_v<Real>)) / 2 + x * density;
    }
    case Activation::silu: {
      const Real sigmoid = 1 / (1 + std::exp(-x));
      return sigmoid * (1 + x * (1 - sigmoid));
    }
    case Activation::softplus:
      return 1 / (1 + std::exp(-x));
    case Activation::elu1:
      return x > 0 ? Real(1) : std::exp(x);
  }
  return std::numeric_limits<Real>::quiet_NaN();
}

}  // namespace rehyat::train::detail
