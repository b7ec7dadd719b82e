#pragma once

#include <cstddef>
#include <cstdint>

#include "rehyat/config.hpp"

namespace rehyat {

/// The caller's scratch memory for one call: at least as many bytes as the operator's workspace_size() says,
/// of any alignment. Its contents mean nothing before or after the call, and its size never changes a result.
struct Workspace {
  void* data = nullptr;
  std::size_t size = 0;
};

namespace detail {

/// Cuts a buffer into cache-line aligned arrays of float. Run once over no memory it measures what is needed;
/// run over the caller's bytes it gives the same arrays addresses: one description serves both.
class Arena {
 public:
  static constexpr std::int64_t alignment = 64;

  Arena() = default;  ///< only measures
  explicit Arena(Workspace w)
      : base_(reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(w.data) + alignment - 1) &
                                      ~static_cast<std::uintptr_t>(alignment - 1))) {}

  /// An array of the product of `counts` floats.
  template <class... Counts>
  float* floats(Counts... counts) {
    const std::int64_t offset = used_;
    std::int64_t bytes = sizeof(float);
    const auto multiply = [&](std::int64_t count) {
      overflows_ = overflows_ || __builtin_mul_overflow(bytes, count, &bytes) || bytes > limit;
    };
    (multiply(counts), ...);
    if (overflows_) return nullptr;
    used_ += (bytes + alignment - 1) / alignment * alignment;
    overflows_ = used_ > limit;
    return base_ == nullptr ? nullptr : reinterpret_cast<float*>(base_ + offset);
  }

  /// More was asked for than can be; size() is then meaningless.
  bool overflows() const { return overflows_; }

  /// Bytes taken so far, a multiple of `alignment`.
  std::int64_t used() const { return used_; }

  /// Bytes that the caller must bring, whatever the alignment of his pointer.
  std::size_t size() const { return used_ == 0 ? 0 : static_cast<std::size_t>(used_ + alignment); }

 private:
  static constexpr std::int64_t limit = INT64_MAX / 4;
  char* base_ = nullptr;
  std::int64_t used_ = 0;
  bool overflows_ = false;
};

}  // namespace detail
}  // namespace rehyat
