#pragma once

/// @file rehyat/executors/eigen.hpp
/// Tasks on Eigen's thread pool, or any other behind Eigen::ThreadPoolInterface.

#if __has_include(<Eigen/ThreadPool>)
#include <Eigen/ThreadPool>
#else
#include <unsupported/Eigen/CXX11/ThreadPool>
#endif

#include <cstdint>

#include "rehyat/detail/shared_tasks.hpp"
#include "rehyat/executor.hpp"

namespace rehyat {

/// An Executor over a borrowed pool, which must outlive it and must not be cancelled during a call. The
/// calling thread works too, so that `slots` - 1 of the pool's threads are asked for help; a phase ends when
/// these have had their turn, however busy the host keeps them. On one of the pool's own threads a phase runs
/// there alone: waiting for its fellows could be for ever. Several threads may use one executor at once, and
/// tasks may call run(). Allocates nothing itself; Eigen's pool keeps what is scheduled in fixed queues.
class EigenExecutor {
 public:
  /// As many threads at work as the pool has.
  explicit EigenExecutor(Eigen::ThreadPoolInterface& pool) : EigenExecutor(pool, pool.NumThreads()) {}

  /// NumThreads() + 1 where the host counts the calling thread on top of its pool. Smaller than 1 counts
  /// as 1.
  EigenExecutor(Eigen::ThreadPoolInterface& pool, int slots) : pool_(pool), slots_(slots < 1 ? 1 : slots) {}

  int slots() const { return slots_; }

  void run(std::int64_t count, TaskRef task) const {
    detail::SharedTasks tasks(count, task);
    const bool on_pool = pool_.CurrentThreadId() >= 0;
    const int helpers = on_pool || count <= 1 ? 0 : tasks.workers(slots_) - 1;
    Phase phase{tasks, Eigen::Barrier(static_cast<unsigned>(helpers))};
    for (int slot = 1; slot <= helpers; ++slot) {
      pool_.Schedule([&phase, slot] {  // two words: std::function holds them without allocating
        phase.tasks.work(slot);
        phase.helpers.Notify();
      });
    }
    tasks.work(0);
    phase.helpers.Wait();
  }

 private:
  struct Phase {
    detail::SharedTasks& tasks;
    Eigen::Barrier helpers;
  };

  Eigen::ThreadPoolInterface& pool_;
  int slots_;
};

}  // namespace rehyat
