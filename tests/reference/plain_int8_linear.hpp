#pragma once
// The linear branch of Arithmetic::int8 by its definition, in double but for the roundings to bytes.

#include <cmath>

#include "features.hpp"

namespace rehyat::reference {

/// Tokens whose update of the sums is rounded together, and features whose read is.
inline constexpr Index int8_update_block = 192, int8_feature_span = 128;

/// The matrix with what is left of each row after rounding to 1/127 of its largest magnitude.
inline Matrix rows_as_int8(Matrix m) {
  for (Index r = 0; r < m.rows(); ++r) {
    const double scale = m.row(r).cwiseAbs().maxCoeff() / 127;
    if (scale > 0) m.row(r) = m.row(r).unaryExpr([&](double x) { return std::nearbyint(x / scale) * scale; });
  }
  return m;
}

/// The matrix with what is left of each row after rounding to one of `steps` steps from its least to its
/// largest.
inline Matrix rows_in_steps(Matrix m, double steps) {
  for (Index r = 0; r < m.rows(); ++r) {
    const double low = m.row(r).minCoeff(), step = (m.row(r).maxCoeff() - low) / steps;
    if (step > 0)
      m.row(r) = m.row(r).unaryExpr([&](double x) { return low + std::nearbyint((x - low) / step) * step; });
  }
  return m;
}

/// W x + b of one head of a layer, by bytes: two for an element of x in the first layer, else one.
inline Matrix int8_dense(const Matrix& x, const DenseLayer& layer, Index head, bool first) {
  using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Index in = x.cols();
  const Eigen::Map<const FloatMatrix> weight(layer.weight + head * layer.out_dim * in, layer.out_dim, in);
  Matrix y = rows_in_steps(x, first ? 255 * 256 : 255) * rows_as_int8(weight.cast<double>()).transpose();
  if (layer.bias != nullptr) {
    y.rowwise() +=
        Eigen::Map<const Eigen::RowVectorXf>(layer.bias + head * layer.out_dim, layer.out_dim).cast<double>();
  }
  return y;
}

/// Features by layers in bytes; those of other maps are what they are.
inline Array<double> int8_features(const Array<double>& x, const FeatureMap& map,
                                   const Array<double>& given) {
  if (map.kind != FeatureMap::Kind::polynomial) return features(x, map, given);
  return polynomial_features(x, map, int8_dense);
}

/// The numerators of queries with features `phi`, a query a row.
inline Matrix int8_read(const Matrix& phi, const Matrix& sums) {
  Matrix result = Matrix::Zero(phi.rows(), sums.cols());
  const Vector row = sums.cwiseAbs().rowwise().maxCoeff();
  for (Index f = 0; f < phi.cols(); f += int8_feature_span) {
    const Index count = std::min(int8_feature_span, phi.cols() - f);
    Matrix share = sums.middleRows(f, count);
    for (Index i = 0; i < count; ++i) {
      if (row(f + i) > 0) share.row(i) /= row(f + i);
    }
    const Matrix contributions = phi.middleCols(f, count) * row.segment(f, count).asDiagonal();
    result += rows_in_steps(contributions, 255) * rows_as_int8(share.transpose()).transpose();
  }
  return result;
}

/// phi^T v of some keys, a key a row.
inline Matrix int8_update(const Matrix& phi, const Matrix& v) {
  Matrix sums = Matrix::Zero(phi.cols(), v.cols());
  for (Index i = 0; i < phi.rows(); i += int8_update_block) {
    const Index count = std::min(int8_update_block, phi.rows() - i);
    sums += rows_as_int8(phi.middleRows(i, count).transpose()) *
            rows_in_steps(v.middleRows(i, count).transpose(), 255).transpose();
  }
  return sums;
}

}  // namespace rehyat::reference
