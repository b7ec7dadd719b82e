#pragma once
// Vectors of half-precision numbers, two to a lane of float, and sums of their products.

#include "rehyat/kernel/words.hpp"

// Units without it have no float16 kernels: F16C only converts.
#if (defined(REHYAT_KERNEL_ISA_AVX512) && defined(__AVX512FP16__)) || \
    (defined(REHYAT_KERNEL_ISA_NEON) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC))
#define REHYAT_KERNEL_FLOAT16 1
#endif

#ifdef REHYAT_KERNEL_FLOAT16

REHYAT_BEGIN_ISA_NAMESPACE

/// Two halves a lane, in words or as sums of products: those of the first elements and of the second apart.
struct Halves {
#ifdef REHYAT_KERNEL_ISA_AVX512
  __m512h b;

  static REHYAT_INLINE Halves zero() { return {_mm512_setzero_ph()}; }
  static REHYAT_INLINE Halves broadcast(float x) { return {_mm512_set1_ph(static_cast<_Float16>(x))}; }
  /// In a register: GCC would read it from memory again in each of a tile's rows, more than the load ports
  /// can.
  static REHYAT_INLINE Halves load(const Word* p) {
    Halves x{_mm512_castsi512_ph(_mm512_loadu_si512(p))};
    __asm__("" : "+v"(x.b));
    return x;
  }
  /// Of words: vpbroadcastw would take a port of the multipliers besides.
  static REHYAT_INLINE Halves broadcast_at(const Word* p) {
    return {_mm512_castsi512_ph(_mm512_set1_epi32(static_cast<int>(*p)))};
  }
  REHYAT_INLINE void store(Word* p) const { _mm512_storeu_si512(p, _mm512_castph_si512(b)); }
  REHYAT_INLINE void store_first(Word* p, int64_t count) const {
    _mm512_mask_storeu_epi32(p, V::first(count), _mm512_castph_si512(b));
  }
  friend REHYAT_INLINE Halves operator+(Halves x, Halves y) { return {_mm512_add_ph(x.b, y.b)}; }
  friend REHYAT_INLINE Halves operator-(Halves x, Halves y) { return {_mm512_sub_ph(x.b, y.b)}; }
  friend REHYAT_INLINE Halves max(Halves x, Halves y) { return {_mm512_max_ph(x.b, y.b)}; }
  friend REHYAT_INLINE Halves fma(Halves x, Halves y, Halves z) { return {_mm512_fmadd_ph(x.b, y.b, z.b)}; }
  /// x times 2 to the integer in y's lowest bits.
  friend REHYAT_INLINE Halves times_power(Halves x, Halves y) {
    return {_mm512_castsi512_ph(
        _mm512_add_epi16(_mm512_castph_si512(x.b), _mm512_slli_epi16(_mm512_castph_si512(y.b), 10)))};
  }
  /// Each lane's first and second exchanged.
  friend REHYAT_INLINE Halves other_halves(Halves x) {
    return {_mm512_castsi512_ph(_mm512_maskz_ror_epi32(V::all, _mm512_castph_si512(x.b), 16))};
  }
  /// Each lane's second made 0.
  friend REHYAT_INLINE Halves first_halves(Halves x) {
    return {_mm512_castsi512_ph(_mm512_maskz_mov_epi16(0x55555555, _mm512_castph_si512(x.b)))};
  }
  /// The sums of each lane's two, first those of x, second those of y.
  friend REHYAT_INLINE Halves sums_of_lanes(Halves x, Halves y) {
    const __m512i of_x = _mm512_castph_si512(x.b), of_y = _mm512_castph_si512(y.b);
    const Halves both{_mm512_castsi512_ph(_mm512_mask_blend_epi16(0xaaaaaaaa, of_x, of_y))};
    const Halves others{_mm512_castsi512_ph(_mm512_mask_blend_epi16(0xaaaaaaaa, of_y, of_x))};
    return both + other_halves(others);
  }

