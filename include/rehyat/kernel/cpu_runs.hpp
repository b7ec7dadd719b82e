#pragma once
// Whether this processor runs what the kernels of an arithmetic need beyond their instruction set.

#include "rehyat/kernel/arch.hpp"

#if defined(REHYAT_KERNEL_ISA_AVX512) || defined(REHYAT_KERNEL_ISA_AVX2)
#include <cpuid.h>
#elif defined(REHYAT_KERNEL_ISA_NEON) && defined(__linux__)
#include <sys/auxv.h>
#endif

REHYAT_BEGIN_ISA_NAMESPACE

/// Asked on a processor that has the instruction set of this unit.
inline bool cpu_runs(Arithmetic arithmetic) {
#if defined(REHYAT_KERNEL_ISA_AVX512)
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  if (arithmetic == Arithmetic::int8) return (c & 1u << 11) != 0;     // AVX512_VNNI
  if (arithmetic == Arithmetic::float16) return (d & 1u << 23) != 0;  // AVX512_FP16
#elif defined(REHYAT_KERNEL_ISA_AVX2)
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid_count(7, 1, &a, &b, &c, &d);
  if (arithmetic == Arithmetic::int8) return (a & 1u << 4) != 0;  // AVX_VNNI
#elif defined(REHYAT_KERNEL_ISA_NEON)
  if (arithmetic == Arithmetic::int8) {
#if defined(__ARM_FEATURE_DOTPROD)  // every processor that this unit was compiled for
    return true;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & 1ul << 20) != 0;  // HWCAP_ASIMDDP
#endif
  }
  if (arithmetic == Arithmetic::float16) {
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
    return true;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & 1ul << 10) != 0;  // HWCAP_ASIMDHP
#endif
  }
#endif
  return arithmetic == Arithmetic::float32 || (native_isa == Isa::scalar && arithmetic == Arithmetic::int8);
}

REHYAT_END_ISA_NAMESPACE
