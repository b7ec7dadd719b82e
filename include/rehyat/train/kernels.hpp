#pragma once
// Which kernels train: those of the instruction set that the operators' kernels have. Two ways in, as in
// rehyat/kernels.hpp; for run-time choice the units need TRAINING, see cmake/RehyatDispatch.cmake.

#include "rehyat/kernels.hpp"

#ifdef REHYAT_DISPATCH
#ifndef REHYAT_DISPATCH_TRAINING
#error "training needs kernels of its own: write rehyat_add_dispatch(<target> TRAINING)"
#endif
#include "rehyat/kernel/training_table.hpp"

namespace rehyat {

namespace dispatch {
const TrainingKernels* training_kernels_scalar();
const TrainingKernels* training_kernels_avx2();
const TrainingKernels* training_kernels_avx512();
const TrainingKernels* training_kernels_neon();
}  // namespace dispatch

namespace train {

/// The kernels for training of the same instruction set.
inline const TrainingKernels& training_kernels(const Kernels& kernels) {
  switch (kernels.isa) {
#ifdef REHYAT_DISPATCH_SCALAR
    case Isa::scalar:
      return *dispatch::training_kernels_scalar();
#endif
#ifdef REHYAT_DISPATCH_AVX2
    case Isa::avx2:
      return *dispatch::training_kernels_avx2();
#endif
#ifdef REHYAT_DISPATCH_AVX512
    case Isa::avx512:
      return *dispatch::training_kernels_avx512();
#endif
#ifdef REHYAT_DISPATCH_NEON
    case Isa::neon:
      return *dispatch::training_kernels_neon();
#endif
    default:
      __builtin_unreachable();  // the program has no other kernels
  }
}

}  // namespace train
}  // namespace rehyat

#else
#include "rehyat/kernel/instantiate_training.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The kernels for training: there is one instruction set here.
inline const TrainingKernels& training_kernels(const Kernels&) { return native_training_table; }

REHYAT_END_ISA_NAMESPACE

namespace rehyat::train {
using kernel::training_kernels;
}  // namespace rehyat::train

#endif
