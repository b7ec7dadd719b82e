#pragma once
// What an attend task works on: its scratch memory and its blocks of queries.

#include "rehyat/kernel/online_softmax.hpp"
#include "rehyat/kernel/pack.hpp"
#include "rehyat/kernel/scratch.hpp"
#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The scratch of one task: arrays per query block of the group, then what the blocks share.
struct AttendScratch {
  float* queries;   ///< per block: Q^T [head_dim][query_block], scaled
  float* out;       ///< per block: out^T [value_dim][query_block], not yet normalised
  float* max;       ///< per block
  float* sum;       ///< per block
  float* weights;   ///< [key_block][query_block]
  float* features;  ///< [feature_dim][query_block]
  float* buffers;   ///< 2 x [widest_layer][query_block]
  float* linear;    ///< [value_dim][query_block], Stabilizer::none only
  float* keys;      ///< [key_block][head_dim], see gather_keys
  float* values;    ///< [key_block][value_dim]
  int64_t size;

  static AttendScratch lay_out(const Dims& d, int64_t blocks, float* base) {
    AttendScratch s{};
    ScratchCutter cut{base};
    const auto take = [&](int64_t rows) { return cut(rows * query_block); };
    s.queries = take(blocks * d.head_dim);
    s.out = take(blocks * d.value_dim);
    s.max = take(blocks);
    s.sum = take(blocks);
    s.weights = take(key_block);
    s.features = take(d.feature_dim);
    s.buffers = take(2 * d.widest_layer);
    s.linear = take(d.feature_dim == 0 ? 0 : d.value_dim);
    s.keys = take((key_block * d.head_dim + query_block - 1) / query_block);
    s.values = take((key_block * d.value_dim + query_block - 1) / query_block);
    s.size = cut.used;
    return s;
  }
};

/// One query block of a task: which queries, and where its running results are.
struct QueryBlock {
  int64_t head;
  int64_t first;  ///< query
  int64_t count;
  float* queries;
  float* out;
  OnlineSoftmax softmax;
};

inline QueryBlock query_block_at(const AttendTask& task, const AttendScratch& s, int64_t block) {
  const int64_t per_head = (task.query_count + query_block - 1) / query_block;
  const int64_t index = block - task.first_block;
  const int64_t first = block % per_head * query_block;
  const int64_t rest = task.query_count - first;
  return {
      .head = task.first_head + block / per_head,
      .first = first,
      .count = rest < query_block ? rest : query_block,
      .queries = s.queries + index * task.dims.head_dim * query_block,
      .out = s.out + index * task.dims.value_dim * query_block,
      .softmax = {.running_max = s.max + index * query_block, .running_sum = s.sum + index * query_block}};
}

REHYAT_INLINE int64_t vectors_of(const QueryBlock& block) { return (block.count + V::lanes - 1) / V::lanes; }

inline SourceRows rows_of(ElementRows<const void> rows, int64_t head, int64_t dim) {
  const void* data = element_at(rows.data, rows.type, head * rows.head_stride);
  return {.rows = {data, rows.type, rows.token_stride}, .dim = dim};
}

REHYAT_END_ISA_NAMESPACE
