#pragma once
// The int8 kernels of this translation unit, and the unit that run-time dispatch compiles of them.

#include "rehyat/kernel/bytes.hpp"

#ifdef REHYAT_KERNEL_INT8
#include "rehyat/kernel/instantiate.hpp"
#include "rehyat/kernel/int8_softmax.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline int64_t int8_scratch_size(const Dims& dims, int64_t blocks) {
  return scratch_size(dims, blocks) + Int8Scratch::lay_out(dims, blocks, nullptr).size;
}

inline void int8_attend(const AttendTask& task) { attend_with<Float32Read>(add_int8_softmax, task); }

inline constexpr Kernels native_int8_table = {.isa = native_isa,
                                              .query_block = query_block,
                                              .scratch_size = int8_scratch_size,
                                              .attend = int8_attend,
                                              .absorb = absorb,
                                              .fold = fold,
                                              .scan = scan,
                                              .convert = convert};

REHYAT_END_ISA_NAMESPACE
#endif
