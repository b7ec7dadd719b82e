#pragma once
// The float16 kernels of this translation unit.

#include "rehyat/kernel/halves.hpp"

#ifdef REHYAT_KERNEL_FLOAT16
#include "rehyat/kernel/instantiate_narrow.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Groups as those of int8, for the same reason.
inline constexpr Kernels native_float16_table = narrow_table<HalfFormat>(192 / query_block);

REHYAT_END_ISA_NAMESPACE
#endif
