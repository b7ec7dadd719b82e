#pragma once
// The instruction set of this translation unit, and one vector of float of it.

#include <cstdint>

#include "rehyat/config.hpp"
#include "rehyat/kernel/kernel_table.hpp"

// The ISA follows the flags of the unit; a unit that is to be something simpler (scalar kernels on a machine
// whose baseline has SIMD) defines REHYAT_KERNEL_ISA_SCALAR.
#if defined(REHYAT_KERNEL_ISA_SCALAR)
#define REHYAT_ISA scalar
#elif defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512CD__)
#define REHYAT_KERNEL_ISA_AVX512
// the same instruction set to the operators, but functions that other units must not share
#if defined(__AVX512VNNI__) && defined(__AVX512FP16__)
#define REHYAT_ISA avx512_vnni_fp16
#elif defined(__AVX512FP16__)
#define REHYAT_ISA avx512_fp16
#elif defined(__AVX512VNNI__)
#define REHYAT_ISA avx512_vnni
#else
#define REHYAT_ISA avx512
#endif
#elif defined(__AVX2__) && defined(__FMA__)
#define REHYAT_KERNEL_ISA_AVX2
#ifdef __AVXVNNI__
#define REHYAT_ISA avx2_vnni
#else
#define REHYAT_ISA avx2
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define REHYAT_KERNEL_ISA_NEON
#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define REHYAT_ISA neon_dotprod_fp16
#elif defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define REHYAT_ISA neon_fp16
#elif defined(__ARM_FEATURE_DOTPROD)
#define REHYAT_ISA neon_dotprod
#else
#define REHYAT_ISA neon
#endif
#else
#define REHYAT_ISA scalar
#define REHYAT_KERNEL_ISA_SCALAR
#endif

#ifndef REHYAT_KERNEL_ISA_SCALAR
#include <xsimd/xsimd.hpp>
#endif

// Loops over the rows and vectors of a register tile: unrolled whole, or the tile goes to memory.
#if defined(__clang__)
#define REHYAT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define REHYAT_UNROLL _Pragma("GCC unroll 16")
#endif

// The loop over the steps of a register tile, two at a time. Alone on its core a thread gains nothing: the
// multipliers are busy. Where it shares the core with another (hyper-threads, a virtual machine's neighbour),
// it may issue half as many instructions, three a cycle, and a step has 39 for the multipliers' 12 cycles.
#if !defined(REHYAT_KERNEL_ISA_AVX512) && !defined(REHYAT_KERNEL_ISA_AVX2)
#define REHYAT_UNROLL_STEPS
#elif defined(__clang__)
#define REHYAT_UNROLL_STEPS _Pragma("clang loop unroll_count(2)")
#else
#define REHYAT_UNROLL_STEPS _Pragma("GCC unroll 2")
#endif

// Everything that is compiled once per ISA is in an inline namespace of that name, so that two units with
// different flags in one program never share a symbol.
#define REHYAT_BEGIN_ISA_NAMESPACE \
  namespace rehyat::kernel {       \
  inline namespace REHYAT_ISA {
#define REHYAT_END_ISA_NAMESPACE \
  }                              \
  }

REHYAT_BEGIN_ISA_NAMESPACE

using std::int64_t;

/// One vector of `lanes` floats. `fma` rounds once wherever the ISA has it; max and min return b if either is
/// NaN; `less` is false for NaN. max_magnitude(x, y) is max(x, |y|) for x >= 0 or NaN, and NaN if either is:
/// as integers, the bits of NaN are the largest. The members beyond xsimd's are those whose meaning xsimd
/// leaves to its version, first lanes alone (`load_first`: 0 in the others; nothing behind `count` is
/// touched), and those of exponentials: n = whole(x) is what fraction(x, n) = x - floor(x), in [0, 1], and
/// scale(y, n) = y * 2^floor(n) take (n from -126 to 126); scale_unless_less is 0 where `gate` < `limit`.
template <class Arch>
struct Vec;

