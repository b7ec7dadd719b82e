#pragma once
// Transposes between rows of the caller and columns of lanes, and the check for values that are not finite.

#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Rows at least so many floats apart (half a page) are far: a column of them needs a page table entry for
/// each, and the same few sets of the first-level cache for all. They are copied before they are read again
/// and again.
inline constexpr int64_t far_stride = 512;

/// Some rows of the caller's memory, `dim` floats each. With skip_rate R >= 2 row i is the i-th of those
/// whose index is no multiple of R.
struct SourceRows {
  const float* data;
  int64_t stride;
  int64_t dim;
  int64_t skip_rate = 0;

  REHYAT_INLINE int64_t index(int64_t i) const { return skip_rate == 0 ? i : i + i / (skip_rate - 1) + 1; }
  REHYAT_INLINE const float* row(int64_t i) const { return data + index(i) * stride; }
};

/// A square of lanes x lanes elements.
struct Square {
  V row[static_cast<std::size_t>(V::lanes)];

  /// Rows become columns: log2(lanes) times, row i and row i + lanes / 2 are interleaved into rows 2 i and 2
  /// i + 1.
  REHYAT_INLINE void transpose() {
    constexpr int half = V::lanes / 2;
    REHYAT_UNROLL for (int done = 1; done < V::lanes; done *= 2) {
      V next[static_cast<std::size_t>(V::lanes)];
      REHYAT_UNROLL for (int i = 0; i < half; ++i) {
        next[2 * i] = interleave_low(row[i], row[i + half]);
        next[2 * i + 1] = interleave_high(row[i], row[i + half]);
      }
      REHYAT_UNROLL for (int i = 0; i < V::lanes; ++i) row[i] = next[i];
    }
  }
};

/// packed[d * stride + i] = source row (first + i)[d] * factor for i < count, 0 for count <= i < width, a
/// multiple of the lanes.
inline void pack_transposed(float* packed, int64_t stride, int64_t width, SourceRows source, int64_t first,
                            int64_t count, float factor) {
  const V scale = V::broadcast(factor);
  for (int64_t i = 0; i < width; i += V::lanes) {
    const int64_t rows = count - i < V::lanes ? count - i : V::lanes;
    int64_t d = 0;
    for (; d + V::lanes <= source.dim; d += V::lanes) {
      Square square;
      REHYAT_UNROLL for (int r = 0; r < V::lanes; ++r) {
        square.row[r] = r < rows ? V::load(source.row(first + i + r) + d) : V::broadcast(0.0f);
      }
      square.transpose();
      REHYAT_UNROLL for (int c = 0; c < V::lanes; ++c)(square.row[c] * scale)
          .store(packed + (d + c) * stride + i);
    }
    for (; d < source.dim; ++d) {
      for (int r = 0; r < V::lanes; ++r) {
        packed[d * stride + i + r] = r < rows ? source.row(first + i + r)[d] * factor : 0.0f;
      }
    }
  }
}

/// Row i of `count` rows, at out + i * row_stride, = columns[d * width + i] for d < dim.
inline void unpack_transposed(float* out, int64_t row_stride, const float* columns, int64_t width,
                              int64_t count, int64_t dim) {
  for (int64_t i = 0; i < count; i += V::lanes) {
    const int64_t rows = count - i < V::lanes ? count - i : V::lanes;
    int64_t d = 0;
    for (; d + V::lanes <= dim; d += V::lanes) {
      Square square;
      REHYAT_UNROLL for (int c = 0; c < V::lanes; ++c) square.row[c] = V::load(columns + (d + c) * width + i);
      square.transpose();
      REHYAT_UNROLL for (int r = 0; r < V::lanes; ++r) {
        if (r < rows) square.row[r].store(out + (i + r) * row_stride + d);
      }
    }
    for (; d < dim; ++d) {
      for (int64_t r = 0; r < rows; ++r) out[(i + r) * row_stride + d] = columns[d * width + i + r];
    }
  }
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
