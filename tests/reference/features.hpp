#pragma once

#include <Eigen/Core>

#include "activation.hpp"
#include "array.hpp"
#include "rehyat/feature_map.hpp"

namespace rehyat::reference {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

/// One head of an array as a [tokens, dim] matrix over the same memory.
inline auto head_matrix(const Array<double>& array, Index head) {
  const double* first = array.empty() ? nullptr : array.row(0, head);
  return Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>(first, array.tokens, array.dim,
                                                           Eigen::OuterStride<>(array.heads * array.dim));
}

/// x [tokens, in] -> W x + b of one head of a layer.
inline Matrix dense(const Matrix& x, const DenseLayer& layer, Index head, bool) {
  using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Index in = x.cols();
  const Eigen::Map<const FloatMatrix> weight(layer.weight + head * layer.out_dim * in, layer.out_dim, in);
  Matrix y = x * weight.cast<double>().transpose();
  if (layer.bias != nullptr) {
    y.rowwise() +=
        Eigen::Map<const Eigen::RowVectorXf>(layer.bias + head * layer.out_dim, layer.out_dim).cast<double>();
  }
  return y;
}

/// The polynomial feature map of one head: MLP, then part i of `degree` equal parts to the power i.
/// multiply(x, layer, head, whether it is the first) is `dense` or an approximation of it.
template <class Multiply>
Matrix polynomial(const Matrix& x, const FeatureMap& map, Index head, Multiply multiply) {
  Matrix y = x;
  for (int i = 0; i < map.num_layers; ++i) {
    const Activation activation = i + 1 < map.num_layers ? map.activation : map.output_activation;
    y = multiply(y, map.layers[i], head, i == 0)
            .unaryExpr([=](double e) { return activate(activation, e); })
            .eval();
  }
  const Index part = y.cols() / map.degree;
  for (int i = 1; i <= map.degree; ++i) {
    auto columns = y.middleCols((i - 1) * part, part);
    columns = columns.unaryExpr([=](double e) { return power(e, i); }).eval();
  }
  return y;
}

/// phi(x) of every token and head, [tokens, heads, F], of a polynomial map.
template <class Multiply>
Array<double> polynomial_features(const Array<double>& x, const FeatureMap& map, Multiply multiply) {
  Array<double> result(x.tokens, x.heads, map.feature_dim(x.dim));
  for (Index h = 0; h < x.heads && !result.empty(); ++h) {
    const Matrix y = polynomial(head_matrix(x, h), map, h, multiply);
    for (Index t = 0; t < x.tokens; ++t) Eigen::Map<Vector>(result.row(t, h), result.dim) = y.row(t);
  }
  return result;
}

/// phi(x) of every token and head, [tokens, heads, F]; `given` where the caller brings the features. A map
/// that is not set gives no features.
inline Array<double> features(const Array<double>& x, const FeatureMap& map, const Array<double>& given) {
  if (map.kind == FeatureMap::Kind::given) return given;
  if (map.kind == FeatureMap::Kind::polynomial) return polynomial_features(x, map, dense);
  Array<double> result = x;
  for (double& e : result.values) e = activate(map.output_activation, e);
  return result;
}

}  // namespace rehyat::reference
