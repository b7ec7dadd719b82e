#pragma once
// The int8 kernels of this translation unit, and the unit that run-time dispatch compiles of them.

#include "rehyat/kernel/bytes.hpp"

#ifdef REHYAT_KERNEL_INT8
#include "rehyat/kernel/instantiate.hpp"
#include "rehyat/kernel/int8_linear.hpp"
#include "rehyat/kernel/int8_softmax.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The scratch of one attend task: AttendScratch, then these.
struct Int8AttendScratch {
  Int8Scratch softmax;
  Int8ReadScratch read;
  int64_t size;

  static Int8AttendScratch lay_out(const Dims& d, int64_t blocks, float* base) {
    const auto softmax = Int8Scratch::lay_out(d, blocks, base);
    const auto read = Int8ReadScratch::lay_out(d, base == nullptr ? nullptr : base + softmax.size);
    return {softmax, read, softmax.size + read.size};
  }
};

inline int64_t int8_scratch_size(const Dims& dims, int64_t blocks) {
  const int64_t attend_size = AttendScratch::lay_out(dims, blocks, nullptr).size +
                              Int8AttendScratch::lay_out(dims, blocks, nullptr).size;
  if (dims.feature_dim == 0) return attend_size;
  const int64_t absorb_size =
      AbsorbScratch::lay_out(dims, nullptr).size + Int8UpdateScratch::lay_out(dims, nullptr).size;
  return attend_size > absorb_size ? attend_size : absorb_size;
}

inline void int8_attend(const AttendTask& task) {
  const int64_t blocks = task.end_block - task.first_block;
  const AttendScratch a = AttendScratch::lay_out(task.dims, blocks, task.scratch);
  const Int8AttendScratch s = Int8AttendScratch::lay_out(task.dims, blocks, task.scratch + a.size);
  attend_with(
      task, a, [&] { add_int8_softmax(task, a, s.softmax); }, [&] { return Int8Read(task, s.read); });
}

inline void int8_absorb(const AbsorbTask& task) { absorb_with<Int8Update>(task); }

/// Query blocks of a task, at least. Making bytes of a block of keys and values costs as much as the products
/// of 1.1 query blocks with it (AVX-512; AVX2 1.8; D = Dv = 64): with 192 queries a group that is 28 and 22 %
/// of the products. At 3 heads of 432 queries, time over that of float32: groups of one block 1.07 (AVX-512)
/// and, of two, 0.82 (AVX2), this 0.69 and 0.56; groups of 384 queries 0.62, but then 6 tasks instead of 9.
inline constexpr int64_t int8_least_group = 192 / query_block;

inline constexpr Kernels native_int8_table = {.isa = native_isa,
                                              .query_block = query_block,
                                              .scratch_size = int8_scratch_size,
                                              .attend = int8_attend,
                                              .absorb = int8_absorb,
                                              .fold = fold,
                                              .scan = scan,
                                              .convert = convert,
                                              .least_group = int8_least_group};

REHYAT_END_ISA_NAMESPACE
#endif
