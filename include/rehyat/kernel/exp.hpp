#pragma once
// Exponentials of arguments that are not positive, and the activations that rest on them.

#include "rehyat/kernel/arch.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// 2^r for r in [0, 1], by a polynomial of degree 6 whose constant term is exactly 1 (a constant off by half
/// an ulp would be multiplied into the running sums at every key block). Minimax relative error 1.4e-8 with
/// these coefficients, so what remains is rounding: about 1 ulp. Never above 2, which it is at 1.
///
/// r = x - floor(x) rather than the distance to the nearest integer: the relative error is the same over any
/// interval of length 1, and vscalefps takes the floor for nothing. Degree 5 (2.4 ulp) would save one of 12
/// instructions.
template <class T>
REHYAT_INLINE T exp2_fraction(T r) {
  T p = T::broadcast(0.00021612914861179888f);
  p = fma(p, r, T::broadcast(0.0012467846972867846f));
  p = fma(p, r, T::broadcast(0.009675451554358006f));
  p = fma(p, r, T::broadcast(0.055485282093286514f));
  p = fma(p, r, T::broadcast(0.2402293086051941f));
  p = fma(p, r, T::broadcast(0.6931470632553101f));
  return fma(p, r, T::broadcast(1.0f));
}

/// Below it exp2_nonpositive is 0: a result would be subnormal, and slow to multiply with.
inline constexpr float least_exponent = -126.0f;

/// 2^x for x <= 0. Exactly 1 at 0; exactly 0 below -126; NaN stays NaN.
template <class T>
REHYAT_INLINE T exp2_nonpositive(T x) {
  const T n = whole(x);
  return scale_unless_less(exp2_fraction(fraction(x, n)), n, x, T::broadcast(least_exponent));
}

/// 2^x for x from -126 to 0, or NaN: to the bit what exp2_nonpositive gives.
template <class T>
REHYAT_INLINE T exp2_normal(T x) {
  const T n = whole(x);
  return scale(exp2_fraction(fraction(x, n)), n);
}

/// e^-a for a >= 0; exactly 1 at 0, 0 above 87.33 (where the result would be subnormal), NaN stays NaN.
/// -a = n ln 2 - r with ln 2 in two parts, then a polynomial of degree 6 in r (minimax relative error
/// 3.1e-9).
template <class T>
REHYAT_INLINE T exp_of_minus(T a) {
  const T n = round_nearest(a * T::broadcast(-1.44269504088896341f));
  T r = fma(n, T::broadcast(0.693145751953125f), a);
  r = fma(n, T::broadcast(1.428606765330187e-06f), r);
  T p = T::broadcast(0.001381461275741458f);
  p = fma(p, r, T::broadcast(-0.008368710055947304f));
  p = fma(p, r, T::broadcast(0.04166838899254799f));
  p = fma(p, r, T::broadcast(-0.1666652113199234f));
  p = fma(p, r, T::broadcast(0.4999999403953552f));
  p = fma(p, r, T::broadcast(-1.0f));
  p = fma(p, r, T::broadcast(1.0f));
  return scale_unless_less(p, n, T::broadcast(87.33f), a);
}

/// max(x, 0); max returns its second argument for NaN.
template <class T>
REHYAT_INLINE T relu(T x) {
  return max(T::broadcast(0.0f), x);
}

/// The normal distribution at a = min(|x|, 64): a, exp(-a^2 / 2), and -Phi(-a) over that.
template <class T>
struct Normal {
  T magnitude, bell, minus_ratio;
};

