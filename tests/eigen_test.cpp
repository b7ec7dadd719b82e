// Views of Eigen's matrices and tensors: seen where they lie, as row-major and column-major storage mean it.

#include "rehyat/eigen.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <numeric>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "rehyat/attention.hpp"

namespace rehyat {
namespace {

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColumnMatrix = Eigen::MatrixXf;

template <class T>
concept Readable = requires(T&& t) {
  eigen_input(std::forward<T>(t), "x");
};
template <class T>
concept Writable = requires(T&& t) {
  eigen_output(std::forward<T>(t), "x");
};

// what is const is never written, what is gone at the end of the line never viewed
static_assert(Readable<RowMatrix&> && Writable<RowMatrix&>);
static_assert(Readable<const RowMatrix&> && !Writable<const RowMatrix&>);
static_assert(!Readable<RowMatrix> && !Writable<RowMatrix>);
static_assert(Readable<Eigen::Map<RowMatrix>> && Writable<Eigen::Map<RowMatrix>>);
static_assert(Readable<Eigen::Map<const RowMatrix>> && !Writable<Eigen::Map<const RowMatrix>>);
static_assert(!Readable<decltype(RowMatrix() + RowMatrix())>);
static_assert(!Readable<Eigen::Map<Eigen::MatrixXd>>);
static_assert(Readable<Eigen::TensorMap<Eigen::Tensor<const float, 4>>> &&
              !Writable<Eigen::TensorMap<Eigen::Tensor<const float, 4>>>);
static_assert(Writable<Eigen::TensorMap<Eigen::Tensor<float, 4>>>);
static_assert(!Writable<const Eigen::Tensor<float, 3>&>);

float at(const InputView& view, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) {
  return static_cast<const float*>(view.row(b, t, h))[d];
}

/// The view has the elements that expected(b, t, h, d) gives.
template <class Expected>
void expect_elements(const Result<InputView>& view, const std::vector<std::int64_t>& shape,
                     Expected expected) {
  ASSERT_TRUE(view.ok()) << view.status().message();
  ASSERT_EQ((std::vector{view->batch, view->tokens, view->heads, view->dim}), shape);
  for (std::int64_t b = 0; b < shape[0]; ++b) {
    for (std::int64_t t = 0; t < shape[1]; ++t) {
      for (std::int64_t h = 0; h < shape[2]; ++h) {
        for (std::int64_t d = 0; d < shape[3]; ++d) EXPECT_EQ(at(*view, b, t, h, d), expected(b, t, h, d));
      }
    }
  }
}

class EigenTest : public testing::Test {
 protected:
  EigenTest() { std::iota(values_.begin(), values_.end(), 0.0f); }
  std::vector<float> values_ = std::vector<float>(120);
};

TEST_F(EigenTest, RowsAreTokens) {
  const Eigen::Map<const RowMatrix> map(values_.data(), 5, 6);
  expect_elements(eigen_input(map, "q", 2), {1, 5, 2, 3},
                  [&](auto, auto t, auto h, auto d) { return map(t, h * 3 + d); });
  const Eigen::Map<const ColumnMatrix> columns(values_.data(), 6, 5);
  expect_elements(eigen_input(columns.transpose(), "q", 3), {1, 5, 3, 2},
                  [&](auto, auto t, auto h, auto d) { return columns(h * 2 + d, t); });
}

TEST_F(EigenTest, StridesAndBlocks) {
  using Stride = Eigen::OuterStride<>;
  const Eigen::Map<const RowMatrix, 0, Stride> map(values_.data() + 2, 5, 4, Stride(11));
  expect_elements(eigen_input(map, "q", 2), {1, 5, 2, 2},
                  [&](auto, auto t, auto h, auto d) { return map(t, h * 2 + d); });
  const auto block = Eigen::Map<const RowMatrix>(values_.data(), 10, 12).block(1, 3, 4, 6);
  expect_elements(eigen_input(block, "k"), {1, 4, 1, 6},
                  [&](auto, auto t, auto, auto d) { return block(t, d); });
  // a column-major matrix of one column has its rows side by side: tokens of one element
  const Eigen::VectorXf vector = Eigen::Map<const Eigen::VectorXf>(values_.data(), 7);
  expect_elements(eigen_input(vector, "v"), {1, 7, 1, 1},
                  [&](auto, auto t, auto, auto) { return vector(t); });
}

TEST_F(EigenTest, WritesWhereTheMatrixIs) {
  RowMatrix m = RowMatrix::Zero(3, 4);
  const Result<OutputView> view = eigen_output(m, "out", 2);
  ASSERT_TRUE(view.ok()) << view.status().message();
  *static_cast<float*>(view->row(0, 2, 1)) = 7;
  EXPECT_EQ(m(2, 2), 7);
  ColumnMatrix columns = ColumnMatrix::Zero(4, 3);
  *static_cast<float*>(eigen_output(columns.transpose(), "out", 2)->row(0, 2, 1)) = 8;
  EXPECT_EQ(columns(2, 2), 8);
}

TEST_F(EigenTest, Tensors) {
  using RowTensor = Eigen::Tensor<const float, 4, Eigen::RowMajor>;
  const Eigen::TensorMap<RowTensor> rows(values_.data(), 2, 3, 4, 5);
  expect_elements(eigen_input(rows, "q"), {2, 3, 4, 5},
                  [&](auto b, auto t, auto h, auto d) { return rows(b, t, h, d); });
  expect_elements(eigen_input(rows, "q", TensorAxes::head_token_dim), {2, 4, 3, 5},
                  [&](auto b, auto t, auto h, auto d) { return rows(b, h, t, d); });
  const Eigen::TensorMap<Eigen::Tensor<const float, 4>> columns(values_.data(), 5, 4, 3, 2);
  expect_elements(eigen_input(columns, "q"), {2, 3, 4, 5},
                  [&](auto b, auto t, auto h, auto d) { return columns(d, h, t, b); });
  Eigen::Tensor<float, 3> clip(4, 2, 6);
  clip.setZero();
  const Result<OutputView> out = eigen_output(clip, "out");
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(out->tokens, 6);
  static_cast<float*>(out->row(0, 5, 1))[3] = 9;
  EXPECT_EQ(clip(3, 1, 5), 9);
}

TEST_F(EigenTest, ElementTypes) {
  Eigen::Matrix<Eigen::half, 2, 3, Eigen::RowMajor> half;
  Eigen::Matrix<Eigen::bfloat16, 2, 3, Eigen::RowMajor> bfloat;
  EXPECT_EQ(eigen_input(half, "q")->type, ElementType::float16);
  EXPECT_EQ(eigen_output(bfloat, "out")->type, ElementType::bfloat16);
}

TEST_F(EigenTest, Refuses) {
  const auto refuse = [](const Result<InputView>& view, const std::string& message) {
    ASSERT_FALSE(view.ok());
    EXPECT_EQ(view.status().code(), StatusCode::invalid_argument);
    EXPECT_EQ(view.status().message(), message);
  };
  const Eigen::Map<const RowMatrix> rows(values_.data(), 5, 6);
  refuse(eigen_input(rows, "q", 4), "heads is 4, expected a divisor of q.cols() (6)");
  refuse(eigen_input(rows, "q", 0), "heads is 0, expected a divisor of q.cols() (6)");
  const auto apart = [](const char* name, int stride) {
    return std::string(name) + " has its columns " + std::to_string(stride) +
           " elements apart, expected 1: a row is a token (a column-major matrix of columns that are tokens "
           "is "
           "to be transposed)";
  };
  const Eigen::Map<const ColumnMatrix> columns(values_.data(), 5, 6);
  refuse(eigen_input(columns, "k", 2), apart("k", 5));
  refuse(eigen_input(rows.transpose(), "v"), apart("v", 6));
  using Stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  refuse(eigen_input(Eigen::Map<const RowMatrix, 0, Stride>(values_.data(), 5, 6, Stride(20, 2)), "q"),
         apart("q", 2));
  const Eigen::Map<const RowMatrix> nothing(nullptr, 5, 6);
  refuse(eigen_input(nothing, "q"), "q.data is null, expected memory");
  using Outer = Eigen::OuterStride<>;
  const Result<OutputView> overlapping =
      eigen_output(Eigen::Map<RowMatrix, 0, Outer>(values_.data(), 5, 6, Outer(3)), "out");
  EXPECT_STREQ(overlapping.status().message(),
               "out strides are 0, 3, 6, expected ones that give every element its own address");
}

/// From matrices to a result without a copy.
TEST_F(EigenTest, FeedsAnOperator) {
  const RowMatrix q = RowMatrix::Random(4, 6), v = RowMatrix::Constant(4, 6, 0.5f);
  RowMatrix out = RowMatrix::Zero(4, 6);
  const SoftmaxAttention p{.q = *eigen_input(q, "q", 2),
                           .k = *eigen_input(q, "k", 2),
                           .v = *eigen_input(v, "v", 2),
                           .out = *eigen_output(out, "out", 2)};
  std::vector<char> workspace(*workspace_size(p, 1));
  SerialExecutor executor;
  ASSERT_TRUE(softmax_attention(p, {workspace.data(), workspace.size()}, executor).ok());
  EXPECT_LT((out - v).cwiseAbs().maxCoeff(), 1e-6f);
}

}  // namespace
}  // namespace rehyat
