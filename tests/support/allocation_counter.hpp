#pragma once

#include <cstdint>

namespace rehyat::support {

/// Counts heap allocations of all threads from its construction until stop(). Link allocation_counter.cpp: it
/// puts itself in front of malloc and its kin, which operator new goes through. One at a time; assert only
/// after stop(), as assertions allocate.
class AllocationCounter {
 public:
  AllocationCounter();
  ~AllocationCounter();
  AllocationCounter(const AllocationCounter&) = delete;
  AllocationCounter& operator=(const AllocationCounter&) = delete;

  /// Stops counting; the number of calls that allocated or resized.
  std::int64_t stop();

  /// False where malloc cannot be replaced: other libraries than glibc, and under sanitizers, which do so
  /// themselves.
  static bool works();
};

}  // namespace rehyat::support
