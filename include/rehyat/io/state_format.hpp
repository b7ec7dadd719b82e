#pragma once
// The pieces of a state file: its header's fields, and the order of what an entry holds. The format itself is
// described in state_file.hpp.

#include <array>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>

#include "rehyat/detail/recurrent.hpp"
#include "rehyat/io/crc64.hpp"
#include "rehyat/io/feature_map_hash.hpp"
#include "rehyat/recurrent.hpp"
#include "rehyat/status.hpp"

namespace rehyat::detail {

static_assert(std::endian::native == std::endian::little, "numbers are copied to and from files as they are");

/// What is the same in every version, in front of the fields that describe the state.
struct StatePrefix {
  char magic[8];
  std::uint32_t byte_order;
  std::uint32_t format_version;
  std::uint64_t length;  ///< bytes of the whole file
};
static_assert(sizeof(StatePrefix) == 24);

inline constexpr char state_magic[] = {'\x89', 'r', 'e', 'h', 'y', 'a', 't', '\n'};
inline constexpr std::uint32_t state_byte_order = 0x01020304;

inline constexpr std::size_t entries_offset = 24, state_header_size = 144, state_checksum_size = 8;
inline constexpr std::size_t entry_header_size = 16;

/// The door to a state's memory.
class StateAccess {
 public:
  static StateMemory memory(const RecurrentState& state) { return {state.config_, state.data_}; }
};

/// A number in the header that must be the state's own.
struct StateField {
  enum class Type : std::uint8_t { u32, i64, f32, f64, hash };

  std::size_t offset;
  Type type;
  const char* name;
  std::uint64_t bits;  ///< of the state's own value

  std::size_t size() const { return type == Type::u32 || type == Type::f32 ? 4 : 8; }

  /// A value of this type as text, for messages.
  std::array<char, 32> text(std::uint64_t value) const {
    std::array<char, 32> text = {};
    const auto print = [&](const char* format, auto number) {
      std::snprintf(text.data(), text.size(), format, number);
    };
    switch (type) {
      case Type::u32:
        print("%" PRIu64, value);
        break;
      case Type::i64:
        print("%" PRId64, static_cast<std::int64_t>(value));
        break;
      case Type::f32:
        print("%.9g", static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(value))));
        break;
      case Type::f64:
        print("%.17g", std::bit_cast<double>(value));
        break;
      case Type::hash:
        print("%016" PRIx64, value);
        break;
    }
    return text;
  }
};

/// The fields behind the prefix and the number of entries, as the file of a state with this config has them.
inline std::array<StateField, 17> state_fields(const RecurrentConfig& c) {
  using Type = StateField::Type;
  const auto i64 = [](std::size_t offset, const char* name, std::int64_t value) {
    return StateField{offset, Type::i64, name, static_cast<std::uint64_t>(value)};
  };
  const auto u32 = [](std::size_t offset, const char* name, auto value) {
    return StateField{offset, Type::u32, name, static_cast<std::uint64_t>(value)};
  };
  const auto f32 = [](std::size_t offset, const char* name, float value) {
    return StateField{offset, Type::f32, name, std::bit_cast<std::uint32_t>(value)};
  };
  const double scale =
      c.scale ? static_cast<double>(*c.scale) : 1 / std::sqrt(static_cast<double>(c.head_dim));
  return {{
      u32(32, "tail_type (0: float32, 1: bfloat16, 2: float16)", c.tail_type),
      u32(36, "schedule (0: hybrid, 1: linear)", c.schedule),
      i64(40, "heads", c.heads),
      i64(48, "kv_heads", c.kv_heads),
      i64(56, "head_dim", c.head_dim),
      i64(64, "value_dim", c.value_dim),
      i64(72, "feature_dim", c.phi_k.feature_dim(c.head_dim)),
      i64(80, "tokens_per_frame", c.chunking.tokens_per_frame),
      i64(88, "chunk_frames", c.chunking.chunk_frames),
      i64(96, "overlap_frames", c.chunking.overlap_frames),
      u32(104, "separate_denominator", c.separate_denominator),
      u32(108, "stabilizer (0: row_max, 1: none)", c.stabilizer),
      {112, Type::f64, "scale", std::bit_cast<std::uint64_t>(scale)},
      f32(120, "denominator_epsilon", c.denominator_epsilon),
      f32(124, "denominator_floor", c.denominator_floor),
      {128, Type::hash, "hash of phi_q", feature_map_hash(c.phi_q, c.head_dim)},
      {136, Type::hash, "hash of phi_k", feature_map_hash(c.phi_k, c.head_dim)},
  }};
}

