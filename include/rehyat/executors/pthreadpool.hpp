#pragma once

/// @file rehyat/executors/pthreadpool.hpp
/// Tasks on a pthreadpool, as XNNPACK, TensorFlow Lite and PyTorch have it. Link with pthreadpool.

#include <pthreadpool.h>

#include <cstddef>
#include <cstdint>

#include "rehyat/detail/shared_tasks.hpp"
#include "rehyat/executor.hpp"

namespace rehyat {

/// An Executor over a borrowed pool, which must outlive it; null, as everywhere in pthreadpool, is the
/// calling thread alone. The calling thread is one of the pool's. Threads that use one pool at once wait for
/// each other; a task must not call run() of its own pool. Denormals are left as the threads have them.
/// Allocates nothing.
class PthreadpoolExecutor {
 public:
  explicit PthreadpoolExecutor(pthreadpool_t pool) : pool_(pool) {}

  int slots() const { return static_cast<int>(pthreadpool_get_threads_count(pool_)); }

  void run(std::int64_t count, TaskRef task) const {
    detail::SharedTasks tasks(count, task);
    const auto work = [](void* shared, std::size_t slot) {
      static_cast<detail::SharedTasks*>(shared)->work(static_cast<int>(slot));
    };
    pthreadpool_parallelize_1d(pool_, work, &tasks, static_cast<std::size_t>(tasks.workers(slots())), 0);
  }

 private:
  pthreadpool_t pool_;
};

}  // namespace rehyat
