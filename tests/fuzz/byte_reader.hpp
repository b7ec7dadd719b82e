#pragma once
// A fuzzer's input as a stream of decisions. Behind its end every decision is the first choice, so that a
// short input is a simple case and a prefix of a longer one.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace rehyat::fuzz {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }

  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }

  /// In [low, high]: one byte where that is enough, else two; the range has at most 65536 values.
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    const std::int64_t choices = high - low + 1;
    const std::int64_t value = choices <= 256 ? byte() : byte() * 256 + byte();
    return low + value % choices;
  }

  bool coin() { return byte() % 2 == 1; }
  /// True in one of `n` cases.
  bool one_in(std::int64_t n) { return integer(0, n - 1) == n - 1; }

  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[integer(0, static_cast<std::int64_t>(choices.size()) - 1)];
  }

  /// For what is better random than decided: the values of tensors.
  std::uint64_t seed() { return static_cast<std::uint64_t>(integer(0, 65535)); }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace rehyat::fuzz
