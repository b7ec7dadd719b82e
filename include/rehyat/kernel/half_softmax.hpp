#pragma once
// Queries, keys and softmax weights of a key block in halves, and the exponentials between them.
//
//   q_i ~ query_scale_i * u_i               a scale per query, a power of two
//   k_j ~ centre + key_scale * n_j          one for a key block, a power of two
//   w_j ~ u_j / 128                         of the largest of a query's weights in the block
//
// Halves have exponents of their own: more scales would not make them more exact, and these two only shift
// the exponents of scores. So the scores of two keys are a word, 32 of them a vector, and stay in halves up
// to their weights. An exponential of floats takes 12 instructions for 16 weights and 7 more to make them
// halves, this one 10 for 32; the end of a score takes 5 for 32 instead of 8 for 16. Per 16 weights of D = Dv
// = 128 that is 9 of 90 cycles, 64 of them multiply-adds.
//
// What it costs: a score is off by 2^-11 of what its sum reached anyhow. Its distance from the largest is off
// by 2^-12 of that distance, and a weight at distance x by 2^-12 x of itself, at most 0.53 * 2^-12 of the
// largest weight. Rounding of the exponential: 2.2e-4 rms, 6.7e-4 at most.

#include "rehyat/kernel/halves.hpp"
#include "rehyat/kernel/narrow_quantise.hpp"

#ifdef REHYAT_KERNEL_FLOAT16

REHYAT_BEGIN_ISA_NAMESPACE

/// The largest power of two up to x, for x >= 0; infinite where x is.
REHYAT_INLINE V power_below(V x) { return {{x.b & V::broadcast(infinity).b}}; }

/// What x / (2 * power) is x times; 0 for 0. Twice, as the scale of magnitudes from 2^127 on would overflow.
REHYAT_INLINE V inverse_of_twice(V power) {
  return select(less(power, V::broadcast(least_scaled)), V::broadcast(0.0f), V::broadcast(0.5f) / power);
}
inline constexpr float twice_twice = 4.0f;  ///< what products of two such lack

/// The words of a block's packed queries, [head_dim][C vectors].
template <int C>
inline void quantise_queries(HalfFormat, const NarrowQueries& to, const float* queries, int64_t head_dim) {
  constexpr int64_t width = C * V::lanes;
  for (int64_t i = 0; i < width; i += V::lanes) {
    const auto magnitude =
        magnitude_of<HalfFormat>(head_dim, [&](int64_t d) { return V::load(queries + d * width + i); });
    const V power = power_below(magnitude.top), inverse = inverse_of_twice(power);
    (power + magnitude.poison()).store(to.scale + i);
    for (int64_t d = 0; d < head_dim; d += 2) {
      const float* const x = queries + d * width + i;
      const V second = d + 1 < head_dim ? V::load(x + width) : V::broadcast(0.0f);
      Halves::of(V::load(x) * inverse, second * inverse).store(to.words + d / 2 * width + i);
    }
  }
}

/// The keys of a block less the centre. Returns 0, or NaN if one has a value that is not finite.
template <class Row>
[[gnu::noinline]] float quantise_keys(HalfFormat, const NarrowRows& to, int64_t count, int64_t head_dim,
                                      Row row) {
  Magnitude<HalfFormat> magnitude;
  for (int64_t r = 0; r < count; ++r) {
    magnitude.add(magnitude_of_row<HalfFormat>(row(r), head_dim).top);
  }
  const V power = power_below(V::broadcast(largest_lane(magnitude.top))), inverse = inverse_of_twice(power);
  power.store_first(to.scale, 1);
  Word* words = to.words;
  for (int64_t r = 0; r < count; ++r, words += to.stride) {
    const auto x = row(r);
    for (int64_t d = 0; d < head_dim; d += V::lanes) HalfFormat::store_row(x(d) * inverse, words, d);
  }
  return any_nan(magnitude.poison()) ? quiet_nan : 0.0f;
}

/// scores[key / 2][query], those of two keys a word, and the largest of each half lane. The word of a last
/// odd key has its score twice.
template <int C>
[[gnu::noinline]] inline void half_scores(Word* scores, Halves (&top)[static_cast<std::size_t>(C)],
                                          const NarrowQueries& q, const NarrowScratch<HalfFormat>& s,
                                          int64_t keys, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) top[c] = Halves::broadcast(-infinity);
  for_row_strips<TileShape::rows>(keys, [&]<int R>(int64_t key) {
    ahead.advance();
    HalfFormat::Tile<R, C> tile;
    tile.clear();
    tile.multiply_add(s.keys + key * s.key_stride, s.key_stride, 1, q.words, width, s.words);
    REHYAT_UNROLL for (int r = 0; r < R; r += 2) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        const Halves score = sums_of_lanes(tile.at[r][c], tile.at[r + (R > 1 ? 1 : 0)][c]);
        top[c] = max(score, top[c]);
        score.store(scores + (key + r) / 2 * width + c * V::lanes);
      }
    }
  });
}

