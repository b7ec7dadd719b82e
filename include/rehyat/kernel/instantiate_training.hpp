#pragma once
// The table of this translation unit's kernels for training, and what a unit of run-time dispatch defines.

#include "rehyat/kernel/distance.hpp"
#include "rehyat/kernel/multiply.hpp"
#include "rehyat/kernel/slopes.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline constexpr TrainingKernels native_training_table = {
    .multiply = multiply, .activate = activate_with_slopes, .distance = distance};

REHYAT_END_ISA_NAMESPACE

/// Defines rehyat::dispatch::training_kernels_<isa>().
#define REHYAT_DEFINE_TRAINING_KERNELS(isa_)                                                   \
  namespace rehyat::dispatch {                                                                 \
  const TrainingKernels* training_kernels_##isa_();                                            \
  const TrainingKernels* training_kernels_##isa_() {                                           \
    static_assert(kernel::native_isa == Isa::isa_, "flags and ISA of this unit do not agree"); \
    return &kernel::native_training_table;                                                     \
  }                                                                                            \
  }