#ifndef REHYAT_KERNEL_ISA_SCALAR

/// What xsimd does the same in every version.
template <class Arch>
struct BatchVec {
  using Batch = xsimd::batch<float, Arch>;
  using Mask = typename Batch::batch_bool_type;
  static constexpr int lanes = static_cast<int>(Batch::size);

  Batch b;

  static REHYAT_INLINE Vec<Arch> load(const float* p) { return {{Batch::load_unaligned(p)}}; }
  static REHYAT_INLINE Vec<Arch> broadcast(float x) { return {{Batch(x)}}; }
  REHYAT_INLINE void store(float* p) const { b.store_unaligned(p); }

  friend REHYAT_INLINE Vec<Arch> operator+(Vec<Arch> x, Vec<Arch> y) { return {{x.b + y.b}}; }
  friend REHYAT_INLINE Vec<Arch> operator-(Vec<Arch> x, Vec<Arch> y) { return {{x.b - y.b}}; }
  friend REHYAT_INLINE Vec<Arch> operator*(Vec<Arch> x, Vec<Arch> y) { return {{x.b * y.b}}; }
  friend REHYAT_INLINE Vec<Arch> abs(Vec<Arch> x) { return {{xsimd::abs(x.b)}}; }
  friend REHYAT_INLINE Mask less(Vec<Arch> x, Vec<Arch> y) { return x.b < y.b; }
  friend REHYAT_INLINE Vec<Arch> select(Mask m, Vec<Arch> yes, Vec<Arch> no) {
    return {{xsimd::select(m, yes.b, no.b)}};
  }
  static REHYAT_INLINE bool any(Mask m) { return xsimd::any(m); }
  // not any(x != x): xsimd 8.1 compares with x86's ordered "not equal", which is false for NaN
  friend REHYAT_INLINE bool any_nan(Vec<Arch> x) { return !xsimd::all(x.b == x.b); }
};

#endif

#if defined(REHYAT_KERNEL_ISA_AVX512)

using NativeArch = xsimd::avx512bw;
inline constexpr Isa native_isa = Isa::avx512;

