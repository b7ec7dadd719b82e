#pragma once
// Vectors of bytes, four to a lane of float, and their sums of products in 32 bits, by instruction set.

#include "rehyat/kernel/words.hpp"

// Units without it have no int8 kernels: vpmaddubsw of AVX2 saturates.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ &&                                                            \
    (defined(REHYAT_KERNEL_ISA_SCALAR) || (defined(REHYAT_KERNEL_ISA_AVX512) && defined(__AVX512VNNI__)) || \
     (defined(REHYAT_KERNEL_ISA_AVX2) && defined(__AVXVNNI__)) ||                                           \
     (defined(REHYAT_KERNEL_ISA_NEON) && defined(__ARM_FEATURE_DOTPROD)))
#define REHYAT_KERNEL_INT8 1
#endif

#ifdef REHYAT_KERNEL_INT8

REHYAT_BEGIN_ISA_NAMESPACE

/// What `dot` of this instruction set takes from every unsigned byte: its sums lack unsigned_shift times
/// those of the signed bytes. sdot multiplies signed bytes alone: unsigned ones are stored less 128. (usdot,
/// which does not, came five years after it with ARMv8.6: see bench/NOTES.md.)
#ifdef REHYAT_KERNEL_ISA_NEON
inline constexpr float unsigned_shift = 128.0f;
#else
inline constexpr float unsigned_shift = 0.0f;
#endif

/// x + byte_bias, rounded once, has in its lowest byte the integer nearest to x, for |x| <= 2^21: the lowest
/// bit of a float from 2^23 to 2^24 counts 1, and 1.5 * 2^23 leaves room on both sides.
inline constexpr float byte_bias = 12582912.0f;

/// The same of bytes that `dot` takes for unsigned, as they are stored.
inline constexpr float unsigned_bias = byte_bias - unsigned_shift;

#if defined(REHYAT_KERNEL_ISA_AVX512)

/// __m512i is a vector of 64-bit integers to the compiler: GCC 12 copies every accumulator of that type twice
/// a step to make it one of 32 bits, at half the speed.
typedef int Int32Lanes __attribute__((__vector_size__(64)));

/// An integer of 32 bits a lane.
struct Integers {
  Int32Lanes b;
  static REHYAT_INLINE Integers zero() { return {Int32Lanes{}}; }
  friend REHYAT_INLINE Integers divided_by_256(Integers x) { return {x.b >> 8}; }
  static REHYAT_INLINE Integers broadcast(Word x) {
    return {reinterpret_cast<Int32Lanes>(_mm512_set1_epi32(static_cast<int>(x)))};
  }
  REHYAT_INLINE void store(Word* p) const { _mm512_storeu_si512(p, reinterpret_cast<__m512i>(b)); }
  friend REHYAT_INLINE V to_float(Integers x) {
    return {{V::Batch(_mm512_maskz_cvtepi32_ps(V::all, reinterpret_cast<__m512i>(x.b)))}};
  }
};

struct Bytes {
  __m512i b;

