#pragma once
// Memory that is read next, asked for while the multipliers are busy with what is here.

#include "rehyat/kernel/arch.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Rows on their way to the second-level cache, a few at every call of `advance`.
///
/// The hardware follows a stream within a page and no further: a key block of 64 KB crosses 16 of them, and
/// where heads are interleaved every row is on a page of its own. Each new page then costs the latency of the
/// last-level cache (and of a page walk), some hundred cycles with the multipliers idle. A strip of the
/// register tile runs for D * rows * vectors / 2 = 1,536 cycles (AVX-512, D = 128), in which a row or two
/// arrive unnoticed. What is asked for is never outside a view.
class RowPrefetch {
 public:
  /// `rows` rows of `dim` elements, `stride` elements apart. What is beyond the capacity is left to the
  /// hardware.
  REHYAT_INLINE void add(const void* data, ElementType type, int64_t stride, int64_t dim, int64_t rows) {
    if (rows <= 0 || count_ == capacity) return;
    const int64_t size = element_size(type);
    ranges_[count_++] = {static_cast<const char*>(data), stride * size, dim * size, rows};
    rows_ += rows;
  }

  /// Spreads what was added over `calls` calls, at most 2 rows each: where more would be needed the rest is
  /// left to the hardware, as asking would itself take time.
  REHYAT_INLINE void spread(int64_t calls) { rows_per_call_ = rows_ <= calls ? 1 : 2; }

  REHYAT_INLINE void advance() {
    if (at_ < count_) ask();
  }

 private:
  // out of line: within the loops over strips it cost 1 % where nothing was to be asked for
  [[gnu::noinline]] void ask() {
    for (int64_t n = rows_per_call_; n > 0 && at_ < count_; --n) {
      Range& range = ranges_[at_];
      for (int64_t i = 0; i < range.bytes; i += line) __builtin_prefetch(range.data + i, 0, 2);
      range.data += range.stride;
      if (--range.rows == 0) ++at_;
    }
  }

  static constexpr int64_t line = 64;  ///< bytes of a cache line
  static constexpr int capacity = 4;
  struct Range {
    const char* data;
    int64_t stride, bytes, rows;
  };
  Range ranges_[capacity];
  int count_ = 0;
  int at_ = 0;
  int64_t rows_ = 0;
  int64_t rows_per_call_ = 0;
};

REHYAT_END_ISA_NAMESPACE
