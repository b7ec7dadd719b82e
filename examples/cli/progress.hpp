#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "rehyat/executor.hpp"

namespace rehyat::cli {

/// A line on standard error that says how far a long run is. Nothing is drawn where that is no terminal, nor
/// in the first second; the line is gone when the run is over.
class Progress {
 public:
  explicit Progress(const char* unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool wanted() const { return wanted_; }
  void expect(std::int64_t total) { total_ = total; }

  /// One more unit is done. From any thread; `draws` only from one.
  void advance(bool draws);

 private:
  void draw(std::int64_t done);

  using Clock = std::chrono::steady_clock;
  const char* unit_;
  bool wanted_;
  bool drawn_ = false;
  std::int64_t total_ = 0;
  std::atomic<std::int64_t> done_{0};
  Clock::time_point next_;
};

/// An executor that runs nothing and counts: phases and tasks follow from the geometry alone.
class CountingExecutor {
 public:
  explicit CountingExecutor(int slots) : slots_(slots) {}
  int slots() const { return slots_; }
  void run(std::int64_t count, TaskRef) { tasks_ += count; }
  std::int64_t tasks() const { return tasks_; }

 private:
  int slots_;
  std::int64_t tasks_ = 0;
};

/// Runs tasks on another executor and tells a Progress of each.
class ReportingExecutor {
 public:
  ReportingExecutor(ExecutorRef inner, Progress& progress) : inner_(inner), progress_(progress) {}
  int slots() const { return inner_.slots(); }
  void run(std::int64_t count, TaskRef task) {
    const auto reported = [&](std::int64_t index, int slot) {
      task(index, slot);
      progress_.advance(slot == 0);
    };
    inner_.run(count, reported);
  }

 private:
  ExecutorRef inner_;
  Progress& progress_;
};

}  // namespace rehyat::cli
