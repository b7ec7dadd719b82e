#pragma once
// What tensors are made of: float32 and the two 16-bit types that engines store activations in. Arithmetic is
// float32 for all of them.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rehyat/config.hpp"

namespace rehyat {

/// How the elements of a tensor are stored. The values are part of the format of state files.
enum class ElementType : std::uint8_t { float32 = 0, bfloat16 = 1, float16 = 2 };

/// "float32", "bfloat16" or "float16".
constexpr const char* element_name(ElementType type) {
  switch (type) {
    case ElementType::float32:
      return "float32";
    case ElementType::bfloat16:
      return "bfloat16";
    case ElementType::float16:
      return "float16";
  }
  return "unknown";
}

/// Bytes of an element.
constexpr REHYAT_INLINE std::int64_t element_size(ElementType type) {
  return type == ElementType::float32 ? 4 : 2;
}

/// IEEE 754 binary16 to float32: exact; a NaN keeps its payload and becomes quiet.
constexpr REHYAT_INLINE float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu;
  const std::uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is a normal float32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  constexpr std::uint32_t bias_difference = 127 - 15;
  const std::uint32_t wide_exponent = exponent == 0x1Fu ? 0xFFu : exponent + bias_difference;
  const std::uint32_t quiet = exponent == 0x1Fu && mantissa != 0 ? 0x400000u : 0u;
  return std::bit_cast<float>(sign | wide_exponent << 23 | mantissa << 13 | quiet);
}

/// bfloat16 to float32: exact, NaN payloads kept.
constexpr REHYAT_INLINE float bfloat16_to_float(std::uint16_t bfloat) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bfloat) << 16);
}

/// float32 to bfloat16, to nearest even; beyond the range infinity. A NaN keeps the upper bits of its payload
/// and becomes quiet.
constexpr REHYAT_INLINE std::uint16_t float_to_bfloat16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/// float32 to IEEE 754 binary16, to nearest even, subnormals included; from 65520 on infinity. A NaN keeps
/// the upper bits of its payload and becomes quiet.
constexpr REHYAT_INLINE std::uint16_t float_to_half(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<std::uint16_t>(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
  if (magnitude >= 0x477FF000u) return static_cast<std::uint16_t>(sign | 0x7C00u);
  std::uint32_t mantissa = magnitude & 0x7FFFFFu;
  std::uint32_t dropped = 13;  // bits of the mantissa that half has no room for
  std::uint32_t kept = 0;
  if (magnitude >= 0x38800000u) {  // normal in half
    kept = ((magnitude >> 23) - (127 - 15)) << 10;
  } else {  // subnormal: the leading 1 becomes explicit and moves right; below 2^-25 nothing is left
    const std::uint32_t exponent = magnitude >> 23;
    if (exponent < 127 - 25) return static_cast<std::uint16_t>(sign);
    mantissa |= 0x800000u;
    dropped = 13 + (127 - 14) - exponent;
  }
  kept += mantissa >> dropped;
  const std::uint32_t rest = mantissa & ((1u << dropped) - 1), half = 1u << (dropped - 1);
  if (rest > half || (rest == half && (kept & 1u) != 0)) ++kept;
  return static_cast<std::uint16_t>(sign | kept);
}

/// The upper half of a float32, as a plain 2-byte value. A host's own type of that layout will do as well,
/// see ElementTraits.
struct bfloat16 {
  std::uint16_t bits = 0;

  constexpr bfloat16() = default;
  /// To nearest even.
  constexpr explicit bfloat16(float x) : bits(float_to_bfloat16(x)) {}
  constexpr explicit operator float() const { return bfloat16_to_float(bits); }
};

/// IEEE 754 binary16 as a plain 2-byte value.
struct float16 {
  std::uint16_t bits = 0;

  constexpr float16() = default;
  /// To nearest even.
  constexpr explicit float16(float x) : bits(float_to_half(x)) {}
  constexpr explicit operator float() const { return half_to_float(bits); }
};

/// Says how a C++ type stores an element. A host makes its own 2-byte type known with one line, no header of
/// either side included by the other:
///   template <> struct rehyat::ElementTraits<engine::half> : rehyat::StoredAs<rehyat::ElementType::float16>
///   {};
/// eigen.hpp has done it for Eigen's types.
template <class T>
struct ElementTraits {};

/// Base of the specialisations of ElementTraits.
template <ElementType stored_type>
struct StoredAs {
  static constexpr ElementType type = stored_type;
};

template <>
struct ElementTraits<float> : StoredAs<ElementType::float32> {};
template <>
struct ElementTraits<bfloat16> : StoredAs<ElementType::bfloat16> {};
template <>
struct ElementTraits<float16> : StoredAs<ElementType::float16> {};
#ifdef __ARM_FP16_FORMAT_IEEE
template <>
struct ElementTraits<__fp16> : StoredAs<ElementType::float16> {};
#endif
// GCC 12 has the macro on ARM, but the type in C only
#if defined(__FLT16_MANT_DIG__) && (defined(__clang__) || defined(__SSE2__) || __GNUC__ >= 13)
template <>
struct ElementTraits<_Float16> : StoredAs<ElementType::float16> {};
#endif
#if defined(__BFLT16_MANT_DIG__) || defined(__ARM_FEATURE_BF16)
template <>
struct ElementTraits<__bf16> : StoredAs<ElementType::bfloat16> {};
#endif

/// A type that tensors can be made of, const or not.
template <class T>
concept Element = std::is_trivially_copyable_v<T> && requires {
  ElementTraits<std::remove_cv_t<T>>::type;
} && sizeof(T) == static_cast<std::size_t>(element_size(ElementTraits<std::remove_cv_t<T>>::type));

/// The type that a C++ type stores.
template <Element T>
inline constexpr ElementType element_type_of = ElementTraits<std::remove_cv_t<T>>::type;

}  // namespace rehyat
