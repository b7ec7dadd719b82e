#pragma once
// Tokens or queries of a block as narrow elements, one a lane.

#include "rehyat/kernel/bytes.hpp"
#include "rehyat/kernel/halves.hpp"
#include "rehyat/kernel/narrow_quantise.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// What they are: x_i = start + scale * what the words say.
struct NarrowLanes {
  explicit NarrowLanes(Word* whole, Word* lower = nullptr) : words(whole), lower_words(lower) {}

  Word* words;        ///< [words of the rows][query_block]
  Word* lower_words;  ///< bytes: the same of second bytes; null: one byte is enough
  float scale[query_block];
  float start[query_block];  ///< of formats that are offset
};

#ifdef REHYAT_KERNEL_INT8

/// Least and largest of each lane, and NaN where one of its values was NaN or infinite.
struct LaneRange {
  V low = V::broadcast(infinity), high = V::broadcast(-infinity), poison = V::broadcast(0.0f);

  REHYAT_INLINE void add(V x) {
    low = min(x, low);
    high = max(x, high);
    poison = fma(x, V::broadcast(0.0f), poison);
  }
};

/// The bytes of four rows of a vector of lanes; rows of nothing have weights of 0.
struct ByteRows {
  V upper[static_cast<std::size_t>(ByteFormat::per_word)],
      lower[static_cast<std::size_t>(ByteFormat::per_word)];

  /// Byte j of (x - low) * inverse, biased.
  REHYAT_INLINE void set(int j, V biased) { upper[j] = lower[j] = biased - V::broadcast(unsigned_shift); }
  /// The same in 256ths: a nearest byte (a half goes up), and what is left, counted from -128.
  REHYAT_INLINE void set_two(int j, V biased) {
    const V bias = V::broadcast(byte_bias), n = biased - bias;
    const V nearest = fma(n + V::broadcast(0.25f), V::broadcast(1.0f / 256.0f), bias);
    upper[j] = nearest - V::broadcast(unsigned_shift);
    lower[j] = fma(nearest - bias, V::broadcast(-256.0f), n) + V::broadcast(unsigned_bias + 128.0f);
  }
};

template <int C, bool two, class Row>
REHYAT_INLINE void quantise_lanes_to(NarrowLanes& to, int64_t rows, Row row) {
  constexpr int64_t width = C * V::lanes;
  // 255 * 256 steps, so that the nearest multiple of 256 has a byte of its own
  constexpr float steps = two ? 65280.0f : 255.0f, unit = two ? 256.0f : 1.0f;
  // a lower byte counts from -128, and both from what `dot` takes off
  constexpr float below = unsigned_shift + (two ? (unsigned_shift - 128.0f) / 256.0f : 0.0f);
  LaneRange range[static_cast<std::size_t>(C)];
  for (int64_t i = 0; i < rows; ++i) {
    const auto x = row(i);
    REHYAT_UNROLL for (int c = 0; c < C; ++c) range[c].add(x(c * V::lanes));
  }
  Lanes<C> inverse;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const V size = range[c].high - range[c].low, zero = V::broadcast(0.0f);
    const auto is_point = less(size, V::broadcast(least_scaled));
    const V scale = select(is_point, zero, size) * V::broadcast(unit / steps);
    inverse[c] = select(is_point, zero, V::broadcast(steps) / size);
    (scale + range[c].poison).store(to.scale + c * V::lanes);
    fma(scale, V::broadcast(below), range[c].low).store(to.start + c * V::lanes);
  }
  for_words<ByteFormat>(rows, row, [&](int64_t word, const auto& x, auto is_row) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      ByteRows bytes;
      REHYAT_UNROLL for (int j = 0; j < ByteFormat::per_word; ++j) {
        V biased = V::broadcast(byte_bias);
        if (is_row(j)) biased = fma(x[j](c * V::lanes) - range[c].low, inverse[c], biased);
        if constexpr (two) {
          bytes.set_two(j, biased);
        } else {
          bytes.set(j, biased);
        }
      }
      const int64_t at = word * width + c * V::lanes;
      Bytes::lowest_of(bytes.upper[0], bytes.upper[1], bytes.upper[2], bytes.upper[3]).store(to.words + at);
      if constexpr (two) {
        Bytes::lowest_of(bytes.lower[0], bytes.lower[1], bytes.lower[2], bytes.lower[3])
            .store(to.lower_words + at);
      }
    }
  });
}

/// row(i)(lane) is the vector at `lane` of row i; C vectors of lanes. All at once: one range alone would wait
/// for the latency of its minimum.
template <int C, class Row>
REHYAT_INLINE void quantise_lanes(ByteFormat, NarrowLanes& to, int64_t rows, Row row) {
  if (to.lower_words != nullptr) return quantise_lanes_to<C, true>(to, rows, row);
  quantise_lanes_to<C, false>(to, rows, row);
}

#endif

#ifdef REHYAT_KERNEL_FLOAT16

/// The same with a scale alone: halves need no range of their own.
template <int C, class Row>
REHYAT_INLINE void quantise_lanes(HalfFormat, NarrowLanes& to, int64_t rows, Row row) {
  constexpr int64_t width = C * V::lanes;
  Magnitude<HalfFormat> magnitude[static_cast<std::size_t>(C)];
  for (int64_t i = 0; i < rows; ++i) {
    const auto x = row(i);
    REHYAT_UNROLL for (int c = 0; c < C; ++c) magnitude[c].add(x(c * V::lanes));
  }
  Lanes<C> inverse;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    magnitude[c].scale().store(to.scale + c * V::lanes);
    inverse[c] = magnitude[c].inverse();
  }
  for_words<HalfFormat>(rows, row, [&](int64_t word, const auto& x, auto is_row) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const V second = is_row(1) ? x[1](c * V::lanes) : V::broadcast(0.0f);
      Halves::of(x[0](c * V::lanes) * inverse[c], second * inverse[c])
          .store(to.words + word * width + c * V::lanes);
    }
  });
}

#endif

REHYAT_END_ISA_NAMESPACE
