#pragma once
// Files for tests: a directory that goes away, whole-file access, and the damage that a reader has to
// survive.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rehyat/status.hpp"

namespace rehyat::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "rehyat-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string file(std::string_view name) const { return (path_ / name).string(); }

  /// The names in it, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The bytes of a value as they lie in memory.
template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Hands `parse` a copy of `bytes` in memory of exactly its size, so that a sanitizer sees any access beyond.
template <class Parse>
auto parse_exact(std::string_view bytes, Parse&& parse) {
  const std::unique_ptr<std::byte[]> copy(new std::byte[bytes.size()]);
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  return parse(std::span<const std::byte>(copy.get(), bytes.size()));
}

/// Calls `use` with `bytes` cut at every length below its own.
template <class Use>
void for_each_truncation(const std::string& bytes, Use&& use) {
  for (std::size_t size = 0; size < bytes.size(); ++size) use(bytes.substr(0, size));
}

/// Calls `use` with `bytes` in which one byte is changed: every byte, every bit of it, and all of its bits.
template <class Use>
void for_each_flip(const std::string& bytes, Use&& use) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int mask : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ mask);
      use(damaged);
    }
  }
}

/// One line that names the file and, somewhere, says `what`.
inline void expect_refused(const Status& status, StatusCode code, std::string_view file,
                           std::string_view what) {
  const std::string_view message = status.message();
  EXPECT_EQ(status.code(), code) << message;
  EXPECT_NE(message.find(file), std::string_view::npos) << message;
  EXPECT_NE(message.find(what), std::string_view::npos) << message << " (expected: " << what << ")";
  EXPECT_EQ(message.find('\n'), std::string_view::npos) << message;
}

}  // namespace rehyat::test