template <>
struct Vec<xsimd::avx512bw> : BatchVec<xsimd::avx512bw> {
  // xsimd 8.1 has no AVX-512 fma: x * y + z, which Clang leaves as two instructions
  friend REHYAT_INLINE Vec fma(Vec x, Vec y, Vec z) { return {{Batch(_mm512_fmadd_ps(x.b, y.b, z.b))}}; }
  friend REHYAT_INLINE Vec operator/(Vec x, Vec y) { return {{x.b / y.b}}; }
  // the forms without a mask are built on an undefined vector, of which GCC 12 warns wherever they are
  // inlined; a full mask costs nothing
  static constexpr __mmask16 all = 0xffff;
  static REHYAT_INLINE __mmask16 first(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
  static REHYAT_INLINE Vec load_first(const float* p, int64_t count) {
    return {{Batch(_mm512_maskz_loadu_ps(first(count), p))}};
  }
  REHYAT_INLINE void store_first(float* p, int64_t count) const { _mm512_mask_storeu_ps(p, first(count), b); }
  friend REHYAT_INLINE Vec max(Vec x, Vec y) { return {{Batch(_mm512_maskz_max_ps(all, x.b, y.b))}}; }
  friend REHYAT_INLINE Vec min(Vec x, Vec y) { return {{Batch(_mm512_maskz_min_ps(all, x.b, y.b))}}; }
  friend REHYAT_INLINE Vec max_magnitude(Vec x, Vec y) {
    return {{Batch(_mm512_castsi512_ps(
        _mm512_maskz_max_epu32(all, _mm512_castps_si512(x.b), _mm512_castps_si512(abs(y).b))))}};
  }
  // scale() takes the floor itself
  friend REHYAT_INLINE Vec whole(Vec x) { return x; }
  friend REHYAT_INLINE Vec fraction(Vec x, Vec) {
    return {{Batch(_mm512_maskz_reduce_ps(all, x.b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC))}};
  }
  friend REHYAT_INLINE Vec round_nearest(Vec x) {
    return {{Batch(_mm512_maskz_roundscale_ps(all, x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))}};
  }
  friend REHYAT_INLINE Vec scale(Vec x, Vec n) { return {{Batch(_mm512_maskz_scalef_ps(all, x.b, n.b))}}; }
  friend REHYAT_INLINE Vec scale_unless_less(Vec x, Vec n, Vec gate, Vec limit) {
    const __mmask16 keep = _mm512_cmp_ps_mask(gate.b, limit.b, _CMP_NLT_UQ);
    return {{Batch(_mm512_maskz_scalef_ps(keep, x.b, n.b))}};
  }
  /// x0 y0 x1 y1 ... of the first halves, and of the second halves.
  friend REHYAT_INLINE Vec interleave_low(Vec x, Vec y) {
    const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return {{Batch(_mm512_permutex2var_ps(x.b, order, y.b))}};
  }
  friend REHYAT_INLINE Vec interleave_high(Vec x, Vec y) {
    const __m512i order = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return {{Batch(_mm512_permutex2var_ps(x.b, order, y.b))}};
  }
};

#elif defined(REHYAT_KERNEL_ISA_AVX2)

using NativeArch = xsimd::fma3<xsimd::avx2>;
inline constexpr Isa native_isa = Isa::avx2;

template <>
struct Vec<NativeArch> : BatchVec<NativeArch> {
  static REHYAT_INLINE __m256i first(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static REHYAT_INLINE Vec load_first(const float* p, int64_t count) {
    return {{Batch(_mm256_maskload_ps(p, first(count)))}};
  }
  REHYAT_INLINE void store_first(float* p, int64_t count) const { _mm256_maskstore_ps(p, first(count), b); }
  friend REHYAT_INLINE Vec fma(Vec x, Vec y, Vec z) { return {{Batch(_mm256_fmadd_ps(x.b, y.b, z.b))}}; }
  friend REHYAT_INLINE Vec operator/(Vec x, Vec y) { return {{x.b / y.b}}; }
  friend REHYAT_INLINE Vec max(Vec x, Vec y) { return {{Batch(_mm256_max_ps(x.b, y.b))}}; }
  friend REHYAT_INLINE Vec min(Vec x, Vec y) { return {{Batch(_mm256_min_ps(x.b, y.b))}}; }
  friend REHYAT_INLINE Vec max_magnitude(Vec x, Vec y) {
    return {{Batch(
        _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(x.b), _mm256_castps_si256(abs(y).b))))}};
  }
  friend REHYAT_INLINE Vec round_nearest(Vec x) {
    return {{Batch(_mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))}};
  }
  friend REHYAT_INLINE Vec whole(Vec x) {
    return {{Batch(_mm256_round_ps(x.b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC))}};
  }
  friend REHYAT_INLINE Vec fraction(Vec x, Vec whole) { return x - whole; }
  friend REHYAT_INLINE Vec scale(Vec x, Vec n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.b), _mm256_set1_epi32(127));
    return x * Vec{{Batch(_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)))}};
  }
  friend REHYAT_INLINE Vec scale_unless_less(Vec x, Vec n, Vec gate, Vec limit) {
    return {{Batch(_mm256_and_ps(_mm256_cmp_ps(gate.b, limit.b, _CMP_NLT_UQ), scale(x, n).b))}};
  }
  friend REHYAT_INLINE Vec interleave_low(Vec x, Vec y) {
    return {
        {Batch(_mm256_permute2f128_ps(_mm256_unpacklo_ps(x.b, y.b), _mm256_unpackhi_ps(x.b, y.b), 0x20))}};
  }
  friend REHYAT_INLINE Vec interleave_high(Vec x, Vec y) {
    return {
        {Batch(_mm256_permute2f128_ps(_mm256_unpacklo_ps(x.b, y.b), _mm256_unpackhi_ps(x.b, y.b), 0x31))}};
  }
};

