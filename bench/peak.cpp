// Register-only multiply-adds. Each loop carries more independent chains than units times latency need (2 x 4
// on x86, up to 4 x 4 on Arm), and fewer than there are registers. Target attributes, as this unit has the
// flags of any CPU.

#include "peak.hpp"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__clang__)
#define BENCH_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BENCH_UNROLL _Pragma("GCC unroll 32")
#endif

namespace rehyat::bench {
namespace {

constexpr int steps = 100000;  ///< about half a millisecond
constexpr int tasks_per_worker = 8;
constexpr float factor = 0.999f, addend = 1e-3f;  // every chain tends to 1: no denormals, no infinities

/// Chains that began alike would be one to the compiler.
constexpr float start(int chain) { return 0.01f * static_cast<float>(chain); }

void keep(const float* results) { __asm__ volatile("" : : "r"(results) : "memory"); }

/// One float a step, with two roundings as in the scalar kernels. The empty assembly keeps it one.
double scalar_flops() {
#if defined(__x86_64__)
#define BENCH_KEEP_SCALAR(x) __asm__("" : "+x"(x))
#elif defined(__aarch64__)
#define BENCH_KEEP_SCALAR(x) __asm__("" : "+w"(x))
#else
#define BENCH_KEEP_SCALAR(x) __asm__("" : "+m"(x))
#endif
  constexpr int chains = 12;
  float sum[chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = start(i);
  for (int step = 0; step < steps; ++step) {
    BENCH_UNROLL for (int i = 0; i < chains; ++i) {
      float product = sum[i] * factor;
      BENCH_KEEP_SCALAR(product);
      float next = product + addend;
      BENCH_KEEP_SCALAR(next);
      sum[i] = next;
    }
  }
  keep(sum);
  return 2.0 * chains * steps;
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) double avx2_flops() {
  constexpr int chains = 12;
  const __m256 x = _mm256_set1_ps(factor), y = _mm256_set1_ps(addend);
  __m256 sum[chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = _mm256_set1_ps(start(i));
  for (int step = 0; step < steps; ++step) {
    BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = _mm256_fmadd_ps(sum[i], x, y);
  }
  float results[8 * chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) _mm256_storeu_ps(results + 8 * i, sum[i]);
  keep(results);
  return 2.0 * 8 * chains * steps;
}

__attribute__((target("avx512f"))) double avx512_flops() {
  constexpr int chains = 24;
  const __m512 x = _mm512_set1_ps(factor), y = _mm512_set1_ps(addend);
  __m512 sum[chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = _mm512_set1_ps(start(i));
  for (int step = 0; step < steps; ++step) {
    BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = _mm512_fmadd_ps(sum[i], x, y);
  }
  float results[16 * chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) _mm512_storeu_ps(results + 16 * i, sum[i]);
  keep(results);
  return 2.0 * 16 * chains * steps;
}

#elif defined(__aarch64__)

double neon_flops() {
  constexpr int chains = 24;
  const float32x4_t x = vdupq_n_f32(factor), y = vdupq_n_f32(addend);
  float32x4_t sum[chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = vdupq_n_f32(start(i));
  for (int step = 0; step < steps; ++step) {
    // the accumulator is the addend: it is what the instruction overwrites
    BENCH_UNROLL for (int i = 0; i < chains; ++i) sum[i] = vfmaq_f32(sum[i], x, y);
  }
  float results[4 * chains];
  BENCH_UNROLL for (int i = 0; i < chains; ++i) vst1q_f32(results + 4 * i, sum[i]);
  keep(results);
  return 2.0 * 4 * chains * steps;
}

#endif

using Loop = double (*)();

Loop loop_of(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx2:
      return avx2_flops;
    case Isa::avx512:
      return avx512_flops;
#elif defined(__aarch64__)
    case Isa::neon:
      return neon_flops;
#endif
    default:
      return scalar_flops;
  }
}

}  // namespace

double fma_gflops(Isa isa, ThreadPool& pool) {
  const Loop loop = loop_of(isa);
  double flops_per_task = 0;
  const auto task = [&](std::int64_t index, int) {
    const double flops = loop();
    if (index == 0) flops_per_task = flops;
  };
  const std::int64_t tasks = tasks_per_worker * pool.slots();
  const auto start = std::chrono::steady_clock::now();
  pool.run(tasks, task);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return flops_per_task * static_cast<double>(tasks) / elapsed.count() * 1e-9;
}

}  // namespace rehyat::bench
