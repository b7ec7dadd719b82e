#pragma once
// The one loop nest that all multiply-adds of the library run in.
//
// Queries (or tokens) are in the lanes, so every product of the operators has the same form: rows of scalars,
// read where they lie and broadcast, times vectors of a packed or natural row:
//
//   scores^T[key][query]    += K[key][d]       * Q^T[d][query]       a: K, its row stride, step 1
//   layer^T[unit][token]    += W[unit][in]     * X^T[in][token]      a: W, its row stride, step 1
//   out^T[dim][query]       += V[key][dim]     * P[key][query]       a: V, row stride 1, step its row stride
//   out^T[dim][query]       += A[feature][dim] * Phi^T[feature][query]
//   A[feature][dim]         += Phi^T[feature][token] * V[token][dim] b: V itself
//
// No horizontal reductions, no packing of K, V, W or A.

#include "rehyat/kernel/prefetch.hpp"
#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Where the broadcast scalars lie: element (row, step) at data + row * row_stride + step * step_stride.
struct RowsInMemory {  ///< each row contiguous over the steps
  const float* data;
  int64_t row_stride;
  REHYAT_INLINE const float* at(int64_t row, int64_t step) const { return data + row * row_stride + step; }
};
struct ColumnsInMemory {  ///< each step contiguous over the rows
  const float* data;
  int64_t step_stride;
  REHYAT_INLINE const float* at(int64_t row, int64_t step) const { return data + step * step_stride + row; }
};

/// GCC would load all scalars of a step before its first multiplication: with 24 accumulators more than NEON
/// has registers for, and a store and a load of some of them in every step. The rows stay in the order
/// written.
REHYAT_INLINE void keep_row_order() {
#if defined(REHYAT_KERNEL_ISA_NEON) && !defined(__clang__)
  __asm__ volatile("" ::: "memory");
#endif
}

/// R x C vectors of accumulators that live in registers.
template <int R, int C>
struct RegisterTile {
  Lanes<C> at[static_cast<std::size_t>(R)];

  REHYAT_INLINE void clear() {
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) at[r][c] = V::broadcast(0.0f);
    }
  }

  /// Row r starts at p + r * stride.
  REHYAT_INLINE void load(const float* p, int64_t stride) {
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) at[r][c] = V::load(p + r * stride + c * V::lanes);
    }
  }

  REHYAT_INLINE void store(float* p, int64_t stride) const {
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) at[r][c].store(p + r * stride + c * V::lanes);
    }
  }

  /// at[r][c] += sum over steps of a(r, step) * b[step * b_stride + c * lanes]; steps in order, one fma each.
  template <class Source>
  REHYAT_INLINE void multiply_add(Source a, int64_t first_row, const float* b, int64_t b_stride,
                                  int64_t steps) {
    REHYAT_UNROLL_STEPS for (int64_t s = 0; s < steps; ++s, b += b_stride) {
      Lanes<C> x;
      REHYAT_UNROLL for (int c = 0; c < C; ++c) x[c] = V::load(b + c * V::lanes);
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        const V y = V::broadcast(*a.at(first_row + r, s));
        REHYAT_UNROLL for (int c = 0; c < C; ++c) at[r][c] = fma(y, x[c], at[r][c]);
        keep_row_order();
      }
    }
  }
};

/// Calls f.template operator()<R>(first_row) for strips that cover [0, rows): whole tiles of `most` rows,
/// then 4, 2 and 1 rows.
template <int most = TileShape::rows, class F>
REHYAT_INLINE void for_row_strips(int64_t rows, F f) {
  int64_t row = 0;
  for (; row + most <= rows; row += most) f.template operator()<most>(row);
  if constexpr (most > 4) {
    if (rows - row >= 4) {
      f.template operator()<4>(row);
      row += 4;
    }
  }
  if (rows - row >= 2) {
    f.template operator()<2>(row);
    row += 2;
  }
  if (rows - row >= 1) f.template operator()<1>(row);
}

/// Calls f.template operator()<C>() with C = vectors, 1 to TileShape::vectors.
template <class F>
REHYAT_INLINE void for_vectors(int64_t vectors, F f) {
  switch (vectors) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    default:
      return f.template operator()<3>();
  }
}
static_assert(TileShape::vectors == 3);

/// out[row][lane] = factor[lane] * out[row][lane] + sum over steps of a(row, step) * b[step][lane], for C
/// vectors of lanes; rows of out and b are `stride` floats apart. The value product and the state read.
/// `ahead` advances once a strip.
template <int C, class Source>
inline void accumulate(float* out, int64_t rows, const float* factor, Source a, const float* b,
                       int64_t stride, int64_t steps, RowPrefetch& ahead) {
  for_row_strips(rows, [&]<int R>(int64_t row) {
    ahead.advance();
    RegisterTile<R, C> tile;
    tile.load(out + row * stride, stride);
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V f = V::load(factor + c * V::lanes);
      REHYAT_UNROLL for (int r = 0; r < R; ++r) tile.at[r][c] = tile.at[r][c] * f;
    }
    tile.multiply_add(a, row, b, stride, steps);
    tile.store(out + row * stride, stride);
  });
}

REHYAT_END_ISA_NAMESPACE
