#pragma once
// The element types of files, and their conversion to float32.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "rehyat/element.hpp"

namespace rehyat {

static_assert(std::endian::native == std::endian::little,
              "the files are little-endian and are copied as they are");

/// How a file stores its numbers.
enum class StoredType : std::uint8_t { float16, bfloat16, float32, float64 };

constexpr const char* stored_type_name(StoredType type) {
  switch (type) {
    case StoredType::float16:
      return "float16";
    case StoredType::bfloat16:
      return "bfloat16";
    case StoredType::float32:
      return "float32";
    case StoredType::float64:
      return "float64";
  }
  return "unknown";
}

/// Bytes of one element.
constexpr std::int64_t stored_size(StoredType type) {
  switch (type) {
    case StoredType::float16:
    case StoredType::bfloat16:
      return 2;
    case StoredType::float32:
      return 4;
    case StoredType::float64:
      return 8;
  }
  return 0;
}

/// Converts `count` packed elements at `bytes` (no alignment needed) to float32. float64 rounds to nearest
/// even, and to infinity beyond the range; the other types convert exactly.
inline void convert_to_float(StoredType type, const std::byte* bytes, std::int64_t count, float* out) {
  const auto load = [bytes]<class T>(std::int64_t i, T value) {
    std::memcpy(&value, bytes + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    return value;
  };
  if (count == 0) return;
  switch (type) {
    case StoredType::float16:
      for (std::int64_t i = 0; i < count; ++i) out[i] = half_to_float(load(i, std::uint16_t{}));
      return;
    case StoredType::bfloat16:
      for (std::int64_t i = 0; i < count; ++i) out[i] = bfloat16_to_float(load(i, std::uint16_t{}));
      return;
    case StoredType::float32:
      std::memcpy(out, bytes, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case StoredType::float64:
      for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load(i, double{}));
      return;
  }
}

}  // namespace rehyat