/// Goes through what batch entry `b` holds after `frames_seen` frames, in the order of the file:
/// stored(address, bytes) for each piece, unused(bytes) for the places of the tail that nothing fills yet.
template <class Stored, class Unused>
void for_each_piece(const StateMemory& memory, const RecurrentConfig& c, std::int64_t b,
                    std::int64_t frames_seen, Stored stored, Unused unused) {
  const StateLayout& layout = memory.layout();
  const std::int64_t features = layout.dims.feature_dim;
  const auto floats = [&](float* values, std::int64_t count) {
    stored(reinterpret_cast<std::byte*>(values), static_cast<std::size_t>(count) * sizeof(float));
  };
  for (std::int64_t g = 0; g < c.kv_heads; ++g) {
    for (float* const sums : {memory.sums().hi(b, g), memory.sums().lo(b, g)}) {
      const std::int64_t row = kernel::padded(c.value_dim);
      for (std::int64_t f = 0; f < features; ++f) floats(sums + f * row, c.value_dim);
      floats(sums + features * row, features);
    }
  }

  const std::int64_t kept = frames_seen < c.chunking.overlap_frames ? frames_seen : c.chunking.overlap_frames;
  const std::size_t tokens = static_cast<std::size_t>(kept * c.chunking.tokens_per_frame);
  const std::size_t tail_tokens = static_cast<std::size_t>(layout.tail_tokens);
  const auto tail = [&](std::int64_t offset, std::int64_t dim, ElementType type) {
    const std::size_t row = static_cast<std::size_t>(dim * element_size(type));
    std::byte* const first = reinterpret_cast<std::byte*>(memory.entry(b) + offset);
    for (std::size_t g = 0; g < static_cast<std::size_t>(c.kv_heads); ++g) {
      stored(first + g * tail_tokens * row, tokens * row);
      unused((tail_tokens - tokens) * row);
    }
  };
  tail(layout.k, c.head_dim, c.tail_type);
  tail(layout.v, c.value_dim, c.tail_type);
  if (has_tail_features(c)) tail(layout.features, features, ElementType::float32);
  if (has_tail_features(c) && c.separate_denominator) {
    tail(layout.feature_denominators, features, ElementType::float32);
  }
}

/// Bytes of one entry in a file; less than it has in memory.
inline std::size_t state_entry_size(const StateMemory& memory, const RecurrentConfig& c) {
  std::size_t size = entry_header_size;
  for_each_piece(
      memory, c, 0, 0, [&](const std::byte*, std::size_t bytes) { size += bytes; },
      [&](std::size_t bytes) { size += bytes; });
  return size;
}

/// False where a file of so many entries is larger than any.
inline bool state_file_bytes(std::uint64_t entries, std::size_t entry_size, std::size_t& bytes) {
  return !__builtin_mul_overflow(entries, entry_size, &bytes) &&
         !__builtin_add_overflow(bytes, state_header_size + state_checksum_size, &bytes);
}

/// A number at a place in a file.
template <class T>
T load(std::span<const std::byte> file, std::size_t offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

/// Checksum of what is in front of the checksum.
inline std::uint64_t state_checksum(std::span<const std::byte> file) {
  Crc64 crc;
  crc.add(file.first(file.size() - state_checksum_size));
  return crc.value();
}

}  // namespace rehyat::detail
