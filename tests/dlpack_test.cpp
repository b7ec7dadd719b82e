// Views of DLPack tensors: what is accepted is seen where it lies, what is not is refused by name and value.

#include "rehyat/dlpack.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <numeric>
#include <vector>

#include "rehyat/attention.hpp"
#include "support/dlpack_tensor.hpp"

namespace rehyat {
namespace {

using support::DLDataType;
using support::DLDevice;
using support::DLTensor;
using support::kDLCPU;
using support::kDLCUDA;
using support::kDLCUDAHost;

static_assert(DlpackTensor<DLTensor>);

constexpr DLDataType float32 = {2, 32, 1}, half = {2, 16, 1}, bfloat = {4, 16, 1};

class DlpackTest : public testing::Test {
 protected:
  DlpackTest() { std::iota(values_.begin(), values_.end(), 0.0f); }

  void refuse(const std::string& message, const DLTensor& tensor) {
    EXPECT_STREQ(dlpack_input(tensor, "k").status().message(), message.c_str());
    EXPECT_FALSE(dlpack_output(tensor, "k").ok());
  }

  alignas(8) std::array<float, 120> values_;
  std::array<std::int64_t, 4> shape_ = {2, 3, 4, 5};
  std::array<std::int64_t, 4> strides_ = {60, 20, 5, 1};
  DLTensor tensor_{values_.data(), {kDLCPU, 0}, 4, float32, shape_.data(), nullptr, 0};
};

float first_of(const InputView& view, std::int64_t b, std::int64_t t, std::int64_t h) {
  return *static_cast<const float*>(view.row(b, t, h));
}

TEST_F(DlpackTest, SeesWithoutStrides) {
  const Result<InputView> view = dlpack_input(tensor_, "k");
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(view->data, values_.data());
  EXPECT_EQ(first_of(*view, 1, 2, 3), 60 + 40 + 15);
  const Result<InputView> heads_first = dlpack_input(tensor_, "k", DlpackAxes::head_token_dim);
  ASSERT_TRUE(heads_first.ok());
  EXPECT_EQ(heads_first->heads, 3);
  EXPECT_EQ(heads_first->tokens, 4);
  EXPECT_EQ(first_of(*heads_first, 1, 3, 2), 60 + 40 + 15);
}

TEST_F(DlpackTest, SeesStridesOffsetAndThreeDimensions) {
  shape_ = {3, 2, 4, 0};
  strides_ = {-20, 5, 1, 0};
  tensor_.ndim = 3;
  tensor_.strides = strides_.data();
  tensor_.byte_offset = 60 * sizeof(float);
  const Result<InputView> view = dlpack_input(tensor_, "k");
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(view->batch, 1);
  EXPECT_EQ(first_of(*view, 0, 0, 0), 60);
  EXPECT_EQ(first_of(*view, 0, 2, 1), 60 - 40 + 5);
}

TEST_F(DlpackTest, KnowsElementTypes) {
  EXPECT_EQ(dlpack_input(tensor_, "k")->type, ElementType::float32);
  shape_ = {1, 3, 4, 5};
  tensor_.dtype = half;
  EXPECT_EQ(dlpack_input(tensor_, "k")->type, ElementType::float16);
  tensor_.dtype = bfloat;
  EXPECT_EQ(dlpack_input(tensor_, "k")->type, ElementType::bfloat16);
  tensor_.byte_offset = 2;
  EXPECT_TRUE(dlpack_input(tensor_, "k").ok());
  tensor_.device.device_type = kDLCUDAHost;
  EXPECT_TRUE(dlpack_output(tensor_, "k").ok());
}

TEST_F(DlpackTest, BroadcastsInputsOnly) {
  strides_ = {0, 5, 0, 1};
  tensor_.strides = strides_.data();
  EXPECT_TRUE(dlpack_input(tensor_, "k").ok());
  EXPECT_STREQ(dlpack_output(tensor_, "out").status().message(),
               "out strides are 0, 5, 0, expected ones that give every element its own address");
}

TEST_F(DlpackTest, StridesOfSingleElementsDoNotMatter) {
  shape_ = {1, 3, 4, 1};
  strides_ = {-999, 4, 1, 77};
  tensor_.strides = strides_.data();
  EXPECT_TRUE(dlpack_input(tensor_, "k").ok());
}

TEST_F(DlpackTest, Refuses) {
  const auto changed = [&](auto change) {
    DLTensor t = tensor_;
    change(t);
    return t;
  };
  const std::string types = ", expected float32 (2, 32, 1), float16 (2, 16, 1) or bfloat16 (4, 16, 1)";
  refuse("k.dtype is code 2, 64 bits, 1 lanes" + types, changed([](auto& t) { t.dtype = {2, 64, 1}; }));
  refuse("k.dtype is code 0, 32 bits, 1 lanes" + types, changed([](auto& t) { t.dtype = {0, 32, 1}; }));
  refuse("k.dtype is code 2, 32 bits, 4 lanes" + types, changed([](auto& t) { t.dtype.lanes = 4; }));
  refuse("k.ndim is 2, expected 3 or 4", changed([](auto& t) { t.ndim = 2; }));
  refuse("k.ndim is 5, expected 3 or 4", changed([](auto& t) { t.ndim = 5; }));
  refuse("k.shape is null, expected 4 sizes", changed([](auto& t) { t.shape = nullptr; }));
  refuse("k.device.device_type is 2, expected memory of the host (1, 3 or 11)",
         changed([](auto& t) { t.device.device_type = kDLCUDA; }));
  refuse("k.byte_offset is 2, expected one that leads to an aligned float32",
         changed([](auto& t) { t.byte_offset = 2; }));
  refuse("k.byte_offset is 18446744073709551612, expected one that leads to an aligned float32",
         changed([](auto& t) { t.byte_offset = ~std::uint64_t{3}; }));
  refuse("k.data is null, expected memory", changed([](auto& t) { t.data = nullptr; }));
  shape_[1] = -3;
  refuse("k.shape[1] is -3, expected 0 or more", tensor_);
  shape_[1] = std::numeric_limits<std::int64_t>::max() / 2;
  refuse("k.shape has a product that overflows", tensor_);
  shape_ = {2, 3, 4, 5};
  strides_ = {60, 20, 1, 4};
  refuse("k.strides[3] is 4, expected 1: the elements of a row side by side",
         changed([&](auto& t) { t.strides = strides_.data(); }));
  strides_ = {std::numeric_limits<std::int64_t>::max(), 20, 5, 1};
  refuse("k strides are 9223372036854775807, 20, 5, expected ones whose reach does not overflow",
         changed([&](auto& t) { t.strides = strides_.data(); }));
}

/// From tensors to a result without a copy: 16-bit inputs and a float32 output.
TEST_F(DlpackTest, FeedsAnOperator) {
  std::vector<bfloat16> qkv(24, bfloat16(0.5f));
  std::vector<float> out(24, -1.0f);
  std::array<std::int64_t, 3> shape = {4, 2, 3};
  const DLTensor in{qkv.data(), {kDLCPU, 0}, 3, bfloat, shape.data(), nullptr, 0};
  const DLTensor result{out.data(), {kDLCPU, 0}, 3, float32, shape.data(), nullptr, 0};
  const InputView view = *dlpack_input(in, "qkv");
  const SoftmaxAttention p{.q = view, .k = view, .v = view, .out = *dlpack_output(result, "out")};
  std::vector<char> workspace(*workspace_size(p, 1));
  SerialExecutor executor;
  ASSERT_TRUE(softmax_attention(p, {workspace.data(), workspace.size()}, executor).ok());
  EXPECT_EQ(out, std::vector<float>(24, 0.5f));
}

}  // namespace
}  // namespace rehyat