#elif defined(REHYAT_KERNEL_ISA_NEON)

using NativeArch = xsimd::neon64;
inline constexpr Isa native_isa = Isa::neon;

template <>
struct Vec<xsimd::neon64> : BatchVec<xsimd::neon64> {
  static REHYAT_INLINE Vec load_first(const float* p, int64_t count) {
    float values[lanes] = {};
    for (int64_t i = 0; i < count; ++i) values[i] = p[i];
    return load(values);
  }
  REHYAT_INLINE void store_first(float* p, int64_t count) const {
    float values[lanes];
    store(values);
    for (int64_t i = 0; i < count; ++i) p[i] = values[i];
  }
  friend REHYAT_INLINE Vec fma(Vec x, Vec y, Vec z) { return {{Batch(vfmaq_f32(z.b, x.b, y.b))}}; }
  // xsimd 8.1 refines an estimate, which is off by ulps and fails for subnormal and huge divisors
  friend REHYAT_INLINE Vec operator/(Vec x, Vec y) { return {{Batch(vdivq_f32(x.b, y.b))}}; }
  friend REHYAT_INLINE Vec max(Vec x, Vec y) { return {{Batch(vbslq_f32(vcgtq_f32(x.b, y.b), x.b, y.b))}}; }
  friend REHYAT_INLINE Vec min(Vec x, Vec y) { return {{Batch(vbslq_f32(vcltq_f32(x.b, y.b), x.b, y.b))}}; }
  friend REHYAT_INLINE Vec max_magnitude(Vec x, Vec y) {
    return {{Batch(
        vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(x.b), vreinterpretq_u32_f32(abs(y).b))))}};
  }
  friend REHYAT_INLINE Vec round_nearest(Vec x) { return {{Batch(vrndnq_f32(x.b))}}; }
  friend REHYAT_INLINE Vec whole(Vec x) { return {{Batch(vrndmq_f32(x.b))}}; }
  friend REHYAT_INLINE Vec fraction(Vec x, Vec whole) { return x - whole; }
  friend REHYAT_INLINE Vec scale(Vec x, Vec n) {
    const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n.b), vdupq_n_s32(127));
    return x * Vec{{Batch(vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)))}};
  }
  friend REHYAT_INLINE Vec scale_unless_less(Vec x, Vec n, Vec gate, Vec limit) {
    const uint32x4_t drop = vcltq_f32(gate.b, limit.b);
    return {{Batch(vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(scale(x, n).b), drop)))}};
  }
  friend REHYAT_INLINE Vec interleave_low(Vec x, Vec y) { return {{Batch(vzip1q_f32(x.b, y.b))}}; }
  friend REHYAT_INLINE Vec interleave_high(Vec x, Vec y) { return {{Batch(vzip2q_f32(x.b, y.b))}}; }
};

#else

/// Tag of the portable kernels, one float a vector: what runs where nothing else does, and what others are
/// tested against.
struct Scalar {};
using NativeArch = Scalar;
inline constexpr Isa native_isa = Isa::scalar;

template <>
struct Vec<Scalar> {
  using Mask = bool;
  static constexpr int lanes = 1;

  float b;

  static REHYAT_INLINE Vec load(const float* p) { return {*p}; }
  static REHYAT_INLINE Vec broadcast(float x) { return {x}; }
  REHYAT_INLINE void store(float* p) const { *p = b; }
  static REHYAT_INLINE Vec load_first(const float* p, int64_t count) { return {count > 0 ? *p : 0.0f}; }
  REHYAT_INLINE void store_first(float* p, int64_t count) const {
    if (count > 0) *p = b;
  }

