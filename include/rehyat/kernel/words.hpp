#pragma once
// Words of several narrow elements, a lane each: what the kernels of an arithmetic besides float32 multiply.
//
// Such an arithmetic is a Format, which the templates of narrow_*.hpp take:
//
// - per_word: elements of a word; their products are summed within a lane.
// - Words: a vector of words, with store and store_first.
// - Tile<R, C>, rows: R x C vectors of sums of products, with clear, multiply_add, and value(r, c) as floats;
//   R of a whole one.
// - SumTile, sum_rows: the same for sums over keys and features, a share of whose error is one of the output.
// - limit: the largest magnitude of what a scale was divided out of.
// - encode(x, inverse of the scale), decode: an element as a vector of floats that pack() and store_row()
//   take, and its value in units of the scale.
// - sum_unit: what tile.raw() of products with softmax weights counts.
// - is_offset: elements of lanes count from something else than 0, and sums of rows make up for it.
//   Start, start(): that, of sums over keys.

#include "rehyat/kernel/register_tile.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Narrow elements in the scratch memory of a task.
typedef std::uint32_t __attribute__((__may_alias__)) Word;

/// Words that hold so many elements.
template <class Format>
constexpr int64_t words_of(int64_t elements) {
  return (elements + Format::per_word - 1) / Format::per_word;
}

/// R x C vectors of sums of products, as RegisterTile has them of floats. dot(sum, x, y) adds the products of
/// each lane's elements to a vector of Sums.
template <class Words, class Sums, int R, int C>
struct WordTile {
  Sums at[static_cast<std::size_t>(R)][static_cast<std::size_t>(C)];

  REHYAT_INLINE void clear() {
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) at[r][c] = Sums::zero();
    }
  }

  REHYAT_INLINE V value(int r, int c) const { return to_float(at[r][c]); }
  REHYAT_INLINE V raw(int r, int c) const { return raw_float(at[r][c]); }  ///< less a factor of the format

  /// at[r][c] += sum over steps of b[step * b_stride + c * lanes] * a[r * row_stride + step * step_stride],
  /// word by word; bytes of b are unsigned, those of a signed.
  REHYAT_INLINE void multiply_add(const Word* a, int64_t row_stride, int64_t step_stride, const Word* b,
                                  int64_t b_stride, int64_t steps) {
    REHYAT_UNROLL_STEPS for (int64_t s = 0; s < steps; ++s, a += step_stride, b += b_stride) {
      Words x[static_cast<std::size_t>(C)];
      REHYAT_UNROLL for (int c = 0; c < C; ++c) x[c] = Words::load(b + c * V::lanes);
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        const auto y = Words::broadcast_at(a + r * row_stride);
        REHYAT_UNROLL for (int c = 0; c < C; ++c) at[r][c] = dot(at[r][c], x[c], y);
        keep_row_order();
      }
    }
  }
};

REHYAT_END_ISA_NAMESPACE
