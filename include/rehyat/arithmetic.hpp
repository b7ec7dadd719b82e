#pragma once
// Kernels with arithmetic modes besides float32. They are not compiled unless asked for:
//   with run-time dispatch:  rehyat_add_dispatch(app ARITHMETIC); the default kernels then have them
//   with headers alone:      pass arithmetic_kernels() of this header to the operator
// A mode that the kernels in use do not have is refused by every operator, with its name. int8 runs on
// AVX-512 with VNNI, AVX2 with AVX-VNNI (-mavxvnni), NEON with dot products (-march=armv8.2-a+dotprod) and in
// the portable kernels; float16 on AVX-512 with FP16 (-mavx512fp16) and NEON with half precision
// (-march=armv8.2-a+fp16).

#include "rehyat/kernels.hpp"

namespace rehyat {

/// Whether the kernels have a mode.
inline bool has_arithmetic(const Kernels& kernels, Arithmetic arithmetic) {
  return kernels_in(kernels, arithmetic) != nullptr;
}

}  // namespace rehyat

#ifdef REHYAT_DISPATCH
namespace rehyat {

/// The default kernels, with all modes that were built in and that the CPU has.
inline const Kernels& arithmetic_kernels() { return default_kernels(); }

}  // namespace rehyat

#else
#include "rehyat/kernel/instantiate_float16.hpp"
#include "rehyat/kernel/instantiate_int8.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline constexpr Kernels native_arithmetic_table =
    with_arithmetic([]([[maybe_unused]] Arithmetic arithmetic) {
      const Kernels* kernels = nullptr;
#ifdef REHYAT_KERNEL_INT8
      if (arithmetic == Arithmetic::int8) kernels = &native_int8_table;
#endif
#ifdef REHYAT_KERNEL_FLOAT16
      if (arithmetic == Arithmetic::float16) kernels = &native_float16_table;
#endif
      return kernels;
    });

/// The default kernels, with all modes that the including unit's flags allow.
inline const Kernels& arithmetic_kernels() { return native_arithmetic_table; }

REHYAT_END_ISA_NAMESPACE

namespace rehyat {
using kernel::arithmetic_kernels;
}  // namespace rehyat

#endif
