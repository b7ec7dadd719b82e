#pragma once
// Between rows of the caller, of any element type, and float32: transposes to columns of lanes, copies, and
// the check for values that are not finite.

#include "rehyat/kernel/element.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Some rows of the caller's memory, `dim` elements each. With skip_rate R >= 2 row i is the i-th of those
/// whose index is no multiple of R.
struct SourceRows {
  HeadRows rows;
  int64_t dim;
  int64_t skip_rate = 0;

  REHYAT_INLINE int64_t index(int64_t i) const { return skip_rate == 0 ? i : i + i / (skip_rate - 1) + 1; }
  template <class E>
  REHYAT_INLINE const typename E::Storage* row(int64_t i) const {
    return static_cast<const typename E::Storage*>(rows.data) + index(i) * rows.stride;
  }
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

template <class E>
inline void pack_elements_transposed(float* packed, int64_t stride, int64_t width, SourceRows source,
                                     int64_t first, int64_t count, float factor) {
  const V scale = V::broadcast(factor);
  for (int64_t i = 0; i < width; i += V::lanes) {
    const int64_t rows = count - i < V::lanes ? count - i : V::lanes;
    int64_t d = 0;
    for (; d + V::lanes <= source.dim; d += V::lanes) {
      Square square;
      REHYAT_UNROLL for (int r = 0; r < V::lanes; ++r) {
        square.row[r] = r < rows ? E::load(source.row<E>(first + i + r) + d) : V::broadcast(0.0f);
      }
      square.transpose();
      REHYAT_UNROLL for (int c = 0; c < V::lanes; ++c)(square.row[c] * scale)
          .store(packed + (d + c) * stride + i);
    }
    for (; d < source.dim; ++d) {
      for (int r = 0; r < V::lanes; ++r) {
        packed[d * stride + i + r] = r < rows ? E::get(source.row<E>(first + i + r) + d) * factor : 0.0f;
      }
    }
  }
}

/// packed[d * stride + i] = source row (first + i)[d] * factor for i < count, 0 for count <= i < width, a
/// multiple of the lanes.
inline void pack_transposed(float* packed, int64_t stride, int64_t width, SourceRows source, int64_t first,
                            int64_t count, float factor) {
  with_element(source.rows.type, [&]<class E>(E) {
    pack_elements_transposed<E>(packed, stride, width, source, first, count, factor);
  });
}

template <class E>
inline void unpack_elements_transposed(typename E::Storage* out, int64_t row_stride, const float* columns,
                                       int64_t width, int64_t count, int64_t dim) {
  for (int64_t i = 0; i < count; i += V::lanes) {
    const int64_t rows = count - i < V::lanes ? count - i : V::lanes;
    int64_t d = 0;
    for (; d + V::lanes <= dim; d += V::lanes) {
      Square square;
      REHYAT_UNROLL for (int c = 0; c < V::lanes; ++c) square.row[c] = V::load(columns + (d + c) * width + i);
      square.transpose();
      REHYAT_UNROLL for (int r = 0; r < V::lanes; ++r) {
        if (r < rows) E::store(square.row[r], out + (i + r) * row_stride + d);
      }
    }
    for (; d < dim; ++d) {
      for (int64_t r = 0; r < rows; ++r) E::put(columns[d * width + i + r], out + (i + r) * row_stride + d);
    }
  }
}

/// Row i of `count` rows, at element i * row_stride of `out`, = columns[d * width + i] for d < dim.
inline void unpack_transposed(void* out, ElementType type, int64_t row_stride, const float* columns,
                              int64_t width, int64_t count, int64_t dim) {
  with_element(type, [&]<class E>(E) {
    unpack_elements_transposed<E>(static_cast<typename E::Storage*>(out), row_stride, columns, width, count,
                                  dim);
  });
}

/// Whether no element of the row is NaN or infinite: x * 0 is 0 for all others.
template <class E>
inline bool is_finite(const typename E::Storage* row, int64_t dim) {
  V sum = V::broadcast(0.0f);
  int64_t d = 0;
  for (; d + V::lanes <= dim; d += V::lanes) sum = fma(E::load(row + d), V::broadcast(0.0f), sum);
  float rest = 0.0f;
  for (; d < dim; ++d) rest += E::get(row + d) * 0.0f;
  return !any_nan(sum) && rest == rest;
}

/// Rows of one element type copied to rows of another; `width` elements each, those behind `dim` zero.
template <class From, class To>
inline void copy_elements(typename To::Storage* to, int64_t to_stride, int64_t width, SourceRows source,
                          int64_t first, int64_t count) {
  for (int64_t i = 0; i < count; ++i, to += to_stride) {
    const typename From::Storage* row = source.row<From>(first + i);
    int64_t d = 0;
    for (; d + V::lanes <= source.dim; d += V::lanes) To::store(From::load(row + d), to + d);
    for (; d < source.dim; ++d) To::put(From::get(row + d), to + d);
    for (; d < width; ++d) To::put(0.0f, to + d);
  }
}

/// Rows of `dim` elements copied to rows of `width` floats, the rest zero.
inline void copy_padded(float* packed, int64_t width, SourceRows source, int64_t first, int64_t count) {
  with_element(source.rows.type,
               [&]<class E>(E) { copy_elements<E, Float32>(packed, width, width, source, first, count); });
}

inline void convert(const ConvertTask& task) {
  with_element(task.from.type, [&]<class From>(From) {
    with_element(task.to_type, [&]<class To>(To) {
      copy_elements<From, To>(static_cast<typename To::Storage*>(task.to), task.to_stride, task.dim,
                              {task.from, task.dim}, 0, task.count);
    });
  });
}

REHYAT_END_ISA_NAMESPACE
