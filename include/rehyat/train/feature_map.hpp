#pragma once

/// @file rehyat/train/feature_map.hpp
/// The feature map phi (ReHyAt, eq. 9) of one head for a block of tokens, and its gradient: what training phi
/// needs, whatever the loss. In float or double; needs Eigen 3.4.

#include <concepts>
#include <cstdint>

#include "rehyat/detail/problem.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/train/detail/activation_block.hpp"
#include "rehyat/train/detail/matrix.hpp"

namespace rehyat::train {

/// A FeatureMap whose weights are Real.
template <std::floating_point Real>
struct Phi {
  FeatureMap map =
      {};  ///< kind, widths, degree, activations and heads; WeightLayout::rows. No weight is read
  const Real* weight[max_feature_layers] = {};  ///< of each layer: [heads, out_dim, in_dim]
  const Real* bias[max_feature_layers] = {};    ///< [heads, out_dim], or null for none

  /// The same map; it views the same weights.
  static Phi of(const FeatureMap& map) requires std::same_as<Real, float> {
    Phi phi{.map = map};
    for (int i = 0; i < max_feature_layers; ++i) {
      phi.weight[i] = map.layers[i].weight, phi.bias[i] = map.layers[i].bias;
    }
    return phi;
  }
};

/// Where the gradient with respect to the weights of a Phi goes, in its shapes: all of them, or none.
template <std::floating_point Real>
struct PhiGradient {
  Real* weight[max_feature_layers] = {};
  Real* bias[max_feature_layers] = {};

  bool wanted() const { return weight[0] != nullptr; }
};

/// phi of one head over blocks of at most `rows` tokens, in scratch memory of its own. forward() keeps what
/// backward() needs, of as many blocks as `kept_rows` holds: each is kept from a row `first` on. Kinds:
/// polynomial and elementwise.
template <std::floating_point Real>
class PhiBlock {
 public:
  using Matrix = detail::Matrix<Real>;
  using ConstMatrix = detail::ConstMatrix<Real>;

  PhiBlock() = default;
  /// `phi` must outlive it, as its weights must.
  PhiBlock(const Phi<Real>& phi, std::int64_t head_dim, std::int64_t rows, detail::Arena& arena)
      : PhiBlock(phi, head_dim, rows, rows, arena) {}
  PhiBlock(const Phi<Real>& phi, std::int64_t head_dim, std::int64_t rows, std::int64_t kept_rows,
           detail::Arena& arena)
      : phi_(&phi), head_dim_(head_dim) {
    if (phi.map.kind != FeatureMap::Kind::polynomial) return;
    for (int i = 0; i < phi.map.num_layers && i < max_feature_layers; ++i) {
      before_[i] = detail::take<Real>(arena, kept_rows, width(i));
      after_[i] = detail::take<Real>(arena, kept_rows, width(i));
    }
    const std::int64_t widest = rehyat::detail::widest_layer(phi.map, head_dim);
    for (Real*& memory : gradient_) memory = detail::take<Real>(arena, rows, widest);
  }

  /// features [n, F] = phi(x) of x [n, D].
  void forward(std::int64_t head, const ConstMatrix& x, Matrix features, std::int64_t first = 0) {
    const FeatureMap& map = phi_->map;
    if (map.kind != FeatureMap::Kind::polynomial) {
      detail::activate(map.output_activation, x, features);
      return;
    }
    for (int i = 0; i < map.num_layers; ++i) {
      Matrix before = kept(before_, i, first, x.rows());
      if (phi_->bias[i] == nullptr) {
        before.setZero();
      } else {
        before.rowwise() = detail::ConstRowVector<Real>(phi_->bias[i] + head * width(i), width(i));
      }
      detail::add_product(before, input(i, x, first), weight(i, head).transpose());
      detail::activate(activation(i), detail::read_only(before), kept(after_, i, first, x.rows()));
    }
    const std::int64_t part = map.feature_dim(head_dim_) / map.degree;
    const Matrix base = kept(after_, map.num_layers - 1, first, x.rows());
    features = base;
    for (int power = 2; power <= map.degree; ++power) {
      for (int from = power; from <= map.degree; ++from) {
        features.middleCols((from - 1) * part, part).array() *=
            base.middleCols((from - 1) * part, part).array();
      }
    }
  }

