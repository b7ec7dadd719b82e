#pragma once
// Tiles of bytes, and the format of Arithmetic::int8.

#include "rehyat/kernel/byte_vectors.hpp"

#ifdef REHYAT_KERNEL_INT8

REHYAT_BEGIN_ISA_NAMESPACE

/// sum + unsigned_shift times the signed bytes of each lane: what `dot` takes from its sums.
REHYAT_INLINE Integers add_shift(Integers sum, Bytes signed_bytes) {
  if constexpr (unsigned_shift != 0.0f) {
    static_assert(unsigned_shift == 0.0f || unsigned_shift == 128.0f);
    const Bytes half = Bytes::broadcast(0x40404040u);  // 64s as they are stored: 128 is none
    sum = dot(dot(sum, half, signed_bytes), half, signed_bytes);
  }
  return sum;
}

REHYAT_INLINE V raw_float(Integers sum) { return to_float(sum); }

/// A tile of bytes.
template <int R, int C>
struct IntegerTile : WordTile<Bytes, Integers, R, C> {
  /// Rounded down.
  REHYAT_INLINE void divide_by_256() {
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) this->at[r][c] = divided_by_256(this->at[r][c]);
    }
  }

  /// Row r starts at p[r].
  REHYAT_INLINE void start_rows(const Word* p) {
    REHYAT_UNROLL for (int r = 0; r < R; ++r) {
      REHYAT_UNROLL for (int c = 0; c < C; ++c) this->at[r][c] = Integers::broadcast(p[r]);
    }
  }
};

/// Arithmetic::int8.
///
/// Sums of products: 255 * 127 * 512 dimensions or 128 keys is below 2^24, exact in 32 bits and as a float.
struct ByteFormat {
  static constexpr int64_t per_word = 4;
  using Words = Bytes;
  template <int R, int C>
  using Tile = IntegerTile<R, C>;
  static constexpr int rows = TileShape::rows;
  template <int R, int C>
  using SumTile = IntegerTile<R, C>;
  static constexpr int sum_rows = rows;
  static constexpr float limit = 127.0f;
  static constexpr bool is_offset = true;

  static REHYAT_INLINE V encode(V x, V inverse) { return fma(x, inverse, V::broadcast(byte_bias)); }
  static REHYAT_INLINE V decode(V code) { return code - V::broadcast(byte_bias); }
  static constexpr float sum_unit = 1.0f / 255.0f;

  static REHYAT_INLINE Bytes pack(const V* codes) {
    return Bytes::lowest_of(codes[0], codes[1], codes[2], codes[3]);
  }
  static REHYAT_INLINE void store_row(V code, Word* row, int64_t element) {
    Bytes::store_lowest(code, reinterpret_cast<std::int8_t*>(row) + element);
  }

  /// What `dot` takes from the sums over some words, where it does.
  struct Start {
    Integers sum = Integers::zero();
    REHYAT_INLINE void add(Bytes words) { sum = add_shift(sum, words); }
    REHYAT_INLINE void store(Word* p) const {
      if constexpr (unsigned_shift != 0.0f) sum.store(p);
    }
  };
  template <int R, int C>
  static REHYAT_INLINE void start(SumTile<R, C>& tile, const Word* starts) {
    if constexpr (unsigned_shift == 0.0f) {
      tile.clear();
    } else {
      tile.start_rows(starts);
    }
  }
};

REHYAT_END_ISA_NAMESPACE

#endif
