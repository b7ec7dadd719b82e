#pragma once

/// @file rehyat/executors/tbb.hpp
/// Tasks in an arena of oneTBB. Link with TBB::tbb.

#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <cstdint>

#include "rehyat/detail/shared_tasks.hpp"
#include "rehyat/executor.hpp"

namespace rehyat {

/// An Executor over the threads of a borrowed arena, which must outlive it. A thread that waits for a phase
/// takes no other work of the arena meanwhile: an operator that runs inside a task of the host's is not
/// interrupted by another one of them. Several threads may use one executor at once, and tasks may call
/// run(). Allocates nothing but TBB's own task objects, one a worker, which TBB keeps for the next phase.
class TbbExecutor {
 public:
  explicit TbbExecutor(tbb::task_arena& arena) : arena_(arena) {}

  int slots() const { return arena_.max_concurrency(); }

  void run(std::int64_t count, TaskRef task) const {
    detail::SharedTasks tasks(count, task);
    const int workers = tasks.workers(slots());
    arena_.execute([&] {
      tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(
            0, workers, [&](int slot) { tasks.work(slot); }, tbb::simple_partitioner{});
      });
    });
  }

 private:
  tbb::task_arena& arena_;
};

}  // namespace rehyat
