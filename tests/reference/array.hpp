#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rehyat/tensor_view.hpp"

namespace rehyat::reference {

using Index = std::int64_t;

/// An owned, packed [tokens, heads, dim] array: one batch entry of a tensor.
template <class T>
struct Array {
  Index tokens = 0;
  Index heads = 0;
  Index dim = 0;
  std::vector<T> values;

  Array() = default;
  Array(Index tokens_, Index heads_, Index dim_)
      : tokens(tokens_),
        heads(heads_),
        dim(dim_),
        values(static_cast<std::size_t>(tokens_ * heads_ * dim_)) {}

  bool empty() const { return values.empty(); }
  T* row(Index token, Index head) { return values.data() + (token * heads + head) * dim; }
  const T* row(Index token, Index head) const { return values.data() + (token * heads + head) * dim; }
  /// The element of an array of dim 1.
  T& at(Index token, Index head) { return *row(token, head); }
  const T& at(Index token, Index head) const { return *row(token, head); }

  /// Tokens [begin, end). An empty array stays empty.
  Array slice(Index begin, Index end) const {
    if (empty()) return *this;
    Array part(end - begin, heads, dim);
    std::copy(row(begin, 0), row(begin, 0) + part.values.size(), part.values.begin());
    return part;
  }

  template <class U>
  Array<U> cast() const {
    Array<U> result(tokens, heads, dim);
    std::transform(values.begin(), values.end(), result.values.begin(),
                   [](T x) { return static_cast<U>(x); });
    return result;
  }
};

/// The tokens of `first`, then those of `second`; either may be empty.
template <class T>
Array<T> concatenate(const Array<T>& first, const Array<T>& second) {
  if (first.empty()) return second;
  if (second.empty()) return first;
  Array<T> all(first.tokens + second.tokens, first.heads, first.dim);
  const auto middle = std::copy(first.values.begin(), first.values.end(), all.values.begin());
  std::copy(second.values.begin(), second.values.end(), middle);
  return all;
}

/// What an element of any type stores.
inline double element_at(const void* row, ElementType type, Index i) {
  switch (type) {
    case ElementType::bfloat16:
      return static_cast<float>(static_cast<const bfloat16*>(row)[i]);
    case ElementType::float16:
      return static_cast<float>(static_cast<const float16*>(row)[i]);
    case ElementType::float32:
      break;
  }
  return static_cast<const float*>(row)[i];
}

/// The first `tokens` tokens of one batch entry of a view. A view without data gives an empty array.
inline Array<double> to_array(const InputView& view, Index batch_entry, Index tokens) {
  if (view.data == nullptr) return {};
  Array<double> result(tokens, view.heads, view.dim);
  for (Index t = 0; t < tokens; ++t) {
    for (Index h = 0; h < view.heads; ++h) {
      const void* row = view.row(batch_entry, t, h);
      for (Index i = 0; i < view.dim; ++i) result.row(t, h)[i] = element_at(row, view.type, i);
    }
  }
  return result;
}

}  // namespace rehyat::reference
