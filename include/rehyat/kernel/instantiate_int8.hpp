#pragma once
// The int8 kernels of this translation unit, and what a unit of run-time dispatch defines.

#include "rehyat/kernel/bytes.hpp"

#ifdef REHYAT_KERNEL_INT8
#include "rehyat/kernel/int8_softmax.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline constexpr SoftmaxMode native_int8 = {.scratch_size = int8_scratch_size, .add_softmax = int8_softmax};

REHYAT_END_ISA_NAMESPACE
#endif

/// Defines the functions of rehyat::dispatch::int8_<isa>.
#define REHYAT_DEFINE_INT8(isa_)                                                               \
  namespace rehyat::dispatch {                                                                 \
  std::int64_t int8_scratch_size_##isa_(const kernel::Dims& dims, std::int64_t blocks);        \
  void int8_softmax_##isa_(const kernel::AttendTask& task);                                    \
  std::int64_t int8_scratch_size_##isa_(const kernel::Dims& dims, std::int64_t blocks) {       \
    static_assert(kernel::native_isa == Isa::isa_, "flags and ISA of this unit do not agree"); \
    return kernel::int8_scratch_size(dims, blocks);                                            \
  }                                                                                            \
  void int8_softmax_##isa_(const kernel::AttendTask& task) { kernel::int8_softmax(task); }     \
  }
