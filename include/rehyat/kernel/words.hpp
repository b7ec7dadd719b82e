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
//   take, and its value in units of the scale; encode_query, encode_weight, weight_unit: the same of queries,
//   and of softmax weights up to 1.
// - is_offset: elements of lanes count from something else than 0, and sums of rows make up for it.
//   Start, start(), row_start(): that, of sums over keys and of scores.

#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Narrow elements in the scratch memory of a task.
typedef std::uint32_t __attribute__((__may_alias__)) Word;

/// Words that hold so many elements.
template <class Format>
constexpr int64_t words_of(int64_t elements) {
  return (elements + Format::per_word - 1) / Format::per_word;
}

REHYAT_END_ISA_NAMESPACE