  /// From d_features [n, F], the gradient with respect to forward()'s features: adds to d_x [n, D] (no data:
  /// not wanted) and, where wanted, to the head's part of `gradient`. `head`, `x` and `first` are those of
  /// forward().
  void backward(std::int64_t head, const ConstMatrix& x, const ConstMatrix& d_features, Matrix d_x,
                const PhiGradient<Real>& gradient, std::int64_t first = 0) {
    const FeatureMap& map = phi_->map;
    if (map.kind != FeatureMap::Kind::polynomial) {
      d_x += d_features.cwiseProduct(
          x.unaryExpr([&](Real e) { return detail::derivative(map.output_activation, e); }));
      return;
    }
    Matrix d_after = power_gradient(d_features, first);
    for (int i = map.num_layers - 1; i >= 0; --i) {
      // in place: from here on with respect to what the activation was given
      detail::multiply_by_derivative(activation(i), detail::read_only(kept(before_, i, first, x.rows())),
                                     d_after);
      if (gradient.wanted()) add_weight_gradient(i, head, input(i, x, first), d_after, gradient);
      if (i == 0 && d_x.data() == nullptr) return;
      if (i == 0) return detail::add_product(d_x, d_after, weight(0, head));
      Matrix d_input = block(gradient_[i % 2], x.rows(), width(i - 1));
      d_input.setZero();
      detail::add_product(d_input, d_after, weight(i, head));
      new (&d_after) Matrix(d_input);
    }
  }

 private:
  static Matrix block(Real* memory, std::int64_t rows, std::int64_t columns) {
    return {memory, rows, columns};
  }
  /// A layer's part of what is kept of a block.
  Matrix kept(Real* const (&layers)[max_feature_layers], int layer, std::int64_t first,
              std::int64_t rows) const {
    return {layers[layer] + first * width(layer), rows, width(layer)};
  }

  std::int64_t width(int layer) const { return phi_->map.layers[layer].out_dim; }
  std::int64_t input_width(int layer) const { return layer == 0 ? head_dim_ : width(layer - 1); }
  Activation activation(int layer) const {
    return layer + 1 < phi_->map.num_layers ? phi_->map.activation : phi_->map.output_activation;
  }
  ConstMatrix weight(int layer, std::int64_t head) const {
    return {phi_->weight[layer] + head * width(layer) * input_width(layer), width(layer), input_width(layer)};
  }
  ConstMatrix input(int layer, const ConstMatrix& x, std::int64_t first) const {
    return layer == 0 ? x : detail::read_only(kept(after_, layer - 1, first, x.rows()));
  }

  /// Part i of the features is y^i: i y^(i-1) of it goes on to y, the last layer's output.
  Matrix power_gradient(const ConstMatrix& d_features, std::int64_t first) {
    const int last = phi_->map.num_layers - 1, degree = phi_->map.degree;
    const std::int64_t part = d_features.cols() / degree;
    const Matrix y = kept(after_, last, first, d_features.rows());
    Matrix d_y = block(gradient_[(last + 1) % 2], d_features.rows(), d_features.cols());
    d_y = d_features;
    for (int power = 2; power <= degree; ++power) {
      auto columns = d_y.middleCols((power - 1) * part, part).array();
      columns *= static_cast<Real>(power);
      for (int i = 1; i < power; ++i) columns *= y.middleCols((power - 1) * part, part).array();
    }
    return d_y;
  }

  void add_weight_gradient(int layer, std::int64_t head, const ConstMatrix& layer_input,
                           const Matrix& d_output, const PhiGradient<Real>& gradient) const {
    const std::int64_t out = width(layer), in = input_width(layer);
    detail::add_product(block(gradient.weight[layer] + head * out * in, out, in), d_output.transpose(),
                        layer_input);
    if (gradient.bias[layer] == nullptr) return;
    detail::RowVector<Real>(gradient.bias[layer] + head * out, out) += d_output.colwise().sum();
  }

  const Phi<Real>* phi_ = nullptr;
  std::int64_t head_dim_ = 0;
  Real* before_[max_feature_layers] = {};  ///< each layer's output before its activation
  Real* after_[max_feature_layers] = {};   ///< and after it
  Real* gradient_[2] = {};
};

}  // namespace rehyat::train
