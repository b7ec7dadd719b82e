#pragma once
// What an operator's tasks take at their best.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "rehyat/thread_pool.hpp"

namespace rehyat::bench {

/// A pool that keeps the shortest time of each task over several runs of the same operator. On a machine that
/// others use, too, hardly a run of seconds is undisturbed, but each of its tasks (some milliseconds) soon
/// has been: on one thread the sum of their shortest times is what a run takes on a machine of its own.
class TaskClock {
 public:
  explicit TaskClock(ThreadPool& pool) : pool_(&pool) {}

  int slots() const { return pool_->slots(); }

  void run(std::int64_t count, TaskRef task) {
    const std::size_t first = next_;
    next_ += static_cast<std::size_t>(count);
    if (next_ > shortest_.size()) shortest_.resize(next_, std::numeric_limits<double>::infinity());
    const auto timed = [&](std::int64_t index, int slot) {
      const auto start = std::chrono::steady_clock::now();
      task(index, slot);
      const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
      double& shortest = shortest_[first + static_cast<std::size_t>(index)];
      shortest = std::min(shortest, time.count());
    };
    pool_->run(count, timed);
  }

  /// What follows are the tasks of one more run.
  void start_run() { next_ = 0; }

  /// What follows are other tasks.
  void forget() {
    next_ = 0;
    shortest_.clear();
  }

  double sum_of_shortest() const {
    double sum = 0;
    for (const double seconds : shortest_) sum += seconds;
    return sum;
  }

 private:
  ThreadPool* pool_;
  std::vector<double> shortest_;  ///< in the order of the phases and of each one's tasks
  std::size_t next_ = 0;          ///< first task of the next phase
};

}  // namespace rehyat::bench