/// Phi(-a) / exp(-a^2 / 2) by a polynomial of degree 8 in 1 / (1 + 0.3 a): relative error 1.2e-7, so that
/// gelu keeps its relative accuracy where 1 + erf would cancel. Beyond 64 all is as at 64: exp(-a^2 / 2) is 0
/// there, and must not meet an infinity.
template <class T>
REHYAT_INLINE Normal<T> normal_at(T x) {
  const T a = min(T::broadcast(64.0f), abs(x));
  const T t = T::broadcast(1.0f) / fma(a, T::broadcast(0.3f), T::broadcast(1.0f));
  T h = T::broadcast(-0.03619423881173134f);
  h = fma(h, t, T::broadcast(0.15937572717666626f));
  h = fma(h, t, T::broadcast(-0.21011394262313843f));
  h = fma(h, t, T::broadcast(0.05716324225068092f));
  h = fma(h, t, T::broadcast(-0.13041425124281738f));
  h = fma(h, t, T::broadcast(-0.0993478000164032f));
  h = fma(h, t, T::broadcast(-0.12084542214870453f));
  h = fma(h, t, T::broadcast(-0.11962327361106873f));
  return {a, exp2_nonpositive(a * (a * T::broadcast(-0.72134752044448170f))), h * t};  // log2(e) / 2
}

/// x Phi(x) = max(x, 0) - a Phi(-a).
template <class T>
REHYAT_INLINE T gelu(T x) {
  const Normal<T> n = normal_at(x);
  return fma(n.magnitude, n.minus_ratio * n.bell, relu(x));
}

/// 1 / (1 + exp(-x)), by exp(-|x|).
template <class T>
REHYAT_INLINE T logistic(T x) {
  const T zero = T::broadcast(0.0f), one = T::broadcast(1.0f);
  const T e = exp_of_minus(abs(x));
  return select(less(x, zero), e, one) / (one + e);
}

/// x / (1 + exp(-x)).
template <class T>
REHYAT_INLINE T silu(T x) {
  return x * logistic(x);
}

/// max(x, 0) + log1p(t), t = exp(-|x|): log1p(t) / t by a polynomial of degree 8 over [0, 1] (minimax
/// relative error 3.3e-8), so that small values keep their relative accuracy, as a nearly silent linear
/// branch needs. Without a division: 2 atanh(t / (2 + t)) would need half the terms, but is bound by the
/// divider.
template <class T>
REHYAT_INLINE T softplus_of_exp(T x, T t) {
  T p = T::broadcast(0.005365422461181879f);
  p = fma(p, t, T::broadcast(-0.030068300664424896f));
  p = fma(p, t, T::broadcast(0.07920882850885391f));
  p = fma(p, t, T::broadcast(-0.13754187524318695f));
  p = fma(p, t, T::broadcast(0.1915384829044342f));
  p = fma(p, t, T::broadcast(-0.24857217073440552f));
  p = fma(p, t, T::broadcast(0.33321329951286316f));
  p = fma(p, t, T::broadcast(-0.49999648332595825f));
  p = fma(p, t, T::broadcast(1.0f));
  return fma(p, t, relu(x));
}

/// log(1 + exp(x)).
template <class T>
REHYAT_INLINE T softplus(T x) {
  return softplus_of_exp(x, exp_of_minus(abs(x)));
}

/// elu(x) + 1: x + 1 above 0, exp(x) below.
template <class T>
REHYAT_INLINE T elu1(T x) {
  const T zero = T::broadcast(0.0f);
  return select(less(zero, x), x + T::broadcast(1.0f), exp_of_minus(relu(zero - x)));
}

template <class T, class F>
REHYAT_INLINE void transform(float* x, int64_t count, F f) {
  for (int64_t i = 0; i < count; i += T::lanes) f(T::load(x + i)).store(x + i);
}

/// Applies an activation to `count` floats, a multiple of the lanes.
template <class T>
inline void activate(Activation activation, float* x, int64_t count) {
  switch (activation) {
    case Activation::identity:
      return;
    case Activation::relu:
      return transform<T>(x, count, [](T y) { return relu(y); });
    case Activation::gelu:
      return transform<T>(x, count, [](T y) { return gelu(y); });
    case Activation::silu:
      return transform<T>(x, count, [](T y) { return silu(y); });
    case Activation::softplus:
      return transform<T>(x, count, [](T y) { return softplus(y); });
    case Activation::elu1:
      return transform<T>(x, count, [](T y) { return elu1(y); });
  }
}

REHYAT_END_ISA_NAMESPACE
