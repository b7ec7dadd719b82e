#pragma once
// Queries, keys and softmax weights of a key block in bytes.
//
//   q_i ~ query_scale_i * (u_i - 128)       u unsigned, 1 to 255: a scale per query
//   k_j ~ centre + key_scale_j * n_j        n signed, -127 to 127: a scale per key
//   w_j ~ u_j / 255                         of the largest of a query's weights in the block
//
// All per-key and per-query factors are folded into one multiply-add each, and the exponential has degree 4:
// 3e-6.

#include "rehyat/kernel/bytes.hpp"
#include "rehyat/kernel/narrow_activation.hpp"
#include "rehyat/kernel/narrow_quantise.hpp"

#ifdef REHYAT_KERNEL_INT8

REHYAT_BEGIN_ISA_NAMESPACE

/// The words of a block's packed queries, [head_dim][C vectors].
template <int C>
inline void quantise_queries(ByteFormat, const NarrowQueries& to, const float* queries, int64_t head_dim) {
  constexpr int64_t width = C * V::lanes;
  for (int64_t i = 0; i < width; i += V::lanes) {
    const auto magnitude =
        magnitude_of<ByteFormat>(head_dim, [&](int64_t d) { return V::load(queries + d * width + i); });
    magnitude.scale().store(to.scale + i);
    const V inverse = magnitude.inverse(), zero = V::broadcast(0.0f);
    for (int64_t d = 0; d < head_dim; d += ByteFormat::per_word) {
      V codes[static_cast<std::size_t>(ByteFormat::per_word)];
      REHYAT_UNROLL for (int j = 0; j < ByteFormat::per_word; ++j) {
        const V x = d + j < head_dim ? V::load(queries + (d + j) * width + i) : zero;
        codes[j] = fma(x, inverse, V::broadcast(unsigned_bias + 128.0f));
      }
      ByteFormat::pack(codes).store(to.words + d / ByteFormat::per_word * width + i);
    }
  }
}

/// The keys of a block less the centre. Returns 0, or NaN if one has a value that is not finite.
template <class Row>
REHYAT_INLINE float quantise_keys(ByteFormat, const NarrowRows& to, int64_t count, int64_t head_dim,
                                  Row row) {
  return quantise_rows<ByteFormat>(to, count, head_dim, row);
}

/// scores[key][query] = <q, k - centre> / query_scale, C vectors a row, and the largest of each lane.
template <int C>
inline void narrow_scores(float* scores, Lanes<C>& top, const NarrowQueries& q,
                          const NarrowScratch<ByteFormat>& s, int64_t keys, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) top[c] = V::broadcast(-infinity);
  for_row_strips<ByteFormat::rows>(keys, [&]<int R>(int64_t key) {
    ahead.advance();
    ByteFormat::Tile<R, C> tile;
    tile.clear();
    tile.multiply_add(s.keys + key * s.key_stride, s.key_stride, 1, q.words, width, s.words);
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      const V scale = V::broadcast(s.key_scale[key + r]);
      // products count from 128 for the queries, and lack what `dot` takes
      const V start = V::broadcast((unsigned_shift - 128.0f) * s.key_sum[key + r]);
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        const V score = fma(tile.value(r, c), scale, start);
        top[c] = max(top[c], score);
        score.store(scores + (key + r) * width + c * V::lanes);
      }
    }
  });
}

/// weights = exp2((score - top) * query_scale), and their sum before rounding; 0 behind the last key, up to
/// a multiple of a word's.
template <int C>
inline void narrow_weights(Word* weights, Lanes<C>& total, const float* scores, const Lanes<C>& top,
                           const float* query_scale, int64_t keys) {
  constexpr int64_t width = C * V::lanes;
  constexpr int at_once = ByteFormat::per_word;  // so many exponentials hide each other's latency
  REHYAT_UNROLL for (int c = 0; c < C; ++c) total[c] = V::broadcast(0.0f);
  const auto some_weights = [&]<int count>(int64_t key) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V scale = V::load(query_scale + c * V::lanes);
      const float* const score = scores + key * width + c * V::lanes;
      V codes[static_cast<std::size_t>(at_once)];
      REHYAT_UNROLL for (int i = 0; i < at_once; ++i) {
        V weight = V::broadcast(0.0f);
        if (count == at_once || key + i < keys) {
          weight = short_exp2((V::load(score + i * width) - top[c]) * scale);
        }
        total[c] = total[c] + weight;
        codes[i] = fma(weight, V::broadcast(255.0f), V::broadcast(unsigned_bias));
      }
      ByteFormat::pack(codes).store(weights + key / at_once * width + c * V::lanes);
    }
  };
  int64_t key = 0;
  for (; key + at_once <= keys; key += at_once) some_weights.template operator()<at_once>(key);
  if (key < keys) some_weights.template operator()<0>(key);
}

/// The weights of a block's keys, 255 for the largest of a query.
template <int C>
REHYAT_INLINE void block_weights(ByteFormat, BlockWeights<C>& of, const NarrowQueries& q,
                                 const NarrowScratch<ByteFormat>& s, float* scores, int64_t keys,
                                 RowPrefetch& ahead) {
  narrow_scores<C>(scores, of.top, q, s, keys, ahead);
  REHYAT_UNROLL for (int c = 0; c < C; ++c) of.exponent[c] = V::load(q.scale + c * V::lanes);
  narrow_weights<C>(s.weights, of.total, scores, of.top, q.scale, keys);
}

REHYAT_END_ISA_NAMESPACE

#endif
