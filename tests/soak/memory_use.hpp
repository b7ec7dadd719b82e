#pragma once

#include <malloc.h>

#include <cstddef>
#include <cstdio>
#include <optional>

#include "support/allocation_counter.hpp"

namespace rehyat::soak {

/// Bytes of this process.
struct MemoryUse {
  std::size_t resident = 0;   ///< in RAM, without the pages of files: code is loaded as it is first run
  std::size_t allocated = 0;  ///< by malloc and not yet freed
};

/// RssAnon of /proc/self/status.
inline std::optional<std::size_t> own_resident_bytes() {
  std::FILE* status = std::fopen("/proc/self/status", "r");
  if (status == nullptr) return std::nullopt;
  std::optional<std::size_t> bytes;
  char line[256];
  while (!bytes && std::fgets(line, sizeof line, status) != nullptr) {
    std::size_t kilobytes = 0;
    if (std::sscanf(line, "RssAnon: %zu kB", &kilobytes) == 1) bytes = kilobytes << 10;
  }
  std::fclose(status);
  return bytes;
}

/// After what is free has been given back to the system, so that two measurements can be compared. Nothing
/// where malloc is not glibc's own: a sanitizer's keeps freed memory back.
inline std::optional<MemoryUse> memory_use() {
#ifdef __GLIBC__
  if (!support::AllocationCounter::works()) return std::nullopt;
  malloc_trim(0);
  const std::optional<std::size_t> resident = own_resident_bytes();
  if (!resident) return std::nullopt;
  const struct mallinfo2 info = mallinfo2();
  return MemoryUse{.resident = *resident, .allocated = info.uordblks + info.hblkhd};
#else
  return std::nullopt;
#endif
}

/// Makes malloc give back at once what is free at the end of a heap. By default its threshold grows to 64 MB
/// for each of the threads' heaps, and what is resident says little.
inline void keep_heaps_trimmed() {
#ifdef __GLIBC__
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
#endif
}

/// Checks that a process that does the same again and again does not grow.
class MemoryWatch {
 public:
  /// Under an emulator what is resident is mostly its own, the code that it has translated so far: there only
  /// what is allocated counts.
  explicit MemoryWatch(bool counts_resident) : counts_resident_(counts_resident) {}

  /// What may be added after the warm-up: what malloc keeps of pages that are not quite free, and for
  /// threads. A state or a workspace lost now and then is more than that within a minute.
  static constexpr std::size_t resident_slack = 4 << 20, allocated_slack = 256 << 10;

  /// The process is warm: this is what it may use.
  void begin() { start_ = memory_use(); }
  bool has_begun() const { return start_.has_value(); }

  bool has_grown() {
    if (!start_) return false;
    now_ = memory_use();
    return (counts_resident_ && now_->resident > start_->resident + resident_slack) ||
           now_->allocated > start_->allocated + allocated_slack;
  }

  /// One line.
  void print() const {
    if (!start_) return static_cast<void>(std::puts("memory: not measured"));
    const auto mb = [](std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
    std::printf("memory: resident %.1f MB after the warm-up, %.1f MB now; allocated %.2f MB, %.2f MB now\n",
                mb(start_->resident), mb(now_->resident), mb(start_->allocated), mb(now_->allocated));
  }

 private:
  bool counts_resident_;
  std::optional<MemoryUse> start_;
  std::optional<MemoryUse> now_ = start_;
};

}  // namespace rehyat::soak
