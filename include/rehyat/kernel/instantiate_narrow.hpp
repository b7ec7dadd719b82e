#pragma once
// The kernels of an arithmetic besides float32, whatever its format.

#include "rehyat/kernel/instantiate.hpp"
#include "rehyat/kernel/narrow_linear.hpp"
#include "rehyat/kernel/narrow_softmax.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The scratch of one attend task: AttendScratch, then these.
template <class Format>
struct NarrowAttendScratch {
  NarrowScratch<Format> softmax;
  NarrowReadScratch<Format> read;
  int64_t size;

  static NarrowAttendScratch lay_out(const Dims& d, int64_t blocks, float* base) {
    const auto softmax = NarrowScratch<Format>::lay_out(d, blocks, base);
    const auto read = NarrowReadScratch<Format>::lay_out(d, base == nullptr ? nullptr : base + softmax.size);
    return {softmax, read, softmax.size + read.size};
  }
};

template <class Format>
int64_t narrow_scratch_size(const Dims& dims, int64_t blocks) {
  const int64_t attend_size = AttendScratch::lay_out(dims, blocks, nullptr).size +
                              NarrowAttendScratch<Format>::lay_out(dims, blocks, nullptr).size;
  if (dims.feature_dim == 0) return attend_size;
  const int64_t absorb_size =
      AbsorbScratch::lay_out(dims, nullptr).size + NarrowUpdateScratch<Format>::lay_out(dims, nullptr).size;
  return attend_size > absorb_size ? attend_size : absorb_size;
}

template <class Format>
void narrow_attend(const AttendTask& task) {
  const int64_t blocks = task.end_block - task.first_block;
  const AttendScratch a = AttendScratch::lay_out(task.dims, blocks, task.scratch);
  const auto s = NarrowAttendScratch<Format>::lay_out(task.dims, blocks, task.scratch + a.size);
  attend_with(
      task, a, [&] { add_narrow_softmax(task, a, s.softmax); },
      [&] { return NarrowRead<Format>(task, s.read); });
}

template <class Format>
void narrow_absorb(const AbsorbTask& task) {
  absorb_with<NarrowUpdate<Format>>(task);
}

/// `least_group`: query blocks of a task, at least. At most half as many again as in float32: their products
/// take half its time or less, the keys and values of a block as long as ever to fetch, and to round besides.
/// In halves the group's arrays take 1,280 bytes a query at D = Dv = 128, 1.6 MB.
template <class Format>
constexpr Kernels narrow_table(int64_t least_group) {
  return {.isa = native_isa,
          .query_block = query_block,
          .scratch_size = narrow_scratch_size<Format>,
          .attend = narrow_attend<Format>,
          .absorb = narrow_absorb<Format>,
          .fold = fold,
          .scan = scan,
          .convert = convert,
          .least_group = least_group,
          .most_group_queries = 1296};
}

REHYAT_END_ISA_NAMESPACE