  /// Rounded to nearest even.
  static REHYAT_INLINE Halves of(V first, V second) {
    const __m512i both = _mm512_maskz_inserti64x4(0xff, _mm512_maskz_broadcast_i64x4(0xff, rounded(first)),
                                                  rounded(second), 1);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return {_mm512_castsi512_ph(_mm512_maskz_permutexvar_epi16(all, order, both))};
  }
  static REHYAT_INLINE void store_row(V x, std::uint16_t* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(x));
  }
  /// The sum of each lane's two, in halves, as a float less a factor of raw_unit: its bits, three lower and
  /// in the upper part of a float, subnormals included. Nothing has to be packed first.
  friend REHYAT_INLINE V raw_float(Halves x) {
    const __m512i sum = _mm512_castph_si512((x + other_halves(x)).b);
    const __m512i bits = _mm512_and_si512(_mm512_maskz_srai_epi32(V::all, sum, 3),
                                          _mm512_set1_epi32(static_cast<int>(0x8FFFE000u)));
    return {{V::Batch(_mm512_castsi512_ps(bits))}};
  }
  static constexpr float raw_unit = 0x1p+112f;

 private:
  static constexpr __mmask32 all = 0xffffffff;
  static REHYAT_INLINE __m256i rounded(V x) {
    return _mm512_maskz_cvtps_ph(V::all, x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
#else
  float16x8_t b;

  static REHYAT_INLINE Halves zero() { return {vreinterpretq_f16_u32(vdupq_n_u32(0))}; }
  static REHYAT_INLINE Halves broadcast(float x) { return {vdupq_n_f16(static_cast<float16_t>(x))}; }
  static REHYAT_INLINE Halves load(const Word* p) { return {vreinterpretq_f16_u32(vld1q_u32(p))}; }
  static REHYAT_INLINE Halves broadcast_at(const Word* p) { return {vreinterpretq_f16_u32(vdupq_n_u32(*p))}; }
  REHYAT_INLINE void store(Word* p) const { vst1q_u32(p, vreinterpretq_u32_f16(b)); }
  REHYAT_INLINE void store_first(Word* p, int64_t count) const {
    Word words[V::lanes];
    store(words);
    for (int64_t i = 0; i < count; ++i) p[i] = words[i];
  }
  friend REHYAT_INLINE Halves operator+(Halves x, Halves y) { return {vaddq_f16(x.b, y.b)}; }
  friend REHYAT_INLINE Halves operator-(Halves x, Halves y) { return {vsubq_f16(x.b, y.b)}; }
  friend REHYAT_INLINE Halves max(Halves x, Halves y) { return {vmaxq_f16(x.b, y.b)}; }
  friend REHYAT_INLINE Halves fma(Halves x, Halves y, Halves z) { return {vfmaq_f16(z.b, x.b, y.b)}; }
  friend REHYAT_INLINE Halves times_power(Halves x, Halves y) {
    return {vreinterpretq_f16_u16(
        vaddq_u16(vreinterpretq_u16_f16(x.b), vshlq_n_u16(vreinterpretq_u16_f16(y.b), 10)))};
  }
  friend REHYAT_INLINE Halves other_halves(Halves x) {
    return {vreinterpretq_f16_u16(vrev32q_u16(vreinterpretq_u16_f16(x.b)))};
  }
  friend REHYAT_INLINE Halves first_halves(Halves x) {
    return {vreinterpretq_f16_u32(vandq_u32(vreinterpretq_u32_f16(x.b), vdupq_n_u32(0xffff)))};
  }
  friend REHYAT_INLINE Halves sums_of_lanes(Halves x, Halves y) {
    return {vaddq_f16(vtrn1q_f16(x.b, y.b), vtrn2q_f16(x.b, y.b))};
  }

  static REHYAT_INLINE Halves of(V first, V second) {
    const float16x8_t both = vcombine_f16(vcvt_f16_f32(first.b), vcvt_f16_f32(second.b));
    return {vzip1q_f16(both, vextq_f16(both, both, 4))};
  }
  static REHYAT_INLINE void store_row(V x, std::uint16_t* p) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.b)));
  }
  friend REHYAT_INLINE V raw_float(Halves x) {
    const V first{{V::Batch(vcvt_f32_f16(vget_low_f16(vuzp1q_f16(x.b, x.b))))}};
    const V second{{V::Batch(vcvt_f32_f16(vget_low_f16(vuzp2q_f16(x.b, x.b))))}};
    return first + second;
  }
  static constexpr float raw_unit = 1.0f;
#endif

  friend REHYAT_INLINE Halves dot(Halves sum, Halves x, Halves y) { return fma(x, y, sum); }
  friend REHYAT_INLINE V to_float(Halves x) { return raw_float(x) * V::broadcast(raw_unit); }
};

/// A tile of halves.
template <int R, int C>
using HalfTile = WordTile<Halves, Halves, R, C>;

/// The same in runs of 64 elements, each summed by itself and then added to the others: a sum in halves is
/// off by a share of what it has reached, and an error of a score is one of an exponent. On the real arrays
/// of examples/data (D = 64, logits to 18) that gives a relative L2 of 3.6e-3, runs of 32 2.5e-3 in 1 % more
/// time.
template <int R, int C>
struct HalfTileInRuns : HalfTile<R, C> {
  static constexpr int64_t run = 32;  ///< words

  REHYAT_INLINE void multiply_add(const Word* a, int64_t row_stride, int64_t step_stride, const Word* b,
                                  int64_t b_stride, int64_t steps) {
    HalfTile<R, C>::multiply_add(a, row_stride, step_stride, b, b_stride, steps < run ? steps : run);
    for (int64_t first = run; first < steps; first += run) {
      HalfTile<R, C> part;
      part.clear();
      part.multiply_add(a + first * step_stride, row_stride, step_stride, b + first * b_stride, b_stride,
                        steps - first < run ? steps - first : run);
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        REHYAT_UNROLL for (int c = 0; c < C; ++c) this->at[r][c] = this->at[r][c] + part.at[r][c];
      }
    }
  }
};

/// Arithmetic::float16. Rows and columns have a largest magnitude of 1: sums of up to 16,384 products stay
/// below 65,504, whatever the inputs' range.
struct HalfFormat {
  static constexpr int64_t per_word = 2;
  using Words = Halves;
  template <int R, int C>
  using Tile = HalfTileInRuns<R, C>;
  static constexpr int rows = 4;
  template <int R, int C>
  using SumTile = HalfTile<R, C>;  // of up to 192 elements: an error of 6e-4 of the sum
  static constexpr int sum_rows = TileShape::rows;
  static constexpr float limit = 1.0f;
  static constexpr bool is_offset = false;

  static REHYAT_INLINE V encode(V x, V inverse) { return x * inverse; }
  /// Of raw sums, with weights up to 128.
  static constexpr float sum_unit = Halves::raw_unit / 128.0f;

  static REHYAT_INLINE Halves pack(const V* codes) { return Halves::of(codes[0], codes[1]); }
  static REHYAT_INLINE void store_row(V code, Word* row, int64_t element) {
    Halves::store_row(code, reinterpret_cast<std::uint16_t*>(row) + element);
  }

  struct Start {
    REHYAT_INLINE void add(Halves) {}
    REHYAT_INLINE void store(Word*) const {}
  };
  template <int R, int C>
  static REHYAT_INLINE void start(HalfTile<R, C>& tile, const Word*) {
    tile.clear();
  }
};

REHYAT_END_ISA_NAMESPACE

#endif
