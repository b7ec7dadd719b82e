#pragma once

/// @file rehyat/train/feature_map.hpp
/// The feature map phi (ReHyAt, eq. 9) of one head for a block of tokens, and its gradient: what training phi
/// needs, whatever the loss. In float or double; needs Eigen 3.4.

#include <concepts>
#include <cstdint>

#include "rehyat/detail/problem.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/train/detail/eigen_algebra.hpp"
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

/// Whether backward() follows.
enum class Keep : std::uint8_t { nothing, slopes };

/// phi of one head over blocks of at most `rows` tokens, in scratch memory of its own. forward() keeps what
/// backward() needs, of as many blocks as `kept_rows` holds: each is kept from a row `first` on. Kinds:
/// polynomial and elementwise. `Algebra` computes: Eigen, or the library's kernels.
template <std::floating_point Real, class Algebra = detail::EigenAlgebra<Real>>
class PhiBlock {
 public:
  using Matrix = detail::Matrix<Real>;
  using ConstMatrix = detail::ConstMatrix<Real>;

  PhiBlock() = default;
  /// `phi` must outlive it, as its weights must.
  PhiBlock(const Phi<Real>& phi, std::int64_t head_dim, std::int64_t rows, detail::Arena& arena)
      : PhiBlock(phi, head_dim, rows, rows, arena) {}
  PhiBlock(const Phi<Real>& phi, std::int64_t head_dim, std::int64_t rows, std::int64_t kept_rows,
           detail::Arena& arena, const Algebra& algebra = {})
      : phi_(&phi), head_dim_(head_dim), algebra_(algebra) {
    if (phi.map.kind == FeatureMap::Kind::elementwise) {
      slopes_[0] = detail::take<Real>(arena, kept_rows, head_dim);
    }
    if (phi.map.kind != FeatureMap::Kind::polynomial) return;
    for (int i = 0; i < phi.map.num_layers && i < max_feature_layers; ++i) {
      slopes_[i] = detail::take<Real>(arena, kept_rows, width(i));
      if (i == 0) continue;
      input_[i] = detail::take<Real>(arena, kept_rows, width(i - 1));
      d_input_[i] = detail::take<Real>(arena, rows, width(i - 1));
    }
  }

  /// features [n, F] = phi(x) of x [n, D].
  void forward(std::int64_t head, const ConstMatrix& x, Matrix features, Keep keep = Keep::slopes,
               std::int64_t first = 0) {
    const FeatureMap& map = phi_->map;
    if (keep == Keep::nothing) first = 0;
    const auto slopes = [&](int layer) {
      return keep == Keep::slopes ? slopes_[layer] + first * width(layer) : nullptr;
    };
    if (map.kind != FeatureMap::Kind::polynomial) {
      return algebra_.activate(map.output_activation, 1, x, features, slopes(0));
    }
    for (int i = 0; i < map.num_layers; ++i) {
      const bool last = i + 1 == map.num_layers;
      // where the slopes will be, if they are kept
      const Matrix before(slopes_[i] + first * width(i), x.rows(), width(i));
      const Real* const bias = phi_->bias[i] == nullptr ? nullptr : phi_->bias[i] + head * width(i);
      algebra_.multiply(before, {bias, 0}, input(i, x, first), weight(i, head).transpose());
      algebra_.activate(
          last ? map.output_activation : map.activation, last ? map.degree : 1, detail::read_only(before),
          last ? features : Matrix(input_[i + 1] + first * width(i), x.rows(), width(i)), slopes(i));
    }
  }

  /// The derivatives [n, F] of forward()'s features with respect to what their activation was given.
  ConstMatrix slopes(std::int64_t rows, std::int64_t first = 0) const {
    const int last = phi_->map.kind == FeatureMap::Kind::polynomial ? phi_->map.num_layers - 1 : 0;
    return {slopes_[last] + first * width(last), rows, width(last)};
  }

  /// From `d` [n, F], the gradient with respect to forward()'s features times slopes(): adds to d_x [n, D]
  /// (no data: not wanted) and, where wanted, to the head's part of `gradient`. `head`, `x` and `first` are
  /// those of forward().
  void backward(std::int64_t head, const ConstMatrix& x, Matrix d, Matrix d_x,
                const PhiGradient<Real>& gradient, std::int64_t first = 0) {
    if (phi_->map.kind != FeatureMap::Kind::polynomial) {
      d_x += d;
      return;
    }
    for (int i = phi_->map.num_layers - 1; i >= 0; --i) {
      if (gradient.wanted()) add_weight_gradient(i, head, input(i, x, first), d, gradient);
      if (i == 0 && d_x.data() != nullptr) algebra_.multiply(d_x, detail::start_at(d_x), d, weight(0, head));
      if (i == 0) return;
      const Matrix d_input(d_input_[i], x.rows(), width(i - 1));
      algebra_.multiply(d_input, {}, d, weight(i, head), slopes_[i - 1] + first * width(i - 1));
      new (&d) Matrix(d_input);
    }
  }

 private:
  /// Of an elementwise map: the head's dim.
  std::int64_t width(int layer) const {
    return phi_->map.kind == FeatureMap::Kind::polynomial ? phi_->map.layers[layer].out_dim : head_dim_;
  }
  std::int64_t input_width(int layer) const { return layer == 0 ? head_dim_ : width(layer - 1); }
  ConstMatrix weight(int layer, std::int64_t head) const {
    return {phi_->weight[layer] + head * width(layer) * input_width(layer), width(layer), input_width(layer)};
  }
  ConstMatrix input(int layer, const ConstMatrix& x, std::int64_t first) const {
    if (layer == 0) return x;
    return {input_[layer] + first * width(layer - 1), x.rows(), width(layer - 1)};
  }

  void add_weight_gradient(int layer, std::int64_t head, const ConstMatrix& layer_input, const Matrix& d,
                           const PhiGradient<Real>& gradient) const {
    const std::int64_t out = width(layer), in = input_width(layer);
    const Matrix sum(gradient.weight[layer] + head * out * in, out, in);
    algebra_.multiply(sum, detail::start_at(sum), d.transpose(), layer_input);
    if (gradient.bias[layer] == nullptr) return;
    algebra_.add_rows({gradient.bias[layer] + head * out, out}, d);
  }

  const Phi<Real>* phi_ = nullptr;
  std::int64_t head_dim_ = 0;
  Real* slopes_[max_feature_layers] = {};   ///< each layer's derivatives of its activation and powers
  Real* input_[max_feature_layers] = {};    ///< of each layer but the first
  Real* d_input_[max_feature_layers] = {};  ///< gradients with respect to what the activation before it got
  Algebra algebra_;
};

}  // namespace rehyat::train
