#pragma once
// The element types of tensors, as vectors of float: loaded exactly, stored to nearest even.

#include "rehyat/kernel/tile_shape.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The bits of an element that the host holds in a type of its own.
typedef std::uint16_t __attribute__((__may_alias__)) Bits16;

struct Float32 {
  using Storage = float;
  static REHYAT_INLINE V load(const Storage* p) { return V::load(p); }
  static REHYAT_INLINE void store(V x, Storage* p) { x.store(p); }
  static REHYAT_INLINE float get(const Storage* p) { return *p; }
  static REHYAT_INLINE void put(float x, Storage* p) { *p = x; }
};

/// Conversion is shifts and integer additions on every instruction set: the host's rounding mode and
/// treatment of subnormals do not matter.
struct Bfloat16 {
  using Storage = Bits16;
  static REHYAT_INLINE float get(const Storage* p) { return bfloat16_to_float(*p); }
  static REHYAT_INLINE void put(float x, Storage* p) { *p = float_to_bfloat16(x); }

#if defined(REHYAT_KERNEL_ISA_AVX512)
  static REHYAT_INLINE V load(const Storage* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(V::all, bits);
    return {{V::Batch(_mm512_castsi512_ps(_mm512_maskz_slli_epi32(V::all, wide, 16)))}};
  }
  static REHYAT_INLINE void store(V x, Storage* p) {
    const __m512i bits = _mm512_castps_si512(x.b);
    const __m512i upper = _mm512_maskz_srli_epi32(V::all, bits, 16);
    const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(x.b, x.b, _CMP_UNORD_Q);
    const __m512i rounded =
        _mm512_mask_or_epi32(_mm512_maskz_srli_epi32(V::all, up, 16), nan, upper, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(V::all, rounded));
  }
#elif defined(REHYAT_KERNEL_ISA_AVX2)
  static REHYAT_INLINE V load(const Storage* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {{V::Batch(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)))}};
  }
  static REHYAT_INLINE void store(V x, Storage* p) {
    const __m256i bits = _mm256_castps_si256(x.b);
    const __m256i upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q));
    const __m256i rounded = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), quiet, nan);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
  }
#elif defined(REHYAT_KERNEL_ISA_NEON)
  static REHYAT_INLINE V load(const Storage* p) {
    return {{V::Batch(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)))}};
  }
  static REHYAT_INLINE void store(V x, Storage* p) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x.b);
    const uint32x4_t upper = vshrq_n_u32(bits, 16);
    const uint32x4_t up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), vandq_u32(upper, vdupq_n_u32(1)));
    const uint32x4_t quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
    const uint32x4_t number = vceqq_f32(x.b, x.b);
    vst1_u16(p, vmovn_u32(vbslq_u32(number, vshrq_n_u32(up, 16), quiet)));
  }
#else
  static REHYAT_INLINE V load(const Storage* p) { return {get(p)}; }
  static REHYAT_INLINE void store(V x, Storage* p) { put(x.b, p); }
#endif
};

/// Conversion by the instruction where there is one, which ignores the host's flushing of subnormals and is
/// told how to round (on ARM it follows FPCR); else element by element.
struct Float16 {
  using Storage = Bits16;
  static REHYAT_INLINE float get(const Storage* p) { return half_to_float(*p); }
  static REHYAT_INLINE void put(float x, Storage* p) { *p = float_to_half(x); }

#if defined(REHYAT_KERNEL_ISA_AVX512)
  static REHYAT_INLINE V load(const Storage* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {{V::Batch(_mm512_maskz_cvtph_ps(V::all, bits))}};
  }
  static REHYAT_INLINE void store(V x, Storage* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_maskz_cvtps_ph(V::all, x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
#elif defined(REHYAT_KERNEL_ISA_AVX2) && defined(__F16C__)
  static REHYAT_INLINE V load(const Storage* p) {
    return {{V::Batch(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))}};
  }
  static REHYAT_INLINE void store(V x, Storage* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
  }
#elif defined(REHYAT_KERNEL_ISA_NEON)
  static REHYAT_INLINE V load(const Storage* p) {
    return {{V::Batch(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))))}};
  }
  static REHYAT_INLINE void store(V x, Storage* p) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.b))); }
#else
  static REHYAT_INLINE V load(const Storage* p) {
    float wide[V::lanes];
    for (int i = 0; i < V::lanes; ++i) wide[i] = get(p + i);
    return V::load(wide);
  }
  static REHYAT_INLINE void store(V x, Storage* p) {
    float wide[V::lanes];
    x.store(wide);
    for (int i = 0; i < V::lanes; ++i) put(wide[i], p + i);
  }
#endif
};

/// Element `index` of elements whose type is known at run time.
REHYAT_INLINE const void* element_at(const void* data, ElementType type, int64_t index) {
  return static_cast<const char*>(data) + index * element_size(type);
}
REHYAT_INLINE void* element_at(void* data, ElementType type, int64_t index) {
  return static_cast<char*>(data) + index * element_size(type);
}

/// Calls f with the policy of an element type.
template <class F>
REHYAT_INLINE auto with_element(ElementType type, F f) {
  switch (type) {
    case ElementType::bfloat16:
      return f(Bfloat16{});
    case ElementType::float16:
      return f(Float16{});
    default:
      return f(Float32{});
  }
}

REHYAT_END_ISA_NAMESPACE
