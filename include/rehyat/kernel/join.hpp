#pragma once
// The joint normalisation: what the softmax and the linear branch gave becomes one output.

#include "rehyat/kernel/exp.hpp"
#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// x = m 2^e with 1/2 <= |m| < 1: e for finite x != 0, subnormals included.
inline int exponent_of(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const int biased = static_cast<int>((bits >> 23) & 0xff);
  if (biased != 0) return biased - 126;
  const std::uint32_t mantissa = bits & 0x7fffff;
  return -117 - __builtin_clz(mantissa);
}

/// 2^n for n from -126 to 127.
inline float power_of_two(int n) {
  const std::uint32_t bits = static_cast<std::uint32_t>(n + 127) << 23;
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

/// 2^x for x <= 0 in two parts. exp2_nonpositive is 0 below 2^-126, but what is scaled may be as large as
/// 2^128, and sums may be subnormal. The second part is 1 except where the first alone would not do.
struct PowerOfTwo {
  float first[query_block];
  float second[query_block];

  REHYAT_INLINE void set(int lane, V x) {
    const V nearer = max(x, V::broadcast(-100.0f));
    exp2_nonpositive(nearer).store(first + lane);
    exp2_nonpositive(x - nearer).store(second + lane);
  }
  /// x 2^n, rounded once unless x itself nearly underflows: the second part leaves room for the first.
  REHYAT_INLINE V scale(int lane, V x) const { return apply_second(lane, x) * V::load(first + lane); }
  REHYAT_INLINE V scale_and_add(int lane, V x, V y) const {
    return fma(apply_second(lane, x), V::load(first + lane), y);
  }

 private:
  REHYAT_INLINE V apply_second(int lane, V x) const { return x * V::load(second + lane); }
};

/// The factors that bring both branches of the lanes of a block to a common shift without forming an
/// exponential of a positive number (Stabilizer::none): shift = max(row max, exponent of the largest linear
/// entry), in log 2.
struct BranchScales {
  float linear_first[query_block];  ///< 2^-exponent in two parts: 2^149 for the smallest subnormal would
                                    ///< overflow
  float linear_second[query_block];
  PowerOfTwo linear;  ///< apart from them: their product could underflow
  PowerOfTwo softmax;
};

/// `largest[i]`: greatest finite magnitude among the linear numerators and the denominator of lane i, 0 if
/// all are 0.
template <int C>
inline void common_shift(BranchScales& scales, const float* row_max, const float* largest) {
  float shift[query_block];
  float excess[query_block];  // linear exponent - shift, not positive
  for (int i = 0; i < C * V::lanes; ++i) {
    shift[i] = row_max[i];
    excess[i] = -infinity;
    scales.linear_first[i] = scales.linear_second[i] = 0.0f;
    if (largest[i] > 0.0f) {
      const int exponent = exponent_of(largest[i]);
      const float e = static_cast<float>(exponent);
      if (e > shift[i]) shift[i] = e;
      excess[i] = e - shift[i];
      scales.linear_first[i] = power_of_two(-(exponent / 2));
      scales.linear_second[i] = power_of_two(-(exponent - exponent / 2));
    }
  }
  for (int c = 0; c < C; ++c) {
    const int i = c * V::lanes;
    scales.softmax.set(i, V::load(row_max + i) - V::load(shift + i));
    scales.linear.set(i, V::load(excess + i));
  }
}

/// Greatest finite magnitude per lane of `rows` rows of C vectors and of one more row.
template <int C>
inline void largest_finite(float* largest, const float* rows, int64_t num_rows, const float* one_more) {
  const V zero = V::broadcast(0.0f), limit = V::broadcast(infinity);
  Lanes<C> top;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) top[c] = zero;
  for (int64_t r = 0; r <= num_rows; ++r) {
    const float* row = r < num_rows ? rows + r * C * V::lanes : one_more;
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V x = abs(V::load(row + c * V::lanes));
      top[c] = max(select(less(x, limit), x, zero), top[c]);
    }
  }
  REHYAT_UNROLL for (int c = 0; c < C; ++c) top[c].store(largest + c * V::lanes);
}

/// numerators[d][lane] /= denominator[lane]. One division a lane where its reciprocal is a normal number,
/// division throughout where it is not; decided lane by lane, so that a row does not depend on its
/// neighbours.
template <int C>
inline void divide_rows(float* numerators, int64_t rows, const float* denominator) {
  const V tiny = V::broadcast(0x1p-120f), huge = V::broadcast(0x1p+120f), one = V::broadcast(1.0f);
  Lanes<C> den, reciprocal;
  typename V::Mask plain[static_cast<std::size_t>(C)];
  bool all_plain = true;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    den[c] = V::load(denominator + c * V::lanes);
    reciprocal[c] = one / den[c];
    const V magnitude = abs(den[c]);
    // 1 where the reciprocal will do, else 0; NaN is not plain
    const V flag = select(less(tiny, magnitude), select(less(magnitude, huge), one, V::broadcast(0.0f)),
                          V::broadcast(0.0f));
    plain[c] = less(V::broadcast(0.5f), flag);
    all_plain = all_plain && !V::any(less(flag, V::broadcast(0.5f)));
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* row = numerators + r * C * V::lanes;
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V x = V::load(row + c * V::lanes);
      const V y = x * reciprocal[c];
      (all_plain ? y : select(plain[c], y, x / den[c])).store(row + c * V::lanes);
    }
  }
}

/// Adds `count` denominators to a report.
inline void report_denominators(DenominatorReport& report, const float* denominator, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float d = denominator[i];
    const float magnitude = d < 0.0f ? -d : d;
    if (d != d) ++report.nan_count;
    if (d < report.smallest) report.smallest = d;
    if (magnitude < report.smallest_magnitude) report.smallest_magnitude = magnitude;
  }
}

/// The caller's epsilon (added), then his floor (on the magnitude, sign kept), applied to `count`
/// denominators.
inline void guard_denominators(float* denominator, int64_t count, float epsilon, float floor) {
  for (int64_t i = 0; i < count; ++i) {
    float d = denominator[i] + epsilon;
    const float magnitude = d < 0.0f ? -d : d;
    if (magnitude < floor) d = __builtin_copysignf(floor, d);
    denominator[i] = d;
  }
}

REHYAT_END_ISA_NAMESPACE
