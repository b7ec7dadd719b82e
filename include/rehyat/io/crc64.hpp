#pragma once
// CRC-64/XZ (polynomial 0x42F0E1EBA9EA3693 reflected, initial value and final exclusive or all ones; of the
// text "123456789" it is 0x995DC9BBDF1939FA). It differs after any burst of changes of up to 64 bits, hence
// after any single one.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace rehyat::detail {

static_assert(std::endian::native == std::endian::little, "eight bytes at a time are read as one number");

/// table[j][b]: the remainder of byte b followed by j zero bytes.
using Crc64Tables = std::array<std::array<std::uint64_t, 256>, 8>;

constexpr Crc64Tables make_crc64_tables() {
  Crc64Tables tables = {};
  for (std::uint64_t byte = 0; byte < 256; ++byte) {
    std::uint64_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = remainder >> 1 ^ (remainder & 1) * 0xC96C5795D7870F42;
    }
    tables[0][byte] = remainder;
  }
  for (std::size_t j = 1; j < 8; ++j) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint64_t shorter = tables[j - 1][byte];
      tables[j][byte] = shorter >> 8 ^ tables[0][shorter & 255];
    }
  }
  return tables;
}
inline constexpr Crc64Tables crc64_tables = make_crc64_tables();

/// The checksum of everything that was added, whatever the pieces.
class Crc64 {
 public:
  void add(std::span<const std::byte> bytes) {
    const auto entry = [](std::size_t table, std::uint64_t byte) { return crc64_tables[table][byte & 255]; };
    // eight look-ups that do not wait for each other take the place of eight that do
    for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
      std::uint64_t x = 0;
      std::memcpy(&x, bytes.data(), 8);
      x ^= remainder_;
      remainder_ = entry(7, x) ^ entry(6, x >> 8) ^ entry(5, x >> 16) ^ entry(4, x >> 24) ^
                   entry(3, x >> 32) ^ entry(2, x >> 40) ^ entry(1, x >> 48) ^ entry(0, x >> 56);
    }
    for (const std::byte byte : bytes) {
      remainder_ = remainder_ >> 8 ^ entry(0, remainder_ ^ static_cast<std::uint64_t>(byte));
    }
  }
  std::uint64_t value() const { return ~remainder_; }

 private:
  std::uint64_t remainder_ = ~std::uint64_t{0};
};

}  // namespace rehyat::detail