  static REHYAT_INLINE Bytes load(const Word* p) { return {_mm512_loadu_si512(p)}; }
  static REHYAT_INLINE Bytes broadcast(Word x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
  static REHYAT_INLINE Bytes broadcast_at(const Word* p) { return broadcast(*p); }
  REHYAT_INLINE void store(Word* p) const { _mm512_storeu_si512(p, b); }
  REHYAT_INLINE void store_first(Word* p, int64_t count) const {
    _mm512_mask_storeu_epi32(p, V::first(count), b);
  }

  /// The lowest bytes of four biased vectors, the first in the lowest place.
  static REHYAT_INLINE Bytes lowest_of(V x0, V x1, V x2, V x3) {
    const Bytes low = select(0xFFu, x0, shifted<8>(x1)), high = select(0xFFu, x2, shifted<8>(x3));
    const __m512i mask = _mm512_set1_epi32(0xFFFF);
    return {_mm512_ternarylogic_epi32(mask, low.b, _mm512_maskz_slli_epi32(V::all, high.b, 16), 0xCA)};
  }
  /// The lowest bytes of a biased vector, one a lane.
  static REHYAT_INLINE void store_lowest(V x, std::int8_t* p) {
    const __m128i bytes = _mm512_maskz_cvtepi32_epi8(V::all, _mm512_castps_si512(x.b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }

  /// sum + the four products of each lane: unsigned * signed. 32 bits do not overflow, see ByteFormat.
  friend REHYAT_INLINE Integers dot(Integers sum, Bytes unsigned_bytes, Bytes signed_bytes) {
    return {reinterpret_cast<Int32Lanes>(
        _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum.b), unsigned_bytes.b, signed_bytes.b))};
  }

 private:
  template <int bits>
  static REHYAT_INLINE Bytes shifted(V x) {
    return {_mm512_maskz_slli_epi32(V::all, _mm512_castps_si512(x.b), bits)};
  }
  /// Bits of x where the mask has them, else those of y.
  static REHYAT_INLINE Bytes select(std::uint32_t mask, V x, Bytes y) {
    return {_mm512_ternarylogic_epi32(_mm512_set1_epi32(static_cast<int>(mask)), _mm512_castps_si512(x.b),
                                      y.b, 0xCA)};
  }
};

#elif defined(REHYAT_KERNEL_ISA_AVX2)

/// Not __m256i, as with AVX-512.
typedef int Int32Lanes __attribute__((__vector_size__(32)));

struct Integers {
  Int32Lanes b;
  static REHYAT_INLINE Integers zero() { return {Int32Lanes{}}; }
  friend REHYAT_INLINE Integers divided_by_256(Integers x) { return {x.b >> 8}; }
  static REHYAT_INLINE Integers broadcast(Word x) {
    return {reinterpret_cast<Int32Lanes>(_mm256_set1_epi32(static_cast<int>(x)))};
  }
  REHYAT_INLINE void store(Word* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(b));
  }
  friend REHYAT_INLINE V to_float(Integers x) {
    return {{V::Batch(_mm256_cvtepi32_ps(reinterpret_cast<__m256i>(x.b)))}};
  }
};

struct Bytes {
  __m256i b;

  static REHYAT_INLINE Bytes load(const Word* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static REHYAT_INLINE Bytes broadcast(Word x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
  static REHYAT_INLINE Bytes broadcast_at(const Word* p) { return broadcast(*p); }
  REHYAT_INLINE void store(Word* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), b); }
  REHYAT_INLINE void store_first(Word* p, int64_t count) const {
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p), V::first(count), b);
  }

  /// Halves of 16 bits: x0 and x2 give the lower bytes of each, x1 and x3 the upper ones.
  static REHYAT_INLINE Bytes lowest_of(V x0, V x1, V x2, V x3) {
    const __m256i even = _mm256_and_si256(halves(x0, x2), _mm256_set1_epi16(0xFF));
    return {_mm256_or_si256(even, _mm256_slli_epi16(halves(x1, x3), 8))};
  }
  static REHYAT_INLINE void store_lowest(V x, std::int8_t* p) {
    const __m256i order = _mm256_set1_epi32(0x0C080400);  // in each half of the vector
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_castps_si256(x.b), order);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p),
                     _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
  }

  friend REHYAT_INLINE Integers dot(Integers sum, Bytes unsigned_bytes, Bytes signed_bytes) {
    return {reinterpret_cast<Int32Lanes>(
        _mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sum.b), unsigned_bytes.b, signed_bytes.b))};
  }

 private:
  static REHYAT_INLINE __m256i halves(V low, V high) {
    return _mm256_blend_epi16(_mm256_castps_si256(low.b), _mm256_slli_epi32(_mm256_castps_si256(high.b), 16),
                              0xAA);
  }
};

#elif defined(REHYAT_KERNEL_ISA_NEON)

struct Integers {
  int32x4_t b;
  static REHYAT_INLINE Integers zero() { return {vdupq_n_s32(0)}; }
  friend REHYAT_INLINE Integers divided_by_256(Integers x) { return {vshrq_n_s32(x.b, 8)}; }
  static REHYAT_INLINE Integers broadcast(Word x) { return {vreinterpretq_s32_u32(vdupq_n_u32(x))}; }
  REHYAT_INLINE void store(Word* p) const { vst1q_u32(p, vreinterpretq_u32_s32(b)); }
  friend REHYAT_INLINE V to_float(Integers x) { return {{V::Batch(vcvtq_f32_s32(x.b))}}; }
};

/// A word that stands in the lowest lane and counts for all: sdot takes it from there. To fill all lanes
/// (ld1r, dup) takes a vector pipe, 8 times for the 24 sdot of a step; a load of a float takes none, while
/// one of an integer becomes ld1r with Clang.
struct LowestWord {
  int8x8_t b;
};
typedef float __attribute__((__may_alias__)) FloatWord;

