#pragma once
// Tensors in memory that ends with their last element: AddressSanitizer sees an access before or behind it,
// and a pattern in the gaps one between the rows (read it is NaN).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "byte_reader.hpp"
#include "reference/array.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::fuzz {

/// Exactly `size` bytes, at `shift` bytes from malloc's alignment, all ones: NaN in every element type.
class ExactBytes {
 public:
  explicit ExactBytes(std::size_t size, std::size_t shift = 0)
      : memory_(static_cast<char*>(std::malloc(size + shift)), &std::free), size_(size), shift_(shift) {
    std::memset(data(), 0xff, size);
  }
  char* data() const { return memory_.get() + shift_; }
  std::size_t size() const { return size_; }
  Workspace workspace() const { return {data(), size_}; }
  std::vector<char> copy() const { return {data(), data() + size_}; }

 private:
  std::unique_ptr<char, decltype(&std::free)> memory_;
  std::size_t size_, shift_;
};

/// The lowest and the highest element of a view, seen from its data.
struct Reach {
  __int128 low = 0, high = -1;

  template <class View>
  explicit Reach(const View& v) {
    if (v.batch < 1 || v.tokens < 1 || v.heads < 1 || v.dim < 1) return;
    high = v.dim - 1;
    for (const auto [extent, stride] :
         {std::pair(v.batch, v.batch_stride), {v.tokens, v.token_stride}, {v.heads, v.head_stride}}) {
      (stride < 0 ? low : high) += static_cast<__int128>(extent - 1) * stride;
    }
  }
  bool empty() const { return high < low; }
  std::size_t elements() const { return empty() ? 0 : static_cast<std::size_t>(high - low + 1); }
};

/// Strides for a shape. `distinct`: every element gets its own address, as outputs need it; else they may be
/// anything.
inline InputView choose_strides(ByteReader& bytes, InputView v, bool distinct) {
  struct Axis {
    std::int64_t extent, *stride;
  };
  Axis axes[3] = {{v.heads, &v.head_stride}, {v.tokens, &v.token_stride}, {v.batch, &v.batch_stride}};
  const std::int64_t order = bytes.integer(0, 5);
  std::rotate(axes, axes + order % 3, axes + 3);
  if (order >= 3) std::swap(axes[1], axes[2]);
  std::int64_t inner = v.dim;
  for (const Axis& axis : axes) {
    const std::int64_t gap = bytes.pick<std::int64_t>({0, 0, 0, 1, 3, 16, inner < 40 ? 512 : 2});
    *axis.stride = (inner + gap) * (bytes.one_in(4) ? -1 : 1);
    if (!distinct && bytes.one_in(8)) *axis.stride = bytes.pick<std::int64_t>({0, 0, 1, -1, v.dim / 2});
    inner += std::max<std::int64_t>(axis.extent - 1, 0) * std::abs(*axis.stride);
  }
  return v;
}

inline void put_element(void* row, ElementType type, std::int64_t i, float x) {
  switch (type) {
    case ElementType::float32:
      static_cast<float*>(row)[i] = x;
      break;
    case ElementType::bfloat16:
      static_cast<bfloat16*>(row)[i] = bfloat16(x);
      break;
    case ElementType::float16:
      static_cast<float16*>(row)[i] = float16(x);
      break;
  }
}

/// Calls visit(batch, token, head) for every row of a view.
template <class View, class F>
void for_each_row(const View& v, F visit) {
  for (std::int64_t b = 0; b < v.batch; ++b) {
    for (std::int64_t t = 0; t < v.tokens; ++t) {
      for (std::int64_t h = 0; h < v.heads; ++h) visit(b, t, h);
    }
  }
}

/// A tensor of a shape and element type somewhere, in strides chosen by `bytes`.
class StridedTensor {
 public:
  StridedTensor(ByteReader& bytes, InputView shape, ElementType type, bool distinct)
      : view_(choose_strides(bytes, typed(shape, type), distinct)),
        memory_(Reach(view_).elements() * element_bytes(),
                static_cast<std::size_t>(bytes.integer(0, 3)) * element_bytes()) {
    if (!Reach(view_).empty())
      view_.data = memory_.data() - static_cast<std::int64_t>(Reach(view_).low) * size_of(view_);
    remember();
  }

  const InputView& view() const { return view_; }
  OutputView output() const {
    OutputView out;
    out.data = const_cast<void*>(view_.data), out.type = view_.type;
    out.batch = view_.batch, out.tokens = view_.tokens, out.heads = view_.heads, out.dim = view_.dim;
    out.batch_stride = view_.batch_stride, out.token_stride = view_.token_stride,
    out.head_stride = view_.head_stride;
    return out;
  }
  /// Of float32.
  TensorView<float> statistic() const {
    return {static_cast<float*>(const_cast<void*>(view_.data)),
            view_.batch,
            view_.tokens,
            view_.heads,
            view_.dim,
            view_.batch_stride,
            view_.token_stride,
            view_.head_stride};
  }

  /// Writes packed [batch, token, head, dim] values, then reads back what the view now shows: the rounded
  /// ones, and where elements share an address, the last of them.
  void assign(std::span<float> packed) {
    const OutputView out = output();
    float* from = packed.data();
    for_each_row(view_, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
      for (std::int64_t d = 0; d < out.dim; ++d) put_element(out.row(b, t, h), out.type, d, *from++);
    });
    float* to = packed.data();
    for_each_row(view_, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
      for (std::int64_t d = 0; d < out.dim; ++d) {
        *to++ = static_cast<float>(reference::element_at(view_.row(b, t, h), view_.type, d));
      }
    });
    remember();
  }

  bool unchanged() const { return before_ == memory_.copy(); }

  /// Whether every byte is as it was but those of the rows that `valid(batch, token)` names, seen through
  /// `view`.
  template <class View, class F>
  bool unchanged_outside(const View& view, const F& valid) const {
    std::vector<char> expected = before_;
    for_each_row(view, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
      if (!valid(b, t)) return;
      const char* const row = reinterpret_cast<const char*>(view.row(b, t, h));
      std::copy_n(row, view.dim * size_of(view), expected.begin() + (row - memory_.data()));
    });
    return expected == memory_.copy();
  }

  /// Whether an access through `view` stays in this memory, and is aligned.
  template <class View>
  bool holds(const View& view) const {
    const Reach reach(view);
    const __int128 size = size_of(view);
    const auto address = reinterpret_cast<std::uintptr_t>(view.data);
    const __int128 origin = static_cast<__int128>(address) - reinterpret_cast<std::uintptr_t>(memory_.data());
    return !reach.empty() && address % static_cast<std::uintptr_t>(size) == 0 &&
           origin + reach.low * size >= 0 &&
           origin + (reach.high + 1) * size <= static_cast<__int128>(memory_.size());
  }

  static std::int64_t size_of(const TensorView<float>&) { return sizeof(float); }
  template <class Void>
  static std::int64_t size_of(const AnyView<Void>& view) {
    return element_size(view.type);
  }

 private:
  static InputView typed(InputView shape, ElementType type) {
    shape.type = type;
    return shape;
  }
  std::size_t element_bytes() const { return static_cast<std::size_t>(size_of(view_)); }
  void remember() { before_ = memory_.copy(); }

  InputView view_;
  ExactBytes memory_;
  std::vector<char> before_;
};

}  // namespace rehyat::fuzz
