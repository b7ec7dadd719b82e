#pragma once
// Products of matrices in rows, as training has them: tokens by features or units, weights, sums.

#include "rehyat/kernel/pack.hpp"
#include "rehyat/kernel/register_tile.hpp"
#include "rehyat/kernel/training_table.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Steps that a panel of the right operand holds. With AVX-512 192 * 48 * 4 = 36 KB: it stays in L1 while the
/// rows of the left one pass by, and is packed for 2 * rows flops an element. Rows of 128 floats read where
/// they lie would share an eighth of the cache's sets.
inline constexpr int64_t panel_steps = 192;

/// What one register tile's width of columns needs: steps [step, step + steps), columns [column, column +
/// columns).
struct Panel {
  float* packed;
  int64_t step, steps, column, columns;
};

/// packed[s][j] = right(step + s, column + j); 0 behind the last column.
template <int C>
inline void pack_panel(const Panel& p, const MatrixOperand& right) {
  constexpr int64_t width = C * V::lanes;
  if (right.transposed) {
    const HeadRows rows{right.data + p.column * right.stride + p.step, ElementType::float32, right.stride};
    return pack_elements_transposed<Float32>(p.packed, width, width, {rows, p.steps}, 0, p.columns, 1.0f);
  }
  const float* row = right.data + p.step * right.stride + p.column;
  const int64_t in_last = p.columns - (C - 1) * V::lanes;
  for (int64_t s = 0; s < p.steps; ++s, row += right.stride) {
    float* const to = p.packed + s * width;
    REHYAT_UNROLL for (int c = 0; c + 1 < C; ++c) V::load(row + c * V::lanes).store(to + c * V::lanes);
    V::load_first(row + width - V::lanes, in_last).store(to + width - V::lanes);
  }
}

/// to[j] = f(x[j], y[j]).
template <class F>
REHYAT_INLINE void combine(float* to, const float* x, const float* y, int64_t count, F f) {
  int64_t j = 0;
  for (; j + V::lanes <= count; j += V::lanes) f(V::load(x + j), V::load(y + j)).store(to + j);
  const int64_t rest = count - j;
  if (rest > 0) f(V::load_first(x + j, rest), V::load_first(y + j, rest)).store_first(to + j, rest);
}

/// Rows [row, row + rows) of the panel's columns: to = (start + tile) .* factor, from a tile in L1.
[[gnu::noinline]] inline void finish_tile(const float* tile, int64_t width, int64_t row, int64_t rows,
                                          const ProductTask& t, const Panel& p) {
  for (int64_t r = row; r < row + rows; ++r, tile += width) {
    float* const to = t.to + r * t.to_stride + p.column;
    const float* sum = tile;
    if (t.start != nullptr) {
      const float* const start = t.start + r * t.start_stride + p.column;
      combine(to, sum, start, p.columns, [](V x, V y) { return x + y; });
      sum = to;
    }
    if (t.factor != nullptr) {
      const float* const factor = t.factor + r * t.factor_stride + p.column;
      combine(to, sum, factor, p.columns, [](V x, V y) { return x * y; });
    } else if (t.start == nullptr) {
      combine(to, tile, tile, p.columns, [](V x, V) { return x; });
    }
  }
}

/// All rows of a panel's columns. A panel is summed from zero in registers: the rounding error grows with the
/// number of panels, not of steps.
template <int C>
inline void multiply_panel(const ProductTask& t, const Panel& p) {
  constexpr int64_t width = C * V::lanes;
  pack_panel<C>(p, t.right);
  const ColumnsInMemory columns{t.left.data + p.step * t.left.stride, t.left.stride};
  const RowsInMemory rows{t.left.data + p.step, t.left.stride};
  for_row_strips(t.rows, [&]<int R>(int64_t row) {
    RegisterTile<R, C> tile;
    tile.clear();
    if (t.left.transposed) {
      tile.multiply_add(columns, row, p.packed, width, p.steps);
    } else {
      tile.multiply_add(rows, row, p.packed, width, p.steps);
    }
    float sums[static_cast<std::size_t>(R * width)];
    tile.store(sums, width);
    finish_tile(sums, width, row, R, t, p);
  });
}

/// Columns in panels of nearly the same width, so that none is a vector alone where that can be helped.
inline void multiply(const ProductTask& task) {
  alignas(64) float packed[panel_steps * query_block];
  for (int64_t column = 0; column < task.columns;) {
    const int64_t vectors = (task.columns - column + V::lanes - 1) / V::lanes;
    const int64_t panels = (vectors + TileShape::vectors - 1) / TileShape::vectors;
    const int64_t of_panel = (vectors + panels - 1) / panels;
    const int64_t left = task.columns - column, width = of_panel * V::lanes;
    ProductTask part = task;
    for (int64_t step = 0; step < task.steps; step += panel_steps) {
      const int64_t steps = task.steps - step;
      const bool last = steps <= panel_steps;
      const Panel panel{packed, step, last ? steps : panel_steps, column, left < width ? left : width};
      part.factor = last ? task.factor : nullptr;
      for_vectors(of_panel, [&]<int C>() { multiply_panel<C>(part, panel); });
      part.start = task.to, part.start_stride = task.to_stride;
    }
    column += width;
  }
}

REHYAT_END_ISA_NAMESPACE
