#pragma once
// The features of one side, queries or keys, for a block of tokens: phi's, or those that the caller gives.

#include "rehyat/train/detail/matrix.hpp"
#include "rehyat/train/parameters.hpp"

namespace rehyat::train::detail {

/// One side's phi, given features, and where their gradients go.
template <class Real>
struct FeatureSide {
  const Phi<Real>* phi = nullptr;
  TensorView<const Real> given = {}, given_denominator = {};
  PhiGradient<Real> d_phi = {};
  TensorView<Real> d_given = {}, d_given_denominator = {};

  bool is_given() const { return phi->map.kind == FeatureMap::Kind::given; }
  bool has_own_denominator() const { return is_given() && given_denominator.data != nullptr; }
  /// Whether any gradient of it is wanted, beside the one of what phi is applied to.
  bool wants_gradient() const {
    return d_phi.wanted() || d_given.data != nullptr || d_given_denominator.data != nullptr;
  }
};

/// A block's features and their gradients. Where numerator and denominator share features, so do they memory:
/// gradients are added to it.
template <class Real>
class FeatureBlock {
 public:
  FeatureBlock() = default;
  FeatureBlock(const FeatureSide<Real>& side, std::int64_t head_dim, Arena& arena)
      : side_(side),
        dim_(side.phi->map.feature_dim(head_dim)),
        phi_(*side.phi, head_dim, block_tokens, arena) {
    const bool apart = side.has_own_denominator();
    features_ = take<Real>(arena, block_tokens, dim_);
    gradient_ = take<Real>(arena, block_tokens, dim_);
    denominators_ = apart ? take<Real>(arena, block_tokens, dim_) : features_;
    denominator_gradient_ = apart ? take<Real>(arena, block_tokens, dim_) : gradient_;
  }

  /// The side with gradients of the calling task's own.
  void use(const PhiGradient<Real>& d_phi) { side_.d_phi = d_phi; }

  void forward(const Tokens& at, const Matrix<Real>& x, Keep keep) {
    count_ = at.count;
    if (!side_.is_given()) return phi_.forward(at.head, read_only(x), numerator(), keep);
    load(side_.given, at, features_);
    if (side_.has_own_denominator()) load(side_.given_denominator, at, denominators_);
  }

  Matrix<Real> numerator() const { return {features_, count_, dim_}; }
  Matrix<Real> denominator() const { return {denominators_, count_, dim_}; }
  Matrix<Real> d_numerator() const { return {gradient_, count_, dim_}; }
  Matrix<Real> d_denominator() const { return {denominator_gradient_, count_, dim_}; }

  void clear_gradient() {
    d_numerator().setZero();
    if (side_.has_own_denominator()) d_denominator().setZero();
  }

  /// Takes the gradients on, to phi's weights and d_x or to those of the given features.
  void backward(const Tokens& at, const Matrix<Real>& x, const Matrix<Real>& d_x) {
    if (!side_.is_given()) {
      d_numerator().array() *= phi_.slopes(at.count).array();
      return phi_.backward(at.head, read_only(x), d_numerator(), d_x, side_.d_phi);
    }
    store(d_numerator(), side_.d_given, at);
    if (side_.has_own_denominator()) store(d_denominator(), side_.d_given_denominator, at);
  }

  const FeatureSide<Real>& side() const { return side_; }

 private:
  FeatureSide<Real> side_ = {};
  std::int64_t dim_ = 0, count_ = 0;
  PhiBlock<Real> phi_;
  Real *features_ = nullptr, *denominators_ = nullptr, *gradient_ = nullptr, *denominator_gradient_ = nullptr;
};

/// A [F, Dv] and z [F]: sums over keys, or the gradients with respect to them.
template <class Real>
struct Sums {
  Real* memory = nullptr;
  std::int64_t feature_dim = 0, value_dim = 0;

  static std::int64_t size(std::int64_t feature_dim, std::int64_t value_dim) {
    return feature_dim * (value_dim + 1);
  }
  Matrix<Real> A() const { return {memory, feature_dim, value_dim}; }
  RowVector<Real> z() const { return {memory + feature_dim * value_dim, feature_dim}; }
  RowVector<Real> all() const { return {memory, size(feature_dim, value_dim)}; }

  /// A += features^T rows and z += weights of the denominators' features; `weights` null: all 1.
  void add(const FeatureBlock<Real>& block, const Matrix<Real>& rows, const Real* weights = nullptr) const {
    add_product(A(), block.numerator().transpose(), rows);
    for (std::int64_t i = 0; i < rows.rows(); ++i) {
      z() += (weights == nullptr ? Real(1) : weights[i]) * block.denominator().row(i);
    }
  }
};

}  // namespace rehyat::train::detail
