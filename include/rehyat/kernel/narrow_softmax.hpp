#pragma once
// The softmax branch of attend in narrow elements: Arithmetic::int8 and float16.
//
// AVX-512 VNNI multiplies 64 pairs of bytes where an FMA multiplies 16 of floats: per 128 keys and 48 queries
// of D = Dv = 128, two products of 12,288 vpdpbusd take 12,288 cycles together instead of 49,152, and of
// halves 24,576. The weights between them are then a third of what is left, so each format has its own way to
// make them.

#include "rehyat/kernel/byte_softmax.hpp"
#include "rehyat/kernel/half_softmax.hpp"
#include "rehyat/kernel/key_blocks.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// out[dim][lane] = rescale[lane] * out + block_factor[lane] * value_scale[dim] * sum over keys of weight *
/// value. The factors stay in memory: the tile and a step's operands leave room for 4 of them.
template <class Format, int C>
[[gnu::noinline]] inline void narrow_values(float* out, int64_t value_dim, const float* rescale,
                                            const float* block_factor, const NarrowScratch<Format>& s,
                                            int64_t keys, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  const int64_t steps = words_of<Format>(keys);
  for_row_strips<Format::sum_rows>(value_dim, [&]<int R>(int64_t dim) {
    ahead.advance();
    typename Format::template SumTile<R, C> tile;
    Format::start(tile, s.value_start + dim);
    tile.multiply_add(column_at(s.values, s.value_panel, dim), 1, column_panel, s.weights, width, steps);
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      const V scale = V::broadcast(s.value_scale[dim + r]);
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        float* const to = out + (dim + r) * width + c * V::lanes;
        const V sum = tile.raw(r, c) * V::load(block_factor + c * V::lanes) * scale;
        fma(V::load(to), V::load(rescale + c * V::lanes), sum).store(to);
      }
    }
  });
}

/// One query block over one key block. `poison` is NaN where the keys have a value that is not finite: it
/// reaches all rows.
template <class Format, int C>
inline void narrow_step(const AttendTask& task, const QueryBlock& b, const NarrowQueries& q,
                        const NarrowScratch<Format>& s, float* scores, int64_t keys, float poison,
                        RowPrefetch& ahead) {
  BlockWeights<C> of;
  float rescale[query_block], block_factor[query_block];
  block_weights<C>(Format(), of, q, s, scores, keys, ahead);
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const int64_t i = c * V::lanes;
    const V block_max = fma(of.top[c], of.exponent[c], V::load(q.mean + i) + V::broadcast(poison));
    const V before = V::load(b.softmax.running_max + i), now = max(before, block_max);
    now.store(b.softmax.running_max + i);
    const V shift = select(less(now, V::broadcast(lowest)), V::broadcast(0.0f), now);
    const V earlier = exp2_nonpositive(before - shift), factor = exp2_nonpositive(block_max - shift);
    fma(V::load(b.softmax.running_sum + i), earlier, of.total[c] * factor).store(b.softmax.running_sum + i);
    earlier.store(rescale + i);
    (factor * V::broadcast(Format::sum_unit)).store(block_factor + i);
  }
  narrow_values<Format, C>(b.out, task.dims.value_dim, rescale, block_factor, s, keys, ahead);
}

/// The softmax keys of a task. A block of keys and values is quantised once for all query blocks of the
/// group: 32 K elements for 1,200 queries' 39 M multiply-adds.
template <class Format>
inline void add_narrow_softmax(const AttendTask& task, const AttendScratch& a,
                               const NarrowScratch<Format>& s) {
  const auto for_query_blocks = [&](auto use) {
    for (int64_t i = task.first_block; i < task.end_block; ++i) {
      const QueryBlock b = query_block_at(task, a, i);
      for_vectors(vectors_of(b), [&]<int C>() { use.template operator()<C>(b, queries_at(task, s, i)); });
    }
  };
  const int64_t head_dim = task.dims.head_dim;
  if (task.num_softmax > 0) {
    for_query_blocks([&]<int C>(const QueryBlock& b, const NarrowQueries& q) {
      quantise_queries<C>(Format(), q, b.queries, head_dim);
    });
  }
  const bool prefetch = keys_leave_cache(task);
  KeyBlocks blocks(task);
  for (KeyRange keys = blocks.next(), next; keys.count > 0; keys = next) {
    if (const KeyRange* range = blocks.begun(); range != nullptr) {
      find_centre(s.centre, *range, head_dim);
      for_query_blocks([&]<int C>(const QueryBlock& b, const NarrowQueries& q) {
        multiply_centre<C>(q.mean, b.queries, s.centre, head_dim);
      });
    }
    next = blocks.next();
    RowPrefetch ahead;
    if (prefetch) ahead = prefetch_after(task, blocks, keys, next);
    float poison = 0;
    with_element(keys.k.type, [&]<class E>(E) {
      const SourceRows rows{keys.k, head_dim};
      const NarrowRows to{s.keys, s.key_stride, s.key_scale, s.key_sum};
      poison = quantise_keys(Format(), to, keys.count, head_dim, [=, centre = s.centre](int64_t i) {
        return [row = ElementRow<E>{rows.row<E>(i), rows.dim}, centre](int64_t d) {
          return row(d) - V::load(centre + d);
        };
      });
    });
    with_element(keys.v.type, [&]<class E>(E) {
      const SourceRows rows{keys.v, task.dims.value_dim};
      quantise_columns<Format>({s.values, s.value_panel, s.value_scale, nullptr, s.value_start}, keys.count,
                               rows.dim, [=](int64_t i) {
                                 return ElementRow<E>{rows.row<E>(i), rows.dim};
                               });
    });
    for_query_blocks([&]<int C>(const QueryBlock& b, const NarrowQueries& q) {
      narrow_step<Format, C>(task, b, q, s, a.weights, keys.count, poison, ahead);
    });
  }
}

REHYAT_END_ISA_NAMESPACE
