#pragma once
// The softmax branch of attend in 8-bit integers (Arithmetic::int8).
//
// AVX-512 VNNI multiplies 64 pairs of bytes where an FMA multiplies 16 of floats: per 128 keys and 48 queries
// of D = Dv = 128, two products of 12,288 vpdpbusd take 12,288 cycles together instead of 49,152. The weights
// between them are then a third of what is left, so their exponential has degree 4 (3e-6, while a weight is
// rounded to 1/255), and all per-key and per-query factors are folded into one multiply-add each.

#include "rehyat/kernel/int8_activation.hpp"
#include "rehyat/kernel/int8_quantise.hpp"
#include "rehyat/kernel/key_blocks.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// scores[key][query] = <q, k - centre> / query_scale, C vectors a row, and the largest of each lane.
template <int C>
inline void int8_scores(float* scores, Lanes<C>& top, const Int8Queries& q, const Int8Scratch& s,
                        int64_t keys, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) top[c] = V::broadcast(-infinity);
  for_row_strips(keys, [&]<int R>(int64_t key) {
    ahead.advance();
    IntegerTile<R, C> tile;
    tile.clear();
    tile.multiply_add(s.keys + key * s.key_stride, s.key_stride, 1, q.bytes, width, s.words);
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      const V scale = V::broadcast(s.key_scale[key + r]);
      const V start = V::broadcast((unsigned_shift - 128.0f) * s.key_sum[key + r]);
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        const V score = fma(to_float(tile.at[r][c]), scale, start);
        top[c] = max(top[c], score);
        score.store(scores + (key + r) * width + c * V::lanes);
      }
    }
  });
}

/// weights = exp2((score - top) * query_scale) in 255ths, and their sum before rounding.
template <int C>
inline void int8_weights(Word* weights, Lanes<C>& total, const float* scores, const Lanes<C>& top,
                         const float* query_scale, int64_t keys) {
  constexpr int64_t width = C * V::lanes;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) total[c] = V::broadcast(0.0f);
  const V bias = V::broadcast(unsigned_bias), most = V::broadcast(255.0f);
  for (int64_t key = 0; key < keys; key += bytes_per_word) {
    const int64_t rows = keys - key;
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V scale = V::load(query_scale + c * V::lanes);
      const float* const score = scores + key * width + c * V::lanes;
      V byte[static_cast<std::size_t>(bytes_per_word)];
      REHYAT_UNROLL for (int i = 0; i < bytes_per_word; ++i) {
        byte[i] = bias;
        if (i >= rows) continue;
        const V weight = exp2_for_bytes((V::load(score + i * width) - top[c]) * scale);
        total[c] = total[c] + weight;
        byte[i] = fma(weight, most, bias);
      }
      Bytes::lowest_of(byte[0], byte[1], byte[2], byte[3])
          .store(weights + key / bytes_per_word * width + c * V::lanes);
    }
  }
}

/// out[dim][lane] = rescale[lane] * out + block_factor[lane] * value_scale[dim] * sum over keys of weight *
/// value. The factors stay in memory: the tile and a step's operands leave room for 4 of them.
template <int C>
[[gnu::noinline]] inline void int8_values(float* out, int64_t value_dim, const float* rescale,
                                          const float* block_factor, const Int8Scratch& s, int64_t keys,
                                          RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  const int64_t steps = words_of(keys);
  for_row_strips(value_dim, [&]<int R>(int64_t dim) {
    ahead.advance();
    IntegerTile<R, C> tile;
    if constexpr (unsigned_shift == 0.0f) {
      tile.clear();
    } else {
      tile.start_rows(s.value_start + dim);
    }
    tile.multiply_add(s.values + dim, 1, s.value_stride, s.weights, width, steps);
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      const V scale = V::broadcast(s.value_scale[dim + r]);
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        float* const to = out + (dim + r) * width + c * V::lanes;
        const V sum = to_float(tile.at[r][c]) * (scale * V::load(block_factor + c * V::lanes));
        fma(V::load(to), V::load(rescale + c * V::lanes), sum).store(to);
      }
    }
  });
}

