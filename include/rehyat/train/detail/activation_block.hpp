#pragma once
// Activations of whole blocks. In double element by element, to the last bit or two; in float as vectors, to
// about 2e-7: what training needs, and a good part of its time.

#include <cstdint>
#include <numbers>
#include <type_traits>

#include "rehyat/train/detail/activation.hpp"
#include "rehyat/train/detail/matrix.hpp"

namespace rehyat::train::detail {

/// Elements that are taken through a formula together: its intermediate results stay in the first cache.
inline constexpr std::int64_t strip_size = 256;
using Strip = Eigen::Array<float, 1, Eigen::Dynamic, Eigen::RowMajor, 1, strip_size>;

/// 1 - Phi(|x|) of the normal distribution, to 1e-7 (Abramowitz and Stegun, 7.1.26). `bell` is exp(-x^2 / 2).
inline Strip upper_tail(const Strip& x, const Strip& bell) {
  constexpr float p = 0.3275911f / std::numbers::sqrt2_v<float>;
  const Strip t = (1 + p * x.abs()).inverse();
  return bell * t *
         (0.127414796f +
          t * (-0.142248368f + t * (0.7107068705f + t * (-0.7265760135f + t * 0.5307027145f))));
}

/// activation(x), and where wanted its derivative.
inline Strip activate(Activation activation, const Strip& x, Strip* slope) {
  switch (activation) {
    case Activation::gelu: {
      constexpr float density = std::numbers::inv_sqrtpi_v<float> / std::numbers::sqrt2_v<float>;
      const Strip bell = (-0.5f * x.square()).exp();
      const Strip tail = upper_tail(x, bell);
      const Strip sign = (x * 1e30f).max(-1).min(1);
      if (slope != nullptr) *slope = 0.5f + sign * (0.5f - tail) + density * x * bell;
      return x.max(0) - x.abs() * tail;
    }
    case Activation::silu: {
      const Strip sigmoid = x.logistic();
      if (slope != nullptr) *slope = sigmoid * (1 + x * (1 - sigmoid));
      return x * sigmoid;
    }
    case Activation::softplus:
      if (slope != nullptr) *slope = x.logistic();
      return x.max(0) + (-x.abs()).exp().log1p();
    case Activation::elu1: {
      const Strip below = x.min(0).exp();
      if (slope != nullptr) *slope = below;
      return x.max(0) + below;
    }
    default:
      if (slope != nullptr) *slope = x.unaryExpr([&](float e) { return derivative(activation, e); });
      return x.unaryExpr([&](float e) { return activate(activation, e); });
  }
}

template <class Visit>
void for_each_strip(std::int64_t size, Visit visit) {
  for (std::int64_t begin = 0; begin < size; begin += strip_size) {
    visit(begin, begin + strip_size < size ? strip_size : size - begin);
  }
}

/// after = activation(before) and, where wanted, slopes = activation'(before), element by element; slopes may
/// be where `before` is.
template <class Real>
void activate(Activation activation, const ConstMatrix<Real>& before, Matrix<Real> after, Real* slopes) {
  if constexpr (std::is_same_v<Real, float>) {
    for_each_strip(before.size(), [&](std::int64_t begin, std::int64_t count) {
      const Strip x = ConstRowVector<float>(before.data() + begin, count).array();
      Strip slope(slopes == nullptr ? 0 : count);
      RowVector<float>(after.data() + begin, count).array() =
          activate(activation, x, slopes == nullptr ? nullptr : &slope);
      if (slopes != nullptr) RowVector<float>(slopes + begin, count).array() = slope;
    });
  } else {
    after = before.unaryExpr([&](Real e) { return activate(activation, e); });
    if (slopes == nullptr) return;
    Matrix<Real>(slopes, before.rows(), before.cols()) =
        before.unaryExpr([&](Real e) { return derivative(activation, e); });
  }
}

}  // namespace rehyat::train::detail
