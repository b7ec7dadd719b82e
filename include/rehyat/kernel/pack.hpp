#pragma once
// Transposes between rows of the caller and columns of lanes, and the check for values that are not finite.

#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Some rows of the caller's memory, `dim` floats each. With skip_rate R >= 2 row i is the i-th of those whose index
/// is no multiple of R.
struct SourceRows {
  const float* data;
  int64_t stride;
  int64_t dim;
  int64_t skip_rate = 0;

  REHYAT_INLINE int64_t index(int64_t i) const { return skip_rate == 0 ? i : i + i / (skip_rate - 1) + 1; }
  REHYAT_INLINE const float* row(int64_t i) const { return data + index(i) * stride; }
};

/// packed[d * stride + i] = source row (first + i)[d] * factor for i < count, 0 for count <= i < width.
inline void pack_transposed(float* packed, int64_t stride, int64_t width, SourceRows source, int64_t first, int64_t count,
                            float factor) {
  for (int64_t i = 0; i < count; ++i) {
    const float* row = source.row(first + i);
    for (int64_t d = 0; d < source.dim; ++d) packed[d * stride + i] = row[d] * factor;
  }
  for (int64_t i = count; i < width; ++i) {
    for (int64_t d = 0; d < source.dim; ++d) packed[d * stride + i] = 0.0f;
  }
}

/// row[d] = columns[d * stride] for d < dim.
inline void unpack_column(float* row, const float* columns, int64_t stride, int64_t dim) {
  for (int64_t d = 0; d < dim; ++d) row[d] = columns[d * stride];
}

/// Whether no element of the row is NaN or infinite: x * 0 is 0 for all others.
inline bool is_finite(const float* row, int64_t dim) {
  V sum = V::broadcast(0.0f);
  int64_t d = 0;
  for (; d + V::lanes <= dim; d += V::lanes) sum = fma(V::load(row + d), V::broadcast(0.0f), sum);
  float rest = 0.0f;
  for (; d < dim; ++d) rest += row[d] * 0.0f;
  return !any_nan(sum) && rest == rest;
}

/// Rows of `dim` floats copied to rows of `width` floats, the rest zero.
inline void copy_padded(float* packed, int64_t width, SourceRows source, int64_t first, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float* row = source.row(first + i);
    float* to = packed + i * width;
    for (int64_t d = 0; d < source.dim; ++d) to[d] = row[d];
    for (int64_t d = source.dim; d < width; ++d) to[d] = 0.0f;
  }
}

REHYAT_END_ISA_NAMESPACE
