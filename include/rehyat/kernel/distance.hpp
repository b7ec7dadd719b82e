#pragma once
// The joint normalisation of distillation's outputs, their distance to the teacher's, and its derivative.

#include "rehyat/kernel/arch.hpp"
#include "rehyat/kernel/tile_shape.hpp"
#include "rehyat/kernel/training_table.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Sums of one row, by lane.
struct RowDistance {
  V difference, size;
  V along;  ///< sum of derivative times output
};

/// One vector of a row: y = numerator * inverse. Returns the derivative with respect to the numerator.
REHYAT_INLINE V add_distance(RowDistance& sum, V numerator, V teacher, V inverse, bool squares) {
  const V zero = V::broadcast(0.0f), one = V::broadcast(1.0f);
  const V y = numerator * inverse;
  const V e = y - teacher;
  V slope;
  if (squares) {
    sum.difference = fma(e, e, sum.difference);
    sum.size = fma(teacher, teacher, sum.size);
    slope = e + e;
  } else {
    sum.difference = sum.difference + abs(e);
    sum.size = sum.size + abs(teacher);
    slope = select(less(zero, e), one, select(less(e, zero), zero - one, zero));
  }
  const V d_numerator = slope * inverse;
  sum.along = fma(d_numerator, y, sum.along);
  return d_numerator;
}

/// Of all lanes, first to last.
REHYAT_INLINE float sum_of(V x) {
  float lanes[V::lanes];
  x.store(lanes);
  float sum = 0.0f;
  for (int l = 0; l < V::lanes; ++l) sum += lanes[l];
  return sum;
}

inline Distance distance(const DistanceTask& t) {
  const V zero = V::broadcast(0.0f);
  Distance total;
  for (int64_t i = 0; i < t.rows; ++i) {
    const float* const joint = t.joint + i * (t.channels + 1);
    const float* const teacher = t.teacher + i * t.channels;
    float* const d_joint = t.d_joint == nullptr ? nullptr : t.d_joint + i * (t.channels + 1);
    const V inverse = V::broadcast(1.0f / joint[t.channels]);
    RowDistance sum{zero, zero, zero};
    int64_t c = 0;
    for (; c + V::lanes <= t.channels; c += V::lanes) {
      const V d = add_distance(sum, V::load(joint + c), V::load(teacher + c), inverse, t.squares);
      if (d_joint != nullptr) d.store(d_joint + c);
    }
    if (const int64_t rest = t.channels - c; rest > 0) {  // lanes of zeros add nothing
      const V d = add_distance(sum, V::load_first(joint + c, rest), V::load_first(teacher + c, rest), inverse,
                               t.squares);
      if (d_joint != nullptr) d.store_first(d_joint + c, rest);
    }
    if (d_joint != nullptr) d_joint[t.channels] = -sum_of(sum.along);
    total.difference += static_cast<double>(sum_of(sum.difference));
    total.size += static_cast<double>(sum_of(sum.size));
  }
  return total;
}

REHYAT_END_ISA_NAMESPACE