struct Bytes {
  int8x16_t b;

  static REHYAT_INLINE Bytes load(const Word* p) { return {vreinterpretq_s8_u32(vld1q_u32(p))}; }
  static REHYAT_INLINE Bytes broadcast(Word x) { return {vreinterpretq_s8_u32(vdupq_n_u32(x))}; }
  static REHYAT_INLINE LowestWord broadcast_at(const Word* p) {
    const float32x2_t word = {*reinterpret_cast<const FloatWord*>(p), 0.0f};
    return {vreinterpret_s8_f32(word)};
  }
  REHYAT_INLINE void store(Word* p) const { vst1q_u32(p, vreinterpretq_u32_s8(b)); }
  REHYAT_INLINE void store_first(Word* p, int64_t count) const {
    Word all[V::lanes];
    store(all);
    for (int64_t i = 0; i < count; ++i) p[i] = all[i];
  }

  /// Each shift inserts above the lower bits, which stay.
  static REHYAT_INLINE Bytes lowest_of(V x0, V x1, V x2, V x3) {
    const uint16x8_t even = vreinterpretq_u16_u32(vsliq_n_u32(bits(x0), bits(x2), 16));
    const uint16x8_t odd = vreinterpretq_u16_u32(vsliq_n_u32(bits(x1), bits(x3), 16));
    return {vreinterpretq_s8_u16(vsliq_n_u16(even, odd, 8))};
  }
  static REHYAT_INLINE void store_lowest(V x, std::int8_t* p) {
    const uint16x4_t halves = vmovn_u32(bits(x));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(halves, halves));
    const std::uint32_t word = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    __builtin_memcpy(p, &word, sizeof word);
  }

  friend REHYAT_INLINE Integers dot(Integers sum, Bytes unsigned_bytes, Bytes signed_bytes) {
    return {vdotq_s32(sum.b, unsigned_bytes.b, signed_bytes.b)};
  }
  friend REHYAT_INLINE Integers dot(Integers sum, Bytes unsigned_bytes, LowestWord signed_bytes) {
    return {vdotq_lane_s32(sum.b, unsigned_bytes.b, signed_bytes.b, 0)};
  }

 private:
  static REHYAT_INLINE uint32x4_t bits(V x) { return vreinterpretq_u32_f32(x.b); }
};

#else

struct Integers {
  std::int32_t b;
  static REHYAT_INLINE Integers zero() { return {0}; }
  friend REHYAT_INLINE Integers divided_by_256(Integers x) { return {x.b >> 8}; }
  static REHYAT_INLINE Integers broadcast(Word x) { return {static_cast<std::int32_t>(x)}; }
  REHYAT_INLINE void store(Word* p) const { *p = static_cast<Word>(b); }
  friend REHYAT_INLINE V to_float(Integers x) { return {static_cast<float>(x.b)}; }
};

struct Bytes {
  std::uint32_t b;

  static REHYAT_INLINE Bytes load(const Word* p) { return {*p}; }
  static REHYAT_INLINE Bytes broadcast(Word x) { return {x}; }
  static REHYAT_INLINE Bytes broadcast_at(const Word* p) { return broadcast(*p); }
  REHYAT_INLINE void store(Word* p) const { *p = b; }
  REHYAT_INLINE void store_first(Word* p, int64_t count) const {
    if (count > 0) *p = b;
  }
  static REHYAT_INLINE Bytes lowest_of(V x0, V x1, V x2, V x3) {
    return {lowest(x0) | lowest(x1) << 8 | lowest(x2) << 16 | lowest(x3) << 24};
  }
  static REHYAT_INLINE void store_lowest(V x, std::int8_t* p) {
    const auto byte = static_cast<std::uint8_t>(lowest(x));
    __builtin_memcpy(p, &byte, 1);
  }
  friend REHYAT_INLINE Integers dot(Integers sum, Bytes unsigned_bytes, Bytes signed_bytes) {
    for (int i = 0; i < 4; ++i) {
      const auto x = static_cast<std::uint8_t>(unsigned_bytes.b >> 8 * i);
      const auto y = static_cast<std::int8_t>(signed_bytes.b >> 8 * i);
      sum.b += std::int32_t{x} * std::int32_t{y};
    }
    return sum;
  }

 private:
  static REHYAT_INLINE std::uint32_t lowest(V x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x.b, sizeof bits);
    return bits & 0xFFu;
  }
};

#endif

REHYAT_END_ISA_NAMESPACE

#endif