  friend REHYAT_INLINE Vec operator+(Vec x, Vec y) { return {x.b + y.b}; }
  friend REHYAT_INLINE Vec operator-(Vec x, Vec y) { return {x.b - y.b}; }
  friend REHYAT_INLINE Vec operator*(Vec x, Vec y) { return {product(x.b, y.b)}; }
  friend REHYAT_INLINE Vec operator/(Vec x, Vec y) { return {x.b / y.b}; }
  friend REHYAT_INLINE Vec abs(Vec x) { return {__builtin_fabsf(x.b)}; }
  friend REHYAT_INLINE Mask less(Vec x, Vec y) { return x.b < y.b; }
  friend REHYAT_INLINE Vec select(Mask m, Vec yes, Vec no) { return m ? yes : no; }
  static REHYAT_INLINE bool any(Mask m) { return m; }
  friend REHYAT_INLINE bool any_nan(Vec x) { return x.b != x.b; }

  friend REHYAT_INLINE Vec interleave_low(Vec x, Vec) { return x; }
  friend REHYAT_INLINE Vec interleave_high(Vec, Vec y) { return y; }
  /// Two roundings everywhere: a library call would be needed for one where the baseline has no instruction.
  friend REHYAT_INLINE Vec fma(Vec x, Vec y, Vec z) { return {product(x.b, y.b) + z.b}; }
  friend REHYAT_INLINE Vec max(Vec x, Vec y) { return {x.b > y.b ? x.b : y.b}; }
  friend REHYAT_INLINE Vec min(Vec x, Vec y) { return {x.b < y.b ? x.b : y.b}; }
  friend REHYAT_INLINE Vec max_magnitude(Vec x, Vec y) {
    const Vec magnitude = abs(y);  // written so that NaN, which is not less, stays
    return {x.b != x.b || magnitude.b < x.b ? x.b : magnitude.b};
  }
  /// Adding 1.5 * 2^23 leaves no bits for a fraction; from 2^22 on there is none worth keeping (callers clamp
  /// or drop).
  friend REHYAT_INLINE Vec round_nearest(Vec x) {
    const float shifted = x.b + 12582912.0f;
    return {shifted - 12582912.0f};
  }
  friend REHYAT_INLINE Vec whole(Vec x) {
    const Vec nearest = round_nearest(x);
    return nearest.b > x.b ? nearest - Vec{1.0f} : nearest;
  }
  friend REHYAT_INLINE Vec fraction(Vec x, Vec whole) { return x - whole; }
  friend REHYAT_INLINE Vec scale(Vec x, Vec n) {
    // NaN, or a row that has one: its maximum need not be its largest score, and its output is NaN whatever
    // this gives; only a conversion that does not fit must not be made
    if (!(n.b >= -127.0f && n.b <= 127.0f)) return n;
    const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(n.b) + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, sizeof power);
    return x * Vec{power};
  }
  friend REHYAT_INLINE Vec scale_unless_less(Vec x, Vec n, Vec gate, Vec limit) {
    return gate.b < limit.b ? Vec{0.0f} : scale(x, n);
  }

 private:
  /// A product that no compiler may fuse with a later addition, so that the bits do not depend on its flags.
  /// Nor may it vectorise a tile's loop over the steps: GCC 12 then reads one row more than there are (-O2,
  /// x86-64).
  static REHYAT_INLINE float product(float x, float y) {
    float p = x * y;
#if defined(__SSE2__)
    __asm__("" : "+x"(p));
#elif defined(__aarch64__)
    __asm__("" : "+w"(p));
#endif
    return p;
  }
};

#endif

inline constexpr float infinity = __builtin_inff();
inline constexpr float quiet_nan = __builtin_nanf("");
inline constexpr float lowest = -3.40282346638528859812e+38f;  ///< of the finite ones

REHYAT_END_ISA_NAMESPACE
