#pragma once
// What page-guarded views cannot show: inside a workspace the arrays of tasks lie next to each other.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <optional>

#include "guard_pages.hpp"
#include "rehyat/kernels.hpp"

namespace rehyat::support {

/// The kernels of an instruction set, but each task gets scratch memory and sums of its own, of exactly the
/// size that it asks for, between inaccessible pages. One at a time, on one thread.
class GuardedKernels {
 public:
  GuardedKernels(const Kernels& kernels, Flush flush) : table_(guarded(kernels)) {
    real_ = float32_ = &kernels;
    flush_ = flush;
    table_.in = in;
  }
  const Kernels& table() const { return table_; }

 private:
  static Kernels guarded(Kernels kernels) {
    kernels.attend = attend;
    kernels.absorb = absorb;
    return kernels;
  }

  static const Kernels* in(Arithmetic arithmetic) {
    const Kernels* kernels = kernels_in(*float32_, arithmetic);
    if (kernels == nullptr) return nullptr;
    real_ = kernels;
    of_arithmetic_ = guarded(*kernels);
    return &of_arithmetic_;
  }

  static void attend(const kernel::AttendTask& task) {
    kernel::AttendTask moved = task;
    GuardedBuffer scratch(real_->scratch_size(task.dims, task.end_block - task.first_block), flush_);
    moved.scratch = scratch.data();
    std::optional<GuardedBuffer> sums;
    if (task.sums != nullptr) {
      sums.emplace(kernel::sums_size(task.dims), flush_);
      std::copy_n(task.sums, sums->size(), sums->data());
      sums->make_read_only();
      moved.sums = sums->data();
    }
    real_->attend(moved);
    EXPECT_TRUE(nothing_written_around(scratch));
  }

  static void absorb(const kernel::AbsorbTask& task) {
    kernel::AbsorbTask moved = task;
    GuardedBuffer scratch(real_->scratch_size(task.dims, 0), flush_);
    GuardedBuffer sums(kernel::sums_size(task.dims), flush_);
    moved.scratch = scratch.data();
    moved.sums = sums.data();
    real_->absorb(moved);
    std::copy_n(sums.data(), sums.size(), task.sums);
    EXPECT_TRUE(nothing_written_around(scratch));
    EXPECT_TRUE(nothing_written_around(sums));
  }

  static bool nothing_written_around(const GuardedBuffer& buffer) {
    return buffer.canaries_left_outside([](std::size_t) { return true; });
  }

  static inline const Kernels* float32_ = nullptr;
  static inline const Kernels* real_ = nullptr;  ///< of the arithmetic that was asked for
  static inline Kernels of_arithmetic_ = {};
  static inline Flush flush_ = Flush::end;
  Kernels table_;
};

}  // namespace rehyat::support
