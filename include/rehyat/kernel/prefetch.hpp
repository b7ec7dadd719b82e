#pragma once
// Memory that is read next, asked for while the multipliers are busy with what is here.

#include "rehyat/kernel/arch.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Rows at least so many bytes apart (half a page) are far: a column of them needs a page table entry for
/// each, and the same few sets of the first-level cache for all. They are copied before they are read again
/// and again.
inline constexpr int64_t far_bytes = 2048;

REHYAT_INLINE bool are_far(int64_t stride, ElementType type) {
  return stride * element_size(type) >= far_bytes;
}

/// Rows on their way to the second-level cache, a few at every call of `advance`.
///
/// The hardware follows a stream within a page and no further: a key block of 64 KB crosses 16 of them, and
/// where heads are interleaved every row is on a page of its own. Each new page then costs the latency of the
/// last-level cache (and of a page walk), some hundred cycles with the multipliers idle. A strip of the
/// register tile runs for D * rows * vectors / 2 = 1,536 cycles (AVX-512, D = 128), in which a row or two
/// arrive unnoticed. What is asked for is never outside a view.
///
/// Rows that lie far apart are asked for by lines of 8 rows, not row by row: an instruction that waits for a
/// page walk does not retire, and what the processor can look ahead (512 instructions, 13 steps of the tile)
/// is shorter than the walk. So 8 walks overlap, where each would stop the multipliers for 80 cycles.
class RowPrefetch {
 public:
  /// `rows` rows of `dim` elements, `stride` elements apart. What is beyond the capacity is left to the
  /// hardware.
  REHYAT_INLINE void add(const void* data, ElementType type, int64_t stride, int64_t dim, int64_t rows) {
    if (rows <= 0 || count_ == capacity) return;
    const int64_t size = element_size(type);
    const Range range{.data = static_cast<const char*>(data),
                      .stride = stride * size,
                      .bytes = dim * size,
                      .rows = rows,
                      .far = are_far(stride, type)};
    ranges_[count_++] = range;
    portions_ += range.far ? (rows + far_rows - 1) / far_rows * ((range.bytes + line - 1) / line) : rows;
  }

  /// Spreads what was added over `calls` calls, at most 2 portions each: where more would be needed the rest
  /// is left to the hardware, as asking would itself take time.
  REHYAT_INLINE void spread(int64_t calls) { per_call_ = portions_ <= calls ? 1 : 2; }

  REHYAT_INLINE void advance() {
    if (at_ < count_) ask();
  }

  /// All that was added, at once.
  void ask_for_all() {
    per_call_ = portions_;
    advance();
  }

 private:
  static constexpr int64_t line = 64;     ///< bytes of a cache line
  static constexpr int64_t far_rows = 8;  ///< at once
  static constexpr int capacity = 4;
  struct Range {
    const char* data;  ///< of its first row
    int64_t stride, bytes, rows;
    bool far;
    int64_t offset = 0;  ///< bytes of the first rows that have been asked for
  };

  // out of line: within the loops over strips it cost 1 % where nothing was to be asked for
  [[gnu::noinline]] void ask() {
    for (int64_t n = per_call_; n > 0 && at_ < count_; --n) ask_for_portion(ranges_[at_]);
  }

  /// A row, or a line of each of some far ones.
  REHYAT_INLINE void ask_for_portion(Range& range) {
    const int64_t rows = !range.far ? 1 : range.rows < far_rows ? range.rows : far_rows;
    const int64_t end = range.far ? range.offset + 1 : range.bytes;
    for (; range.offset < end; range.offset += line) {
      const char* p = range.data + range.offset;
      for (int64_t r = 0; r < rows; ++r, p += range.stride) __builtin_prefetch(p, 0, 2);
    }
    if (range.offset < range.bytes) return;
    range.offset = 0;
    range.data += rows * range.stride;
    range.rows -= rows;
    if (range.rows == 0) ++at_;
  }

  Range ranges_[capacity];
  int count_ = 0;
  int at_ = 0;
  int64_t portions_ = 0;
  int64_t per_call_ = 0;
};

REHYAT_END_ISA_NAMESPACE
