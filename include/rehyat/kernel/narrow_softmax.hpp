#pragma once
// The softmax branch of attend in narrow elements: Arithmetic::int8 and float16.
//
// AVX-512 VNNI multiplies 64 pairs of bytes where an FMA multiplies 16 of floats: per 128 keys and 48 queries
// of D = Dv = 128, two products of 12,288 vpdpbusd take 12,288 cycles together instead of 49,152. The weights
// between them are then a third of what is left, so their exponential has degree 4 (3e-6, while a weight is
// rounded to 1/255), and all per-key and per-query factors are folded into one multiply-add each.

#include "rehyat/kernel/key_blocks.hpp"
#include "rehyat/kernel/narrow_activation.hpp"
#include "rehyat/kernel/narrow_quantise.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// scores[key][query] = <q, k - centre> / query_scale, C vectors a row, and the largest of each lane.
template <class Format, int C>
inline void narrow_scores(float* scores, Lanes<C>& top, const NarrowQueries& q,
                          const NarrowScratch<Format>& s, int64_t keys, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) top[c] = V::broadcast(-infinity);
  for_row_strips<Format::rows>(keys, [&]<int R>(int64_t key) {
    ahead.advance();
    typename Format::template Tile<R, C> tile;
    tile.clear();
    tile.multiply_add(s.keys + key * s.key_stride, s.key_stride, 1, q.words, width, s.words);
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      const V scale = V::broadcast(s.key_scale[key + r]);
      V start = V::broadcast(0.0f);
      if constexpr (Format::is_offset) start = V::broadcast(Format::row_start(s.key_sum[key + r]));
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        const V score = fma(tile.value(r, c), scale, start);
        top[c] = max(top[c], score);
        score.store(scores + (key + r) * width + c * V::lanes);
      }
    }
  });
}

/// Keys whose weights are made together: so many exponentials hide each other's latency.
inline constexpr int keys_at_once = 4;

/// weights = exp2((score - top) * query_scale), and their sum before rounding; 0 behind the last key, up to a
/// multiple of keys_at_once.
template <class Format, int C>
inline void narrow_weights(Word* weights, Lanes<C>& total, const float* scores, const Lanes<C>& top,
                           const float* query_scale, int64_t keys) {
  constexpr int64_t width = C * V::lanes;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) total[c] = V::broadcast(0.0f);
  const auto some_weights = [&]<int count>(int64_t key) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V scale = V::load(query_scale + c * V::lanes);
      const float* const score = scores + key * width + c * V::lanes;
      V codes[static_cast<std::size_t>(keys_at_once)];
      REHYAT_UNROLL for (int i = 0; i < keys_at_once; ++i) {
        V weight = V::broadcast(0.0f);
        if (count == keys_at_once || key + i < keys) {
          weight = short_exp2((V::load(score + i * width) - top[c]) * scale);
        }
        total[c] = total[c] + weight;
        codes[i] = Format::encode_weight(weight);
      }
      Word* const to = weights + key / Format::per_word * width + c * V::lanes;
      REHYAT_UNROLL for (int i = 0; i < keys_at_once; i += Format::per_word) {
        Format::pack(codes + i).store(to + i / Format::per_word * width);
      }
    }
  };
  int64_t key = 0;
  for (; key + keys_at_once <= keys; key += keys_at_once) some_weights.template operator()<keys_at_once>(key);
  if (key < keys) some_weights.template operator()<0>(key);
}

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
    tile.multiply_add(s.values + dim, 1, s.value_stride, s.weights, width, steps);
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      const V scale = V::broadcast(s.value_scale[dim + r]);
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        float* const to = out + (dim + r) * width + c * V::lanes;
        const V sum = tile.value(r, c) * (scale * V::load(block_factor + c * V::lanes));
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
  Lanes<C> top, total;
  float rescale[query_block], block_factor[query_block];
  narrow_scores<Format, C>(scores, top, q, s, keys, ahead);
  narrow_weights<Format, C>(s.weights, total, scores, top, q.scale, keys);
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const int64_t i = c * V::lanes;
    const V block_max = fma(top[c], V::load(q.scale + i), V::load(q.mean + i) + V::broadcast(poison));
    const V before = V::load(b.softmax.running_max + i), now = max(before, block_max);
    now.store(b.softmax.running_max + i);
    const V shift = select(less(now, V::broadcast(lowest)), V::broadcast(0.0f), now);
    const V earlier = exp2_nonpositive(before - shift), factor = exp2_nonpositive(block_max - shift);
    fma(V::load(b.softmax.running_sum + i), earlier, total[c] * factor).store(b.softmax.running_sum + i);
    earlier.store(rescale + i);
    (factor * V::broadcast(Format::weight_unit)).store(block_factor + i);
  }
  narrow_values<Format, C>(b.out, task.dims.value_dim, rescale, block_factor, s, keys, ahead);
}

/// The softmax keys of a task. A block of keys and values is quantised once for all query blocks of the
/// group: 32 K elements for 768 queries' 50 M multiply-adds.
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
      quantise_queries<Format, C>(q, b.queries, head_dim);
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
    if (prefetch) ahead = prefetch_after(task, keys, next);
    float poison = 0;
    with_element(keys.k.type, [&]<class E>(E) {
      const SourceRows rows{keys.k, head_dim};
      poison = quantise_rows<Format>(
          {s.keys, s.key_stride, s.key_scale, s.key_sum}, keys.count, head_dim, [&](int64_t i, int64_t d) {
            return load_part<E>(rows.row<E>(i), d, head_dim) - V::load(s.centre + d);
          });
    });
    with_element(keys.v.type, [&]<class E>(E) {
      const SourceRows values{keys.v, task.dims.value_dim};
      quantise_columns<Format>(
          {s.values, s.value_stride, s.value_scale, nullptr, s.value_start}, keys.count, values.dim,
          [&](int64_t i, int64_t d) { return load_part<E>(values.row<E>(i), d, values.dim); });
    });
    for_query_blocks([&]<int C>(const QueryBlock& b, const NarrowQueries& q) {
      narrow_step<Format, C>(task, b, q, s, a.weights, keys.count, poison, ahead);
    });
  }
}

REHYAT_END_ISA_NAMESPACE
