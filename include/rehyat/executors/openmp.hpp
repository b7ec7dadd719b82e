#pragma once

/// @file rehyat/executors/openmp.hpp
/// Tasks on OpenMP's threads. Compile with -fopenmp (CMake: OpenMP::OpenMP_CXX).

#ifndef _OPENMP
#error "rehyat/executors/openmp.hpp needs OpenMP: compile with -fopenmp"
#endif

#include <omp.h>

#include <cstdint>

#include "rehyat/executor.hpp"

namespace rehyat {

/// An Executor over a team of at most `slots` OpenMP threads, the calling thread among them. OpenMP keeps the
/// threads from one phase to the next and gives fewer where it is set to (OMP_DYNAMIC, a thread limit);
/// inside another parallel region a phase runs on the calling thread, unless nested ones are enabled. Several
/// threads may use one executor at once. Allocates what OpenMP does for a new team, nothing for the next
/// ones.
class OpenMpExecutor {
 public:
  explicit OpenMpExecutor(int slots = omp_get_max_threads()) : slots_(slots < 1 ? 1 : slots) {}

  int slots() const { return slots_; }

  void run(std::int64_t count, TaskRef task) const {
#pragma omp parallel for schedule(dynamic, 1) num_threads(slots_) if (count > 1)
    for (std::int64_t i = 0; i < count; ++i) task(i, omp_get_thread_num());
  }

 private:
  int slots_;
};

}  // namespace rehyat
