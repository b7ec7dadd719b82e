#pragma once

#include "rehyat/kernel/kernel_table.hpp"
#include "rehyat/thread_pool.hpp"

namespace rehyat::bench {

/// GFLOP/s of multiply-adds that stay in registers, on all workers of the pool: what no float32 code of this
/// instruction set can exceed at the clock of this moment. Takes about 5 ms. The CPU must have the
/// instruction set.
double fma_gflops(Isa isa, ThreadPool& pool);

}  // namespace rehyat::bench
