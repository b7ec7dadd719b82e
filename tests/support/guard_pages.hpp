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
#include <vector>

#include "element_tensor.hpp"
#include "random.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::support {

/// Which side of the data touches an inaccessible page. The other side has one too, up to a page away.
enum class Flush { end, start };

/// A signalling NaN that arithmetic would turn into a quiet one.
inline constexpr std::uint32_t canary_bits = 0x7fa5c3e1;

/// `count` elements of `element_size` bytes (2 or a multiple) between inaccessible pages. All accessible
/// bytes start as canaries.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::int64_t count, Flush flush = Flush::end,
                         std::size_t element_size = sizeof(float))
      : count_(static_cast<std::size_t>(count)), element_size_(element_size) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), bytes = count_ * element_size;
    accessible_ = std::max(page, (bytes + page - 1) / page * page);
    mapped_ = accessible_ + 2 * page;
    void* map = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED ||
        mprotect(static_cast<char*>(map) + page, accessible_, PROT_READ | PROT_WRITE) != 0) {
      std::perror("guard pages");
      std::abort();
    }
    map_ = static_cast<char*>(map);
    std::uint32_t* words = reinterpret_cast<std::uint32_t*>(map_ + page);
    std::fill(words, words + accessible_ / sizeof(std::uint32_t), canary_bits);
    start_ = flush == Flush::end ? map_ + page + accessible_ - bytes : map_ + page;
  }
  ~GuardedBuffer() { munmap(map_, mapped_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  void* start() { return start_; }
  const void* start() const { return start_; }
  /// The same, for floats.
  float* data() { return reinterpret_cast<float*>(start_); }
  const float* data() const { return reinterpret_cast<const float*>(start_); }
  std::size_t size() const { return count_; }

  /// From now on a write ends the program.
  void make_read_only() { mprotect(accessible(), accessible_, PROT_READ); }

  /// True if every canary is left outside the elements that `in_use(index)` names.
  template <class F>
  bool canaries_left_outside(F in_use) const {
    constexpr std::uint16_t canary[2] = {canary_bits & 0xffff, canary_bits >> 16};  // little-endian
    const std::uint16_t* halves = reinterpret_cast<const std::uint16_t*>(accessible());
    const std::size_t first = static_cast<std::size_t>(start_ - accessible()) / 2, width = element_size_ / 2;
    for (std::size_t i = 0; i < accessible_ / 2; ++i) {
      const bool inside = i >= first && i < first + count_ * width && in_use((i - first) / width);
      if (!inside && halves[i] != canary[i % 2]) return false;
    }
    return true;
  }

 private:
  char* accessible() const { return map_ + (mapped_ - accessible_) / 2; }

  std::size_t count_, element_size_;
  std::size_t accessible_ = 0;
  std::size_t mapped_ = 0;
  char* map_ = nullptr;
  char* start_ = nullptr;
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
                const Layout& layout = {}, Flush flush = Flush::end, ElementType type = ElementType::float32)
      : strides_(strided(batch, tokens, heads, dim, layout)),
        type_(type),
        buffer_(extent(strides_), flush, static_cast<std::size_t>(element_size(type))) {}

  /// Of floats.
  TensorView<float> view() {
    TensorView<float> v = strides_;
    v.data = buffer_.data();
    return v;
  }
  TensorView<const float> const_view() { return view(); }

  /// Of elements of any type.
  InputView input() { return typed<InputView>(const_view()); }
  OutputView output() { return typed<OutputView>(view()); }

  /// Copies packed [batch, token, head, dim] values in, rounded to the type.
  void assign(const std::vector<float>& packed) {
    const float* source = packed.data();
    for_each_row([&](std::int64_t offset) {
      for (std::int64_t d = 0; d < strides_.dim; ++d) store_element(address(offset + d), type_, *source++);
    });
  }

  /// The values, packed as [batch, token, head, dim].
  std::vector<float> packed() const {
    std::vector<float> values;
    for_each_row([&](std::int64_t offset) {
      for (std::int64_t d = 0; d < strides_.dim; ++d)
        values.push_back(load_element(address(offset + d), type_));
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

  template <class View, class T>
  View typed(const TensorView<T>& floats) const {
    View view = floats;
    view.type = type_;
    return view;
  }

  char* address(std::int64_t element) const {
    return static_cast<char*>(const_cast<void*>(buffer_.start())) + element * element_size(type_);
  }

  TensorView<float> strides_;  ///< without data
  ElementType type_;
  GuardedBuffer buffer_;
};

}  // namespace rehyat::support
