#pragma once
// Activations together with their derivatives, which share the exponential.

#include "rehyat/kernel/exp.hpp"
#include "rehyat/kernel/tile_shape.hpp"
#include "rehyat/kernel/training_table.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

template <class T>
struct Activated {
  T value, slope;
};

template <class T>
REHYAT_INLINE Activated<T> relu_with_slope(T x) {
  const T zero = T::broadcast(0.0f);
  return {relu(x), select(less(zero, x), T::broadcast(1.0f), zero)};
}

template <class T>
REHYAT_INLINE Activated<T> gelu_with_slope(T x) {
  const Normal<T> n = normal_at(x);
  const T zero = T::broadcast(0.0f);
  const T above = fma(n.minus_ratio, n.bell, T::broadcast(1.0f));
  const T below = select(less(x, zero), zero - n.minus_ratio * n.bell, above);  // Phi(x)
  constexpr float density_at_0 = 0.398942280401432678f;
  return {x * below, fma(x * n.bell, T::broadcast(density_at_0), below)};
}

template <class T>
REHYAT_INLINE Activated<T> silu_with_slope(T x) {
  const T s = logistic(x);
  const T y = x * s;
  return {y, fma(y, T::broadcast(1.0f) - s, s)};
}

template <class T>
REHYAT_INLINE Activated<T> softplus_with_slope(T x) {
  const T zero = T::broadcast(0.0f), one = T::broadcast(1.0f);
  const T t = exp_of_minus(abs(x));
  return {softplus_of_exp(x, t), select(less(x, zero), t, one) / (one + t)};
}

template <class T>
REHYAT_INLINE Activated<T> elu1_with_slope(T x) {
  const T zero = T::broadcast(0.0f), one = T::broadcast(1.0f);
  const T e = exp_of_minus(relu(zero - x));
  return {select(less(zero, x), x + one, e), e};
}

/// `y` raised to `power`.
REHYAT_INLINE Activated<V> raised(Activated<V> y, int power) {
  if (power == 1) return y;
  const V base = y.value;
  y.slope = y.slope * V::broadcast(static_cast<float>(power));
  for (int i = 1; i < power; ++i) {
    y.value = y.value * base;
    y.slope = y.slope * base;
  }
  return y;
}

/// `power` of what f gives for `count` consecutive floats, and its derivative.
template <class F>
inline void activate_power(const float* before, float* features, float* slopes, int64_t count, int power,
                           F f) {
  for (int64_t i = 0; i < count; i += V::lanes) {
    const int64_t left = count - i;
    const bool whole = left >= V::lanes;
    const Activated<V> y = raised(f(whole ? V::load(before + i) : V::load_first(before + i, left)), power);
    if (whole) {
      y.value.store(features + i);
      if (slopes != nullptr) y.slope.store(slopes + i);
    } else {
      y.value.store_first(features + i, left);
      if (slopes != nullptr) y.slope.store_first(slopes + i, left);
    }
  }
}

template <class F>
inline void activate_parts(const ActivationTask& t, F f) {
  const auto part = [&](int64_t first, int64_t count, int power) {
    activate_power(t.before + first, t.features + first, t.slopes == nullptr ? nullptr : t.slopes + first,
                   count, power, f);
  };
  if (t.degree == 1) return part(0, t.rows * t.columns, 1);
  const int64_t columns = t.columns / t.degree;
  for (int64_t i = 0; i < t.rows * t.degree; ++i) {
    part(i * columns, columns, static_cast<int>(i % t.degree) + 1);
  }
}

inline void activate_with_slopes(const ActivationTask& task) {
  switch (task.activation) {
    case Activation::identity:
      return activate_parts(task, [](V x) { return Activated<V>{x, V::broadcast(1.0f)}; });
    case Activation::relu:
      return activate_parts(task, [](V x) { return relu_with_slope(x); });
    case Activation::gelu:
      return activate_parts(task, [](V x) { return gelu_with_slope(x); });
    case Activation::silu:
      return activate_parts(task, [](V x) { return silu_with_slope(x); });
    case Activation::softplus:
      return activate_parts(task, [](V x) { return softplus_with_slope(x); });
    case Activation::elu1:
      return activate_parts(task, [](V x) { return elu1_with_slope(x); });
  }
}

REHYAT_END_ISA_NAMESPACE
