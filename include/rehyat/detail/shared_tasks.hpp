#pragma once

#include <atomic>
#include <cstdint>

#include "rehyat/executor.hpp"

namespace rehyat::detail {

/// The tasks of one phase, handed out one by one. Each call of work() is a worker with a slot of its own, so
/// it does not matter which of a host's threads makes it, nor when: one that comes late finds nothing left.
/// Whoever made the threads work also waits for them.
class SharedTasks {
 public:
  SharedTasks(std::int64_t count, TaskRef task) : task_(task), count_(count) {}

  /// Runs tasks as worker `slot` until none is left to take.
  void work(int slot) {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(i, slot);
  }

  /// Workers of `slots` that have something to do.
  int workers(int slots) const { return count_ < slots ? static_cast<int>(count_ > 0 ? count_ : 0) : slots; }

 private:
  const TaskRef task_;
  const std::int64_t count_;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace rehyat::detail
