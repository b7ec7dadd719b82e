#pragma once
// The table of this translation unit's kernels, and the unit that run-time dispatch compiles once per ISA.

#include "rehyat/kernel/absorb.hpp"
#include "rehyat/kernel/attend.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline int64_t scratch_size(const Dims& dims, int64_t blocks) {
  const int64_t attend_size = AttendScratch::lay_out(dims, blocks, nullptr).size;
  const int64_t absorb_size = dims.feature_dim == 0 ? 0 : AbsorbScratch::lay_out(dims, nullptr).size;
  return attend_size > absorb_size ? attend_size : absorb_size;
}

inline constexpr Kernels native_table = {.isa = native_isa,
                                         .query_block = query_block,
                                         .scratch_size = scratch_size,
                                         .attend = attend,
                                         .absorb = absorb,
                                         .fold = fold,
                                         .scan = scan,
                                         .convert = convert};

constexpr Kernels with_int8(SoftmaxMode int8) {
  Kernels kernels = native_table;
  kernels.int8 = int8;
  return kernels;
}

REHYAT_END_ISA_NAMESPACE

/// Defines rehyat::dispatch::kernels_<isa>(), the one symbol that such a unit exports.
#define REHYAT_DEFINE_KERNELS(isa_)                                                            \
  namespace rehyat::dispatch {                                                                 \
  const Kernels* kernels_##isa_();                                                             \
  const Kernels* kernels_##isa_() {                                                            \
    static_assert(kernel::native_isa == Isa::isa_, "flags and ISA of this unit do not agree"); \
    return &kernel::native_table;                                                              \
  }                                                                                            \
  }

/// Defines rehyat::dispatch::kernels_<isa>_int8(): the same kernels with those of another unit, whose flags
/// say more.
#define REHYAT_DEFINE_KERNELS_WITH_INT8(isa_)                                                              \
  namespace rehyat::dispatch {                                                                             \
  std::int64_t int8_scratch_size_##isa_(const kernel::Dims& dims, std::int64_t blocks);                    \
  void int8_softmax_##isa_(const kernel::AttendTask& task);                                                \
  const Kernels* kernels_##isa_##_int8();                                                                  \
  const Kernels* kernels_##isa_##_int8() {                                                                 \
    static constexpr Kernels table =                                                                       \
        kernel::with_int8({.scratch_size = int8_scratch_size_##isa_, .add_softmax = int8_softmax_##isa_}); \
    return &table;                                                                                         \
  }                                                                                                        \
  }
