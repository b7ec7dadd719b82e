#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "rehyat/executor.hpp"

namespace rehyat {

/// An Executor over std::thread: `slots` workers, the calling thread among them. Threads are started by the
/// constructor and joined by the destructor, none in between. Tasks are handed out by an atomic counter. One
/// run() at a time: a pool is not to be shared by threads that call operators at once, and a task must not
/// call run().
class ThreadPool {
 public:
  /// `slots` >= 1 workers in all; smaller values count as 1. Where the system refuses a thread the pool makes
  /// do with those it has (built without exceptions, the program ends): slots() tells.
  explicit ThreadPool(int slots) {
    threads_.reserve(static_cast<std::size_t>(slots < 1 ? 0 : slots - 1));
#ifdef __cpp_exceptions
    try {
      start_threads(slots);
    } catch (const std::system_error&) {
    }
#else
    start_threads(slots);
#endif
  }

  ~ThreadPool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int slots() const { return static_cast<int>(threads_.size()) + 1; }

  void run(std::int64_t count, TaskRef task) {
    if (count <= 0) return;
    if (!threads_.empty() && count > 1) {
      {
        const std::lock_guard lock(mutex_);
        task_ = task;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        working_ = slots() - 1;
        ++phase_;
      }
      work_ready_.notify_all();
      take_tasks(task, count, 0);
      std::unique_lock lock(mutex_);
      all_done_.wait(lock, [this] { return working_ == 0; });
    } else {
      for (std::int64_t i = 0; i < count; ++i) task(i, 0);
    }
  }

 private:
  void start_threads(int slots) {
    for (int slot = 1; slot < slots; ++slot) threads_.emplace_back([this, slot] { serve(slot); });
  }

  void take_tasks(TaskRef task, std::int64_t count, int slot) {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count;) task(i, slot);
  }

  void serve(int slot) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      work_ready_.wait(lock, [&] { return stopping_ || phase_ != seen; });
      if (stopping_) return;
      seen = phase_;
      const TaskRef task = *task_;
      const std::int64_t count = count_;
      lock.unlock();
      take_tasks(task, count, slot);
      lock.lock();
      if (--working_ == 0) all_done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_ready_, all_done_;
  std::optional<TaskRef> task_;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::uint64_t phase_ = 0;
  int working_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace rehyat
