// The DLPack adapter on any tensor: it refuses, or gives a view that shows the elements that DLPack's
// definition names.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "byte_reader.hpp"
#include "rehyat/dlpack.hpp"
#include "strided_memory.hpp"
#include "support/dlpack_tensor.hpp"

namespace rehyat::fuzz {
namespace {

using support::DLDataType;
using support::DLTensor;

constexpr std::int64_t most_elements = 1 << 18;  ///< for which there is memory

/// A tensor with the memory that its definition wants, where there can be so much.
class Tensor {
 public:
  explicit Tensor(ByteReader& bytes) {
    tensor_.ndim = bytes.pick<std::int32_t>({4, 3, 2, 5, 0, -1, 1 << 30});
    for (std::int64_t i = 0; i < 5; ++i) shape_.push_back(number(bytes, bytes.integer(0, 5)));
    tensor_.dtype = bytes.pick<DLDataType>(
        {{2, 32, 1}, {2, 16, 1}, {4, 16, 1}, {2, 64, 1}, {0, 32, 1}, {2, 32, 4}, {4, 32, 1}});
    tensor_.device.device_type =
        static_cast<support::DLDeviceType>(bytes.pick<std::int32_t>({1, 1, 1, 3, 11, 2, 0, -1}));
    choose_strides(bytes);
    tensor_.shape = bytes.one_in(32) ? nullptr : shape_.data();
    place(bytes);
  }

  const DLTensor& get() const { return tensor_; }
  std::size_t dims() const { return static_cast<std::size_t>(tensor_.ndim); }
  bool has_memory() const { return memory_.size() > 0; }
  std::size_t item() const { return tensor_.dtype.bits / 8u; }

  /// The address of an element: data + byte_offset + the sum of index times stride, in elements.
  const char* at(const std::vector<std::int64_t>& index) const {
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < dims(); ++i) offset += index[i] * stride(i);
    return static_cast<const char*>(tensor_.data) + tensor_.byte_offset +
           offset * static_cast<std::int64_t>(item());
  }

 private:
  /// Mostly `usual`.
  static std::int64_t number(ByteReader& bytes, std::int64_t usual) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    if (!bytes.one_in(16)) return usual;
    return bytes.pick<std::int64_t>({-1, 1 << 20, std::int64_t{1} << 40, most / 8, most / 2, most,
                                     std::numeric_limits<std::int64_t>::min()});
  }

  void choose_strides(ByteReader& bytes) {
    if (bytes.coin()) return;
    std::int64_t packed = 1;
    for (std::size_t i = shape_.size(); i-- > 0;) {
      const std::int64_t extent = shape_[i] > 0 && shape_[i] < 64 ? shape_[i] : 1;
      strides_.insert(strides_.begin(),
                      number(bytes, bytes.pick<std::int64_t>({packed, packed, -packed, packed + 3, 0, 1})));
      packed *= extent;
    }
    if (tensor_.ndim >= 1 && tensor_.ndim <= 5 && !bytes.one_in(8)) strides_[dims() - 1] = 1;
    tensor_.strides = strides_.data();
  }

  std::int64_t stride(std::size_t axis) const {
    if (tensor_.strides != nullptr) return tensor_.strides[axis];
    std::int64_t packed = 1;
    for (std::size_t i = dims(); --i > axis;) packed *= shape_[i];
    return packed;
  }

  /// Allocates from the lowest to the highest element.
  void place(ByteReader& bytes) {
    tensor_.byte_offset = bytes.pick<std::uint64_t>({0, 0, 4, 2, 1, 64});
    __int128 low = 0, high = 0;
    const bool small =
        std::all_of(shape_.begin(), shape_.end(), [](std::int64_t n) { return n > 0 && n < 64; });
    const bool possible = small && tensor_.ndim >= 1 && tensor_.ndim <= 5;
    for (std::size_t i = 0; possible && i < dims(); ++i) {
      (stride(i) < 0 ? low : high) += static_cast<__int128>(shape_[i] - 1) * stride(i);
    }
    if (!possible || high - low > most_elements) {
      tensor_.data = bytes.coin() ? nullptr : this;
      if (bytes.one_in(8)) tensor_.byte_offset = std::numeric_limits<std::uint64_t>::max() - 3;
      return;
    }
    const std::size_t size = static_cast<std::size_t>(high - low + 1) * item();
    memory_ = ExactBytes(size, tensor_.byte_offset);
    tensor_.data = memory_.data() - tensor_.byte_offset +
                   static_cast<std::ptrdiff_t>(-low) * static_cast<std::ptrdiff_t>(item());
  }

  DLTensor tensor_ = {};
  std::vector<std::int64_t> shape_, strides_;
  ExactBytes memory_{0};
};

/// The view's elements are the tensor's; `distinct`: no two share a byte.
template <class View>
void expect_same_elements(const Tensor& tensor, const View& view, DlpackAxes axes, bool distinct) {
  const std::size_t batch_axes = tensor.dims() - 3;
  const std::size_t token = batch_axes + (axes == DlpackAxes::token_head_dim ? 0 : 1),
                    head = 2 * batch_axes + 1 - token;
  ASSERT_EQ(static_cast<std::size_t>(element_size(view.type)), tensor.item());
  std::set<const char*> rows;
  std::vector<std::int64_t> index(tensor.dims());
  for_each_row(view, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
    const char* const row = static_cast<const char*>(view.row(b, t, h));
    for (std::int64_t d = 0; d < view.dim; ++d) {
      if (batch_axes == 1) index[0] = b;
      index[token] = t, index[head] = h, index.back() = d;
      const char* const element = row + d * static_cast<std::int64_t>(tensor.item());
      EXPECT_EQ(static_cast<const void*>(element), static_cast<const void*>(tensor.at(index)));
      EXPECT_TRUE(std::isnan(reference::element_at(row, view.type, d)));  // what the memory is full of
      EXPECT_TRUE(!distinct || rows.insert(element).second);
    }
  });
}

template <class View>
void check(const Tensor& tensor, const Result<View>& view, DlpackAxes axes, bool distinct) {
  if (!view.ok()) {
    const std::string_view message = view.status().message();
    EXPECT_EQ(view.status().code(), StatusCode::invalid_argument) << message;
    EXPECT_TRUE(message.starts_with("tensor") && message.find('\n') == std::string_view::npos) << message;
    return;
  }
  const DLTensor& t = tensor.get();
  ASSERT_TRUE(t.ndim == 3 || t.ndim == 4);
  const std::int64_t* const sizes = t.shape + t.ndim - 3;
  EXPECT_EQ(view->batch, t.ndim == 4 ? t.shape[0] : 1);
  EXPECT_EQ(view->tokens, sizes[axes == DlpackAxes::token_head_dim ? 0 : 1]);
  EXPECT_EQ(view->heads, sizes[axes == DlpackAxes::token_head_dim ? 1 : 0]);
  EXPECT_EQ(view->dim, sizes[2]);
  if (tensor.has_memory() && Reach(*view).elements() < 4096)
    expect_same_elements(tensor, *view, axes, distinct);
}

}  // namespace
}  // namespace rehyat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace rehyat;
  fuzz::ByteReader bytes({data, size});
  const DlpackAxes axes = bytes.pick({DlpackAxes::token_head_dim, DlpackAxes::head_token_dim});
  const fuzz::Tensor tensor(bytes);
  fuzz::check(tensor, dlpack_input(tensor.get(), "tensor", axes), axes, false);
  fuzz::check(tensor, dlpack_output(tensor.get(), "tensor", axes), axes, true);
  return 0;
}
