#pragma once
// The table of this translation unit's kernels, and the unit that run-time dispatch compiles once per ISA.

#include "rehyat/kernel/absorb.hpp"
#include "rehyat/kernel/attend.hpp"
#include "rehyat/kernel/cpu_runs.hpp"

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

/// A table of float32 kernels that says which other arithmetic there is.
constexpr Kernels with_arithmetic(const Kernels* (*in)(Arithmetic)) {
  Kernels kernels = native_table;
  kernels.in = in;
  return kernels;
}

REHYAT_END_ISA_NAMESPACE

/// Defines rehyat::dispatch::kernels_<isa>(), the one symbol that such a unit exports. The kernels of other
/// arithmetic are in units of their own, whose flags say more; those that were built are named by
/// REHYAT_UNIT_<ARITHMETIC>.
#define REHYAT_DEFINE_KERNELS(isa_)                                                                   \
  namespace rehyat::dispatch {                                                                        \
  const Kernels* kernels_##isa_();                                                                    \
  const Kernels* kernels_##isa_##_int8();                                                             \
  const Kernels* kernels_##isa_##_float16();                                                          \
  const Kernels* kernels_##isa_() {                                                                   \
    static_assert(kernel::native_isa == Isa::isa_, "flags and ISA of this unit do not agree");        \
    static constexpr Kernels table = kernel::with_arithmetic([](Arithmetic arithmetic) {              \
      const Kernels* kernels = nullptr;                                                               \
      if (!kernel::cpu_runs(arithmetic)) return kernels;                                              \
      REHYAT_IF_INT8(if (arithmetic == Arithmetic::int8) kernels = kernels_##isa_##_int8();)          \
      REHYAT_IF_FLOAT16(if (arithmetic == Arithmetic::float16) kernels = kernels_##isa_##_float16();) \
      return kernels;                                                                                 \
    });                                                                                               \
    return &table;                                                                                    \
  }                                                                                                   \
  }

/// Defines rehyat::dispatch::kernels_<isa>_<arithmetic>(), that of a unit of another arithmetic.
#define REHYAT_DEFINE_KERNELS_IN(arithmetic_, isa_)                                            \
  namespace rehyat::dispatch {                                                                 \
  const Kernels* kernels_##isa_##_##arithmetic_();                                             \
  const Kernels* kernels_##isa_##_##arithmetic_() {                                            \
    static_assert(kernel::native_isa == Isa::isa_, "flags and ISA of this unit do not agree"); \
    return &kernel::native_##arithmetic_##_table;                                              \
  }                                                                                            \
  }

#ifdef REHYAT_UNIT_INT8
#define REHYAT_IF_INT8(...) __VA_ARGS__
#else
#define REHYAT_IF_INT8(...)
#endif

#ifdef REHYAT_UNIT_FLOAT16
#define REHYAT_IF_FLOAT16(...) __VA_ARGS__
#else
#define REHYAT_IF_FLOAT16(...)
#endif
