#pragma once

#include <cstdint>
#include <type_traits>

#include "rehyat/element.hpp"

namespace rehyat {

/// A view over the caller's memory as [batch, token, head, dim]; it owns nothing. Strides are in elements and
/// may be anything (head-major, token-major, a slice of a fused QKV buffer; 0 to broadcast an input); the
/// stride of `dim` is 1. Elements need the alignment of T only.
template <class T>
struct TensorView {
  T* data = nullptr;
  std::int64_t batch = 1;
  std::int64_t tokens = 0;
  std::int64_t heads = 1;
  std::int64_t dim = 0;
  std::int64_t batch_stride = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;

  /// Packed [batch, token, head, dim], as most models hold activations.
  static constexpr TensorView token_major(T* data, std::int64_t batch, std::int64_t tokens,
                                          std::int64_t heads, std::int64_t dim) {
    return {data, batch, tokens, heads, dim, tokens * heads * dim, heads * dim, dim};
  }

  /// Packed [batch, head, token, dim].
  static constexpr TensorView head_major(T* data, std::int64_t batch, std::int64_t tokens, std::int64_t heads,
                                         std::int64_t dim) {
    return {data, batch, tokens, heads, dim, tokens * heads * dim, dim, tokens * dim};
  }

  /// Tokens [begin, begin + count) of the same tensor: a chunk of a clip.
  constexpr TensorView slice_tokens(std::int64_t begin, std::int64_t count) const {
    TensorView chunk = *this;
    chunk.data = data == nullptr ? nullptr : data + begin * token_stride;
    chunk.tokens = count;
    return chunk;
  }

  /// Batch entry `index` alone.
  constexpr TensorView slice_batch(std::int64_t index) const {
    TensorView entry = *this;
    entry.data = data == nullptr ? nullptr : data + index * batch_stride;
    entry.batch = 1;
    return entry;
  }

  /// The first of the `dim` elements of one token and head.
  constexpr T* row(std::int64_t b, std::int64_t token, std::int64_t head) const {
    return data + b * batch_stride + token * token_stride + head * head_stride;
  }

  constexpr operator TensorView<const T>() const requires(!std::is_const_v<T>) {
    return {data, batch, tokens, heads, dim, batch_stride, token_stride, head_stride};
  }
};

/// A TensorView whose element type is known at run time: what operators take, made from a TensorView of any
/// type of Element, one view a time (q may be bfloat16, k float16, out float). Strides are in elements.
template <class Void>
struct AnyView {
  Void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t batch = 1;
  std::int64_t tokens = 0;
  std::int64_t heads = 1;
  std::int64_t dim = 0;
  std::int64_t batch_stride = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;

  constexpr AnyView() = default;
  template <Element T>
  requires std::is_convertible_v<T*, Void*>
  constexpr AnyView(const TensorView<T>& v)
      : data(v.data),
        type(element_type_of<T>),
        batch(v.batch),
        tokens(v.tokens),
        heads(v.heads),
        dim(v.dim),
        batch_stride(v.batch_stride),
        token_stride(v.token_stride),
        head_stride(v.head_stride) {}

  /// Tokens [begin, begin + count) of the same tensor: a chunk of a clip.
  AnyView slice_tokens(std::int64_t begin, std::int64_t count) const {
    AnyView chunk = *this;
    chunk.data = data == nullptr ? nullptr : row(0, begin, 0);
    chunk.tokens = count;
    return chunk;
  }

  /// Batch entry `index` alone.
  AnyView slice_batch(std::int64_t index) const {
    AnyView entry = *this;
    entry.data = data == nullptr ? nullptr : row(index, 0, 0);
    entry.batch = 1;
    return entry;
  }

  /// The first of the `dim` elements of one token and head.
  Void* row(std::int64_t b, std::int64_t token, std::int64_t head) const {
    using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
    const std::int64_t offset = b * batch_stride + token * token_stride + head * head_stride;
    return static_cast<Byte*>(data) + offset * element_size(type);
  }
};

using InputView = AnyView<const void>;
using OutputView = AnyView<void>;

}  // namespace rehyat
