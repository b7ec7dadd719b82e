// The AVX2 kernels of bench_once, which multiply and add where rehyat's fuse: Valgrind emulates a fused
// multiply-add at a fiftieth of the speed. Addresses do not depend on values: the same memory is read and
// written in the same order, but for a few accumulators that spill, which stay in the first-level cache.

#include <immintrin.h>

#define _mm256_fmadd_ps(x, y, z) _mm256_add_ps(_mm256_mul_ps(x, y), z)

#include "rehyat/kernel/instantiate.hpp"

REHYAT_DEFINE_KERNELS(avx2)