/// 128 * 2^x for x = (score - largest) * unit from -20 on; below, what it is at -20: 1e-6. So the sum over a
/// block's 128 keys stays below 65,504, and no weight is subnormal.
///
/// x + 1.5 * 2^10 + 7 has 7 and the integer nearest to x in its lowest bits, which shifted to the exponent
/// are a factor of 2^(n + 7). The polynomial's constant is 1, that the largest weight is exact.
struct HalfExponential {
  static constexpr float weight_unit = 1.0f / 128.0f;

  Halves top, exponent, least;

  /// A unit beyond 2^15 is taken for that: what then counts, as the places of a score no longer would, is
  /// that the largest does, and nothing else that is more than 6e-4 away.
  HalfExponential(Halves largest, V unit) : top(largest) {
    const V most = min(unit, V::broadcast(32768.0f)), limit = V::broadcast(-20.0f) / most;
    exponent = Halves::of(most, most);
    least = Halves::of(limit, limit);
  }

  REHYAT_INLINE Halves operator()(Halves score) const {
    const Halves shift = Halves::broadcast(1543.0f);
    const Halves distance = max(score - top, least);
    const Halves shifted = fma(distance, exponent, shift);
    const Halves r = fma(distance, exponent, shift - shifted);
    Halves p = Halves::broadcast(0.05463f);
    p = fma(p, r, Halves::broadcast(0.2417f));
    p = fma(p, r, Halves::broadcast(0.6934f));
    return times_power(fma(p, r, Halves::broadcast(1.0f)), shifted);
  }
};

/// The weights of C vectors of queries in the place of their scores, and their sums.
template <int C>
[[gnu::noinline]] inline void half_weights(Word* weights, BlockWeights<C>& of,
                                           const Halves (&top)[static_cast<std::size_t>(C)], int64_t keys) {
  constexpr int64_t width = C * V::lanes;
  constexpr int at_once = 4;  // so many exponentials hide each other's latency
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const Halves largest = max(top[c], other_halves(top[c]));
    of.top[c] = to_float(largest) * V::broadcast(0.5f);
    const HalfExponential exponential(largest, of.exponent[c]);
    Halves total[static_cast<std::size_t>(at_once)];
    REHYAT_UNROLL for (int i = 0; i < at_once; ++i) total[i] = Halves::zero();
    Word* word = weights + c * V::lanes;
    int64_t key = 0;
    for (; key + 2 * at_once <= keys; key += 2 * at_once, word += at_once * width) {
      REHYAT_UNROLL for (int i = 0; i < at_once; ++i) {
        const Halves weight = exponential(Halves::load(word + i * width));
        weight.store(word + i * width);
        total[i] = total[i] + weight;
      }
    }
    for (; key < keys; key += 2, word += width) {
      Halves weight = exponential(Halves::load(word));
      if (key + 1 == keys) weight = first_halves(weight);
      weight.store(word);
      total[0] = total[0] + weight;
    }
    V sum = to_float(total[0]);
    REHYAT_UNROLL for (int i = 1; i < at_once; ++i) sum = sum + to_float(total[i]);
    of.total[c] = sum * V::broadcast(HalfExponential::weight_unit);
  }
}

/// The weights of a block's keys.
template <int C>
REHYAT_INLINE void block_weights(HalfFormat, BlockWeights<C>& of, const NarrowQueries& q,
                                 const NarrowScratch<HalfFormat>& s, float*, int64_t keys,
                                 RowPrefetch& ahead) {
  Halves top[static_cast<std::size_t>(C)];
  half_scores<C>(s.weights, top, q, s, keys, ahead);
  const V unit = V::broadcast(s.key_scale[0] * twice_twice);
  REHYAT_UNROLL for (int c = 0; c < C; ++c) of.exponent[c] = V::load(q.scale + c * V::lanes) * unit;
  half_weights<C>(s.weights, of, top, keys);
}

REHYAT_END_ISA_NAMESPACE

#endif
