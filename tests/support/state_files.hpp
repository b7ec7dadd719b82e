#pragma once
// State files for tests: written into guarded memory, read from it, forged.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guard_pages.hpp"
#include "rehyat/io/state_file.hpp"
#include "run.hpp"

namespace rehyat::support {

/// What `save(span)` writes into `size` bytes that end at an inaccessible page.
template <class Save>
std::string saved_bytes(std::size_t size, Save save) {
  GuardedBuffer buffer(static_cast<std::int64_t>((size + sizeof(float) - 1) / sizeof(float)));
  std::byte* const bytes = reinterpret_cast<std::byte*>(buffer.data() + buffer.size()) - size;
  const Status status = save(std::span(bytes, size));
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(buffer.canaries_left_outside([](std::size_t) { return true; })) << "written in front of it";
  return {reinterpret_cast<const char*>(bytes), size};
}

inline std::string saved(const RecurrentState& state) {
  return saved_bytes(state_file_size(state),
                     [&](std::span<std::byte> file) { return save_state(state, file); });
}

inline std::string saved_entry(const RecurrentState& state, std::int64_t b) {
  return saved_bytes(entry_file_size(state),
                     [&](std::span<std::byte> file) { return save_entry(state, b, file); });
}

inline std::span<const std::byte> as_file(std::string_view bytes) {
  return std::as_bytes(std::span(bytes.data(), bytes.size()));
}

inline bool same_bytes(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

/// The checksum of the format, bit by bit as its definition says it.
inline std::uint64_t plain_crc64(std::string_view bytes) {
  std::uint64_t remainder = ~std::uint64_t{0};
  for (const char c : bytes) {
    remainder ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) {
      remainder = (remainder & 1) != 0 ? remainder >> 1 ^ 0xC96C5795D7870F42 : remainder >> 1;
    }
  }
  return ~remainder;
}

/// A file with `value` at `offset`, and a checksum to match.
template <class T>
std::string forged(std::string file, std::size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
  const std::size_t end = file.size() - sizeof(std::uint64_t);
  const std::uint64_t checksum = plain_crc64(std::string_view(file).substr(0, end));
  std::memcpy(file.data() + end, &checksum, sizeof checksum);
  return file;
}

}  // namespace rehyat::support
