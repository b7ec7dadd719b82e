#pragma once
// Memory that notices what is read or written where it should not be: an inaccessible page right behind (or
// before) the data, and a pattern in every gap between rows. Reading the pattern gives a NaN.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "random.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::support {

/// Which side of the data touches an inaccessible page. The other side has one too, up to a page away.
enum class Flush { end, start };

/// A signalling NaN that arithmetic would turn into a quiet one.
inline constexpr std::uint32_t canary_bits = 0x7fa5c3e1;

/// `count` floats between inaccessible pages. All accessible bytes start as canaries.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::int64_t count, Flush flush = Flush::end)
      : count_(static_cast<std::size_t>(count)) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    accessible_ = std::max(page, (count_ * sizeof(float) + page - 1) / page * page);
    mapped_ = accessible_ + 2 * page;
    void* map = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED ||
        mprotect(static_cast<char*>(map) + page, accessible_, PROT_READ | PROT_WRITE) != 0) {
      std::perror("guard pages");
      std::abort();
    }
    map_ = static_cast<char*>(map);
    words_ = {reinterpret_cast<std::uint32_t*>(map_ + page), accessible_ / sizeof(std::uint32_t)};
    std::fill(words_.begin(), words_.end(), canary_bits);
    first_word_ = flush == Flush::end ? words_.size() - count_ : 0;
  }
  ~GuardedBuffer() { munmap(map_, mapped_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  float* data() { return reinterpret_cast<float*>(words_.data() + first_word_); }
  const float* data() const { return reinterpret_cast<const float*>(words_.data() + first_word_); }
  std::size_t size() const { return count_; }

  /// From now on a write ends the program.
  void make_read_only() { mprotect(words_.data(), accessible_, PROT_READ); }

  /// True if every canary is left outside the elements that `in_use(index)` names.
  template <class F>
  bool canaries_left_outside(F in_use) const {
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const bool inside = w >= first_word_ && w < first_word_ + count_ && in_use(w - first_word_);
      if (!inside && words_[w] != canary_bits) return false;
    }
    return true;
  }

 private:
  std::size_t count_;
  std::size_t accessible_ = 0;
  std::size_t mapped_ = 0;
  char* map_ = nullptr;
  std::span<std::uint32_t> words_;
  std::size_t first_word_ = 0;
};

/// How rows lie in memory: the order of the outer dimensions, and unused elements between neighbours.
struct Layout {
  bool head_major = false;      ///< [batch, head, token, dim] rather than [batch, token, head, dim]
  std::int64_t row_gap = 0;     ///< after each row of dim elements
  std::int64_t middle_gap = 0;  ///< after all heads of a token (or all tokens of a head)
  std::int64_t batch_gap = 0;   ///< after each batch entry

  static Layout random(Random& r) {
    return {.head_major = r.coin(),
            .row_gap = r.integer(0, 5),
            .middle_gap = r.pick({0, 1, 7, 64}),
            .batch_gap = r.integer(0, 9)};
  }
};

/// A tensor laid out with gaps, flush against an inaccessible page: the builder of views for tests of
/// strides.
class GuardedTensor {
 public:
  GuardedTensor(std::int64_t batch, std::int64_t tokens, std::int64_t heads, std::int64_t dim,
                const Layout& layout = {}, Flush flush = Flush::end)
      : strides_(strided(batch, tokens, heads, dim, layout)), buffer_(extent(strides_), flush) {}

  TensorView<float> view() {
    TensorView<float> v = strides_;
    v.data = buffer_.data();
    return v;
  }
  TensorView<const float> const_view() { return view(); }

  /// Copies packed [batch, token, head, dim] values in.
  void assign(const std::vector<float>& packed) {
    const TensorView<float> v = view();
    const float* source = packed.data();
    for_each_row([&](std::int64_t offset) {
      std::copy_n(source, v.dim, v.data + offset);
      source += v.dim;
    });
  }

  /// The values, packed as [batch, token, head, dim].
  std::vector<float> packed() const {
    std::vector<float> values;
    for_each_row([&](std::int64_t offset) {
      values.insert(values.end(), buffer_.data() + offset, buffer_.data() + offset + strides_.dim);
    });
    return values;
  }

  /// True if nothing was written between the rows, or before or after them.
  bool gaps_untouched() const {
    std::vector<bool> used(buffer_.size());
    for_each_row([&](std::int64_t offset) { std::fill_n(used.begin() + offset, strides_.dim, true); });
    return buffer_.canaries_left_outside([&](std::size_t i) { return used[i]; });
  }

  /// True if nothing at all was written since construction: what a refused call must leave behind.
  bool untouched() const {
    return buffer_.canaries_left_outside([](std::size_t) { return false; });
  }

  /// From now on a write ends the program.
  void make_read_only() { buffer_.make_read_only(); }

 private:
  static TensorView<float> strided(std::int64_t batch, std::int64_t tokens, std::int64_t heads,
                                   std::int64_t dim, const Layout& layout) {
    TensorView<float> v{.batch = batch, .tokens = tokens, .heads = heads, .dim = dim};
    std::int64_t& inner = layout.head_major ? v.token_stride : v.head_stride;
    std::int64_t& middle = layout.head_major ? v.head_stride : v.token_stride;
    inner = dim + layout.row_gap;
    middle = (layout.head_major ? tokens : heads) * inner + layout.middle_gap;
    v.batch_stride = (layout.head_major ? heads : tokens) * middle + layout.batch_gap;
    return v;
  }

  /// Elements from the first to the last of any row: no gap at the end, which is where the page is.
  static std::int64_t extent(const TensorView<float>& v) {
    if (v.batch * v.tokens * v.heads * v.dim == 0) return 0;
    return (v.batch - 1) * v.batch_stride + (v.tokens - 1) * v.token_stride + (v.heads - 1) * v.head_stride +
           v.dim;
  }

  template <class F>
  void for_each_row(F visit) const {
    for (std::int64_t b = 0; b < strides_.batch; ++b) {
      for (std::int64_t t = 0; t < strides_.tokens; ++t) {
        for (std::int64_t h = 0; h < strides_.heads; ++h) {
          visit(b * strides_.batch_stride + t * strides_.token_stride + h * strides_.head_stride);
        }
      }
    }
  }

  TensorView<float> strides_;  ///< without data
  GuardedBuffer buffer_;
};

}  // namespace rehyat::support
