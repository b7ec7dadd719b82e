#pragma once
// What training computes of blocks of tokens, by the library's kernels.

#include "rehyat/kernel/training_table.hpp"
#include "rehyat/train/detail/matrix.hpp"

namespace rehyat::train::detail {

/// As EigenAlgebra<float>, in the instruction set of the kernels.
class KernelAlgebra {
 public:
  using Real = float;

  explicit KernelAlgebra(const TrainingKernels& kernels) : kernels_(&kernels) {}

  template <class Left, class Right>
  void multiply(Matrix<float> to, Start<float> start, const Left& left, const Right& right,
                const float* factor = nullptr) const {
    kernels_->multiply({.to = to.data(),
                        .to_stride = to.cols(),
                        .rows = to.rows(),
                        .columns = to.cols(),
                        .steps = left.cols(),
                        .left = operand(left),
                        .right = operand(right),
                        .start = start.data,
                        .start_stride = start.stride,
                        .factor = factor,
                        .factor_stride = to.cols()});
  }

  /// A product with a row of ones: the same one in every step.
  void add_rows(RowVector<float> to, const Matrix<float>& rows) const {
    constexpr float one = 1;
    kernels_->multiply({.to = to.data(),
                        .to_stride = to.cols(),
                        .rows = 1,
                        .columns = to.cols(),
                        .steps = rows.rows(),
                        .left = {&one, 0, true},
                        .right = operand(rows),
                        .start = to.data()});
  }

  void activate(Activation activation, int degree, const ConstMatrix<float>& before, Matrix<float> features,
                float* slopes) const {
    kernels_->activate({.before = before.data(),
                        .features = features.data(),
                        .slopes = slopes,
                        .rows = before.rows(),
                        .columns = before.cols(),
                        .activation = activation,
                        .degree = degree});
  }

  kernel::Distance distance(const Matrix<float>& joint, const ConstMatrix<float>& teacher, bool squares,
                            Matrix<float> d_joint) const {
    return kernels_->distance({.joint = joint.data(),
                               .teacher = teacher.data(),
                               .rows = joint.rows(),
                               .channels = teacher.cols(),
                               .squares = squares,
                               .d_joint = d_joint.data()});
  }

 private:
  template <class M>
  static kernel::MatrixOperand operand(const M& matrix) {
    return {matrix.data(), matrix.outerStride(), !M::IsRowMajor};
  }

  const TrainingKernels* kernels_;
};

}  // namespace rehyat::train::detail
