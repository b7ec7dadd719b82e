#pragma once
// The int8 kernels of this translation unit.

#include "rehyat/kernel/bytes.hpp"

#ifdef REHYAT_KERNEL_INT8
#include "rehyat/kernel/instantiate_narrow.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Making bytes of a block of keys and values costs as much as the products of 1.1 query blocks with it
/// (AVX-512; AVX2 1.8; D = Dv = 64): with 192 queries a group that is 28 and 22 % of the products. At 3 heads
/// of 432 queries, time over that of float32, groups of one block (AVX-512) or two (AVX2) and these: 1.07 ->
/// 0.69 and 0.82 -> 0.56; with 2 threads 1.12 -> 0.79 and 0.97 -> 0.68. Groups of 384 queries give AVX-512
/// 0.62, but 6 tasks instead of 9.
inline constexpr Kernels native_int8_table = narrow_table<ByteFormat>(192 / query_block);

REHYAT_END_ISA_NAMESPACE
#endif
