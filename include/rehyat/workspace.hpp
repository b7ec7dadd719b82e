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
  static constexpr std::size_t alignment = 64;

  Arena() = default;  ///< only measures
  explicit Arena(Workspace w)
      : base_(reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(w.data) + alignment - 1) &
                                      ~static_cast<std::uintptr_t>(alignment - 1))) {}

  float* floats(std::int64_t count) {
    const std::size_t offset = used_;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
    used_ += (bytes + alignment - 1) / alignment * alignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<float*>(base_ + offset);
  }

  /// Bytes that the caller must bring, whatever the alignment of his pointer.
  std::size_t size() const { return used_ == 0 ? 0 : used_ + alignment; }

 private:
  char* base_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace detail
}  // namespace rehyat
