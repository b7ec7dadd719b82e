#pragma once
// Softmax keys in blocks, in their order, and what is to be fetched after each.

#include "rehyat/kernel/prefetch.hpp"
#include "rehyat/kernel/query_block.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The key blocks of a task's softmax ranges, in order; one of no keys after the last.
class KeyBlocks {
 public:
  explicit KeyBlocks(const AttendTask& task) : task_(task) {}

  KeyRange next() {
    while (range_ < task_.num_softmax && first_ >= task_.softmax[range_].count) {
      ++range_;
      first_ = 0;
    }
    if (range_ == task_.num_softmax) return {};
    KeyRange keys = task_.softmax[range_];
    keys.k.data = element_at(keys.k.data, keys.k.type, first_ * keys.k.stride);
    keys.v.data = element_at(keys.v.data, keys.v.type, first_ * keys.v.stride);
    keys.count = keys.count - first_ < key_block ? keys.count - first_ : key_block;
    first_ += key_block;
    return keys;
  }

  /// Whether the block that the last next() gave is the last one.
  bool at_end() const {
    int64_t left = 0;
    for (int i = range_; i < task_.num_softmax; ++i) left += task_.softmax[i].count;
    return left <= first_;
  }

  /// The range whose first block the last next() gave; null after any other.
  const KeyRange* begun() const { return first_ == key_block ? &task_.softmax[range_] : nullptr; }

 private:
  const AttendTask& task_;
  int range_ = 0;
  int64_t first_ = 0;
};

/// Whether the softmax keys and values of a task are more than stays in a second-level cache (2 MB here) from
/// one group to the next.
inline bool keys_leave_cache(const AttendTask& task) {
  int64_t bytes = 0;
  for (int i = 0; i < task.num_softmax; ++i) {
    const KeyRange& keys = task.softmax[i];
    bytes += keys.count * (task.dims.head_dim * element_size(keys.k.type) +
                           task.dims.value_dim * element_size(keys.v.type));
  }
  return bytes > 1 << 20;
}

/// The group's rows of its first head (of heads that share keys, few are left for the others).
template <class Void>
void add_group_rows(RowPrefetch& ahead, const AttendTask& task, const ElementRows<Void>& rows, int64_t dim) {
  const int64_t per_head = (task.query_count + query_block - 1) / query_block;
  const int64_t head = task.first_head + task.first_block / per_head;
  const int64_t begin = task.first_block % per_head * query_block;
  const int64_t end = begin + (task.end_block - task.first_block) * query_block;
  const int64_t first = begin * rows.token_stride + head * rows.head_stride;
  ahead.add(element_at(rows.data, rows.type, first), rows.type, rows.token_stride, dim,
            (end < task.query_count ? end : task.query_count) - begin);
}

/// What all blocks of the group need after the key block `now`: the next one; with the last, the rows of the
/// output (the calls of one block are too few for these and the queries); after it, the queries that phi
/// reads. `blocks` gave `next` last.
inline RowPrefetch prefetch_after(const AttendTask& task, const KeyBlocks& blocks, const KeyRange& now,
                                  const KeyRange& next) {
  const Dims& d = task.dims;
  RowPrefetch ahead;
  ahead.add(next.k.data, next.k.type, next.k.stride, d.head_dim, next.count);
  ahead.add(next.v.data, next.v.type, next.v.stride, d.value_dim, next.count);
  if (next.count == 0) {
    if (task.sums != nullptr) add_group_rows(ahead, task, task.q, d.head_dim);
  } else if (blocks.at_end()) {
    add_group_rows(ahead, task, task.out, d.value_dim);
  }
  const int64_t strips = (now.count + d.value_dim) / TileShape::rows;
  ahead.spread(strips * (task.end_block - task.first_block));
  return ahead;
}

REHYAT_END_ISA_NAMESPACE