/// One query block over one key block. `poison` is NaN where the keys have a value that is not finite: it
/// reaches all rows.
template <int C>
inline void int8_step(const AttendTask& task, const QueryBlock& b, const Int8Queries& q, const Int8Scratch& s,
                      float* scores, int64_t keys, float poison, RowPrefetch& ahead) {
  Lanes<C> top, total;
  float rescale[query_block], block_factor[query_block];
  int8_scores<C>(scores, top, q, s, keys, ahead);
  int8_weights<C>(s.weights, total, scores, top, q.scale, keys);
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const int64_t i = c * V::lanes;
    const V block_max = fma(top[c], V::load(q.scale + i), V::load(q.mean + i) + V::broadcast(poison));
    const V before = V::load(b.softmax.running_max + i), now = max(before, block_max);
    now.store(b.softmax.running_max + i);
    const V shift = select(less(now, V::broadcast(lowest)), V::broadcast(0.0f), now);
    const V earlier = exp2_nonpositive(before - shift), factor = exp2_nonpositive(block_max - shift);
    fma(V::load(b.softmax.running_sum + i), earlier, total[c] * factor).store(b.softmax.running_sum + i);
    earlier.store(rescale + i);
    (factor * V::broadcast(1.0f / 255.0f)).store(block_factor + i);
  }
  int8_values<C>(b.out, task.dims.value_dim, rescale, block_factor, s, keys, ahead);
}

/// The softmax keys of a task. A block of keys and values is quantised once for all query blocks of the
/// group: 32 K elements for 768 queries' 50 M multiply-adds.
inline void add_int8_softmax(const AttendTask& task, const AttendScratch& a, const Int8Scratch& s) {
  const auto for_query_blocks = [&](auto use) {
    for (int64_t i = task.first_block; i < task.end_block; ++i) {
      const QueryBlock b = query_block_at(task, a, i);
      for_vectors(vectors_of(b), [&]<int C>() { use.template operator()<C>(b, queries_at(task, s, i)); });
    }
  };
  const int64_t head_dim = task.dims.head_dim;
  if (task.num_softmax > 0) {
    for_query_blocks([&]<int C>(const QueryBlock& b, const Int8Queries& q) {
      quantise_queries<C>(q, b.queries, head_dim);
    });
  }
  const bool prefetch = keys_leave_cache(task);
  KeyBlocks blocks(task);
  for (KeyRange keys = blocks.next(), next; keys.count > 0; keys = next) {
    if (const KeyRange* range = blocks.begun(); range != nullptr) {
      find_centre(s.centre, *range, head_dim);
      for_query_blocks([&]<int C>(const QueryBlock& b, const Int8Queries& q) {
        multiply_centre<C>(q.mean, b.queries, s.centre, head_dim);
      });
    }
    next = blocks.next();
    RowPrefetch ahead;
    if (prefetch) ahead = prefetch_after(task, keys, next);
    float poison = 0;
    with_element(keys.k.type, [&]<class E>(E) {
      const SourceRows rows{keys.k, head_dim};
      poison = quantise_rows({s.keys, s.key_stride, s.key_scale, s.key_sum}, keys.count, head_dim,
                             [&](int64_t i, int64_t d) {
                               return load_part<E>(rows.row<E>(i), d, head_dim) - V::load(s.centre + d);
                             });
    });
    with_element(keys.v.type, [&]<class E>(E) {
      const SourceRows values{keys.v, task.dims.value_dim};
      quantise_columns({s.values, s.value_stride, s.value_scale, nullptr, s.value_start}, keys.count,
                       values.dim,
                       [&](int64_t i, int64_t d) { return load_part<E>(values.row<E>(i), d, values.dim); });
    });
    for_query_blocks([&]<int C>(const QueryBlock& b, const Int8Queries& q) {
      int8_step<C>(task, b, q, s, a.weights, keys.count, poison, ahead);
    });
  }
}

REHYAT_END_ISA_NAMESPACE
