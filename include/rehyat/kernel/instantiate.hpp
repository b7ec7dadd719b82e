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
