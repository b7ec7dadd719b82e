#pragma once
// Tensors of any element type.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "random.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::support {

inline ElementType random_element(Random& random) {
  return random.pick({ElementType::float32, ElementType::bfloat16, ElementType::float16});
}

/// What is left of a float in an element type.
inline float rounded(float x, ElementType type) {
  if (type == ElementType::bfloat16) return static_cast<float>(bfloat16(x));
  if (type == ElementType::float16) return static_cast<float>(float16(x));
  return x;
}

inline std::vector<float> rounded(std::vector<float> values, ElementType type) {
  for (float& x : values) x = rounded(x, type);
  return values;
}

/// Writes a float as an element of any alignment, rounded to nearest even.
inline void store_element(void* at, ElementType type, float x) {
  if (type == ElementType::float32) return static_cast<void>(std::memcpy(at, &x, sizeof x));
  const std::uint16_t bits = type == ElementType::bfloat16 ? bfloat16(x).bits : float16(x).bits;
  std::memcpy(at, &bits, sizeof bits);
}

inline float load_element(const void* at, ElementType type) {
  if (type == ElementType::float32) {
    float x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return type == ElementType::bfloat16 ? bfloat16_to_float(bits) : half_to_float(bits);
}

/// A tensor of a shape [batch, token, head, dim] with gaps between the rows, which hold NaN.
class ElementTensor {
 public:
  ElementTensor(ElementType type, const InputView& shape, std::int64_t gap = 3)
      : shape_(shape), elements_(shape.batch * shape.tokens * shape.heads * (shape.dim + gap)), type_(type) {
    shape_.type = type;
    shape_.head_stride = shape.dim + gap;
    shape_.token_stride = shape.heads * shape_.head_stride;
    shape_.batch_stride = shape.tokens * shape_.token_stride;
    bytes_.resize(static_cast<std::size_t>(elements_ * element_size(type)), 0xFF);
    shape_.data = bytes_.data();
  }

  /// Packed values in the order of the shape, rounded to nearest even.
  void assign(const std::vector<float>& values) {
    std::size_t next = 0;
    for_each_row([&](std::int64_t offset) {
      for (std::int64_t d = 0; d < shape_.dim; ++d) put(offset + d, values[next++]);
    });
  }

  std::vector<float> values() const {
    std::vector<float> result;
    for_each_row([&](std::int64_t offset) {
      for (std::int64_t d = 0; d < shape_.dim; ++d) result.push_back(get(offset + d));
    });
    return result;
  }

  const InputView& input() const { return shape_; }
  OutputView output() {
    OutputView out;
    out.data = bytes_.data(), out.type = type_;
    out.batch = shape_.batch, out.tokens = shape_.tokens, out.heads = shape_.heads, out.dim = shape_.dim;
    out.batch_stride = shape_.batch_stride, out.token_stride = shape_.token_stride;
    out.head_stride = shape_.head_stride;
    return out;
  }

  /// True as long as nobody wrote to the gaps.
  bool gaps_untouched() const {
    std::vector<unsigned char> rest = bytes_;
    const std::int64_t size = element_size(type_);
    for_each_row([&](std::int64_t offset) {
      std::fill_n(rest.begin() + offset * size, shape_.dim * size, static_cast<unsigned char>(0xFF));
    });
    return std::all_of(rest.begin(), rest.end(), [](unsigned char byte) { return byte == 0xFF; });
  }

 private:
  template <class F>
  void for_each_row(F f) const {
    const InputView& s = shape_;
    for (std::int64_t b = 0; b < s.batch; ++b) {
      for (std::int64_t t = 0; t < s.tokens; ++t) {
        for (std::int64_t h = 0; h < s.heads; ++h)
          f(b * s.batch_stride + t * s.token_stride + h * s.head_stride);
      }
    }
  }

  void put(std::int64_t i, float x) { store_element(bytes_.data() + i * element_size(type_), type_, x); }
  float get(std::int64_t i) const { return load_element(bytes_.data() + i * element_size(type_), type_); }

  InputView shape_;
  std::int64_t elements_;
  ElementType type_;
  std::vector<unsigned char> bytes_;
};

}  // namespace rehyat::support
