#pragma once
// What training computes of blocks of tokens, by Eigen: in float or double, in the instruction set of the
// compiler's flags.

#include <cmath>
#include <cstdint>

#include "rehyat/kernel/training_table.hpp"
#include "rehyat/train/detail/activation_block.hpp"
#include "rehyat/train/detail/matrix.hpp"

namespace rehyat::train::detail {

template <class R>
struct EigenAlgebra {
  using Real = R;

  /// to = (start + left * right) .* factor; no factor: 1.
  template <class Left, class Right>
  void multiply(Matrix<Real> to, Start<Real> start, const Left& left, const Right& right,
                const Real* factor = nullptr) const {
    if (start.data == nullptr) {
      to.setZero();
    } else if (start.data != to.data()) {
      for (std::int64_t i = 0; i < to.rows(); ++i) {
        to.row(i) = ConstRowVector<Real>(start.data + i * start.stride, to.cols());
      }
    }
    add_product(to, left, right);
    if (factor != nullptr) to.array() *= ConstMatrix<Real>(factor, to.rows(), to.cols()).array();
  }

  /// to += the sum of the rows.
  void add_rows(RowVector<Real> to, const Matrix<Real>& rows) const {
    for (std::int64_t i = 0; i < rows.rows(); ++i) to += rows.row(i);
  }

  /// features = activation(before), part i of `degree` equal parts of the columns raised to i + 1, and where
  /// wanted their derivatives; these may replace `before`.
  void activate(Activation activation, int degree, const ConstMatrix<Real>& before, Matrix<Real> features,
                Real* slopes) const {
    detail::activate(activation, before, features, slopes);
    const std::int64_t part = features.cols() / degree;
    for (int power = 2; power <= degree; ++power) {
      const std::int64_t first = (power - 1) * part;
      auto y = features.middleCols(first, part);
      if (slopes != nullptr) {
        auto slope = Matrix<Real>(slopes, features.rows(), features.cols()).middleCols(first, part);
        slope = slope.cwiseProduct(static_cast<Real>(power) * raised(y, power - 1));
      }
      y = raised(y, power);
    }
  }

  /// The distance of numerators by their denominator, the last column, to the teacher's rows; `squares`: of
  /// squares, not of magnitudes. d_joint: its derivative, no data: not wanted.
  kernel::Distance distance(const Matrix<Real>& joint, const ConstMatrix<Real>& teacher, bool squares,
                            Matrix<Real> d_joint) const {
    kernel::Distance sum;
    const std::int64_t channels = teacher.cols();
    for (std::int64_t i = 0; i < joint.rows(); ++i) {
      const Real inverse = 1 / joint(i, channels);
      Real along = 0, difference = 0, size = 0;
      for (std::int64_t c = 0; c < channels; ++c) {
        const Real y = joint(i, c) * inverse, target = teacher(i, c), e = y - target;
        const Real sign = static_cast<Real>((e > 0) - (e < 0));
        difference += squares ? e * e : std::abs(e);
        size += squares ? target * target : std::abs(target);
        const Real d = (squares ? 2 * e : sign) * inverse;
        along += d * y;
        if (d_joint.data() != nullptr) d_joint(i, c) = d;
      }
      if (d_joint.data() != nullptr) d_joint(i, channels) = -along;
      sum.difference += static_cast<double>(difference);
      sum.size += static_cast<double>(size);
    }
    return sum;
  }

 private:
  template <class Block>
  static auto raised(const Block& y, int power) {
    return y.unaryExpr([power](Real base) {
      Real product = base;
      for (int i = 1; i < power; ++i) product *= base;
      return product;
    });
  }
};

}  // namespace rehyat::train::detail
