#pragma once
// Exponentials and activations of what is rounded to narrow elements next: shorter than those of float32, and
// without their divisions, which take longer than all else in them.

#include "rehyat/kernel/exp.hpp"
#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// 2^x for x <= 0 from -126 on, below that 2^-126; exactly 1 at 0; relative error 3e-6 (minimax over [0, 1]).
REHYAT_INLINE V short_exp2(V x) {
  x = max(x, V::broadcast(least_exponent));
  const V n = whole(x), r = fraction(x, n);
  V p = V::broadcast(0.013426687f);
  p = fma(p, r, V::broadcast(0.052242473f));
  p = fma(p, r, V::broadcast(0.24128021f));
  p = fma(p, r, V::broadcast(0.69304484f));
  return scale(fma(p, r, V::broadcast(1.0f)), n);
}

/// log(1 + exp(x)) = max(x, 0) + log1p(t), t = exp(-|x|), log1p(t) / t by a polynomial of degree 4 over
/// [0, 1]: relative error 7e-5, also of small values.
REHYAT_INLINE V short_softplus(V x) {
  const V t = short_exp2(abs(x) * V::broadcast(-1.44269504088896341f));
  V p = V::broadcast(0.04245949f);
  p = fma(p, t, V::broadcast(-0.15965578f));
  p = fma(p, t, V::broadcast(0.30769757f));
  p = fma(p, t, V::broadcast(-0.49725833f));
  p = fma(p, t, V::broadcast(0.99995211f));
  return fma(p, t, relu(x));
}

/// x Phi(x) = max(x, 0) - a Phi(-a), a = |x|; the last by a polynomial of degree 7 over [0, 4], which begins
/// with a / 2. Error 2e-4, and 1.4e-3 of small values: a byte of hidden units of 3 steps by 1.2e-2.
REHYAT_INLINE V short_gelu(V x) {
  const V a = min(V::broadcast(4.0f), abs(x));
  V p = V::broadcast(-0.00064654101f);
  p = fma(p, a, V::broadcast(0.0099780997f));
  p = fma(p, a, V::broadcast(-0.05791451f));
  p = fma(p, a, V::broadcast(0.14106506f));
  p = fma(p, a, V::broadcast(-0.044641778f));
  p = fma(p, a, V::broadcast(-0.38928542f));
  p = fma(p, a, V::broadcast(0.5f));
  return fma(p, V::broadcast(0.0f) - a, relu(x));
}

/// Applies an activation to `count` floats, a multiple of the lanes.
inline void short_activate(Activation activation, float* x, int64_t count) {
  switch (activation) {
    case Activation::gelu:
      return transform<V>(x, count, [](V y) { return short_gelu(y); });
    case Activation::softplus:
      return transform<V>(x, count, [](V y) { return short_softplus(y); });
    case Activation::identity:
    case Activation::relu:
    case Activation::silu:
    case Activation::elu1:
      return activate<V>(activation, x, count);
  }
}

REHYAT_END_ISA_NAMESPACE
