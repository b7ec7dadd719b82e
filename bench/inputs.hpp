#pragma once
// Seeded random clips and weights of a shape.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "rehyat/rehyat.hpp"
#include "shapes.hpp"

namespace rehyat::bench {

enum class Layout { head_major, token_major };

constexpr const char* layout_name(Layout layout) {
  return layout == Layout::head_major ? "head_major" : "token_major";
}

inline std::vector<float> normals(std::int64_t count, std::uint32_t seed, double deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> distribution(0, static_cast<float>(deviation));
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) x = distribution(engine);
  return values;
}

/// The published phi: two layers, gelu between, softplus after, biases, powers 1 and 2. Weights keep the size
/// of what they multiply; the last biases are near -4, so that the linear branch of a long clip weighs about
/// as much as softmax. Packed, as an engine would when it loads a model.
class PolynomialMap {
 public:
  PolynomialMap(std::int64_t heads, std::int64_t head_dim, std::int64_t hidden_dim, std::int64_t feature_dim,
                std::uint32_t seed)
      : weights_{normals(heads * hidden_dim * head_dim, seed, 1 / std::sqrt(static_cast<double>(head_dim))),
                 normals(heads * feature_dim * hidden_dim, seed + 1,
                         1 / std::sqrt(static_cast<double>(hidden_dim)))},
        biases_{normals(heads * hidden_dim, seed + 2, 0.1), normals(heads * feature_dim, seed + 3, 0.1)} {
    for (float& bias : biases_[1]) bias -= 4;
    map_.kind = FeatureMap::Kind::polynomial;
    map_.num_layers = 2;
    map_.degree = 2;
    map_.activation = Activation::gelu;
    map_.output_activation = Activation::softplus;
    map_.heads = heads;
    map_.layers[0] = {weights_[0].data(), biases_[0].data(), hidden_dim};
    map_.layers[1] = {weights_[1].data(), biases_[1].data(), feature_dim};
    packed_.resize(*packed_weights_size(map_, head_dim));
    map_ = *pack_weights(map_, head_dim, {packed_.data(), packed_.size()});
  }
  PolynomialMap(const PolynomialMap&) = delete;
  PolynomialMap& operator=(const PolynomialMap&) = delete;

  const FeatureMap& map() const { return map_; }

 private:
  std::vector<float> weights_[2], biases_[2];
  std::vector<std::byte> packed_;
  FeatureMap map_;
};

/// q, k, v, an output and the weights of phi. Both layouts view the same bytes.
class Inputs {
 public:
  explicit Inputs(const Shape& shape)
      : shape_(&shape),
        q_(normals(shape.tokens() * shape.heads * shape.head_dim, 1)),
        k_(normals(shape.tokens() * shape.kv_heads * shape.head_dim, 2)),
        v_(normals(shape.tokens() * shape.kv_heads * shape.head_dim, 3)),
        out_(q_.size()),
        phi_q_(shape.heads, shape.head_dim, shape.hidden_dim, shape.feature_dim, 10),
        phi_k_(shape.kv_heads, shape.head_dim, shape.hidden_dim, shape.feature_dim, 20) {}

  const Shape& shape() const { return *shape_; }
  TensorView<const float> q(Layout layout) const { return view(q_.data(), layout, shape_->heads); }
  TensorView<const float> k(Layout layout) const { return view(k_.data(), layout, shape_->kv_heads); }
  TensorView<const float> v(Layout layout) const { return view(v_.data(), layout, shape_->kv_heads); }
  TensorView<float> out(Layout layout) { return view(out_.data(), layout, shape_->heads); }
  const FeatureMap& phi_q() const { return phi_q_.map(); }
  const FeatureMap& phi_k() const { return phi_k_.map(); }

 private:
  template <class T>
  TensorView<T> view(T* data, Layout layout, std::int64_t heads) const {
    const auto make = layout == Layout::head_major ? &TensorView<T>::head_major : &TensorView<T>::token_major;
    return make(data, 1, shape_->tokens(), heads, shape_->head_dim);
  }

  const Shape* shape_;
  std::vector<float> q_, k_, v_, out_;
  PolynomialMap phi_q_, phi_k_;
};

/// The values of Inputs as another element type, a head after the other.
template <Element E>
class NarrowInputs {
 public:
  explicit NarrowInputs(Inputs& in)
      : q_(copy(in.q(Layout::head_major))),
        k_(copy(in.k(Layout::head_major))),
        v_(copy(in.v(Layout::head_major))),
        out_(q_.size()) {}

  /// Points the tensors of `parameters`, which view the Inputs, here.
  template <class P>
  void feed(P& parameters) {
    const auto view = [&](std::vector<E>& elements, std::int64_t heads, std::int64_t dim) {
      return TensorView<E>::head_major(elements.data(), 1, parameters.q.tokens, heads, dim);
    };
    const std::int64_t heads = parameters.q.heads, kv_heads = parameters.k.heads;
    parameters.out = view(out_, heads, parameters.v.dim);
    parameters.q = view(q_, heads, parameters.q.dim);
    parameters.k = view(k_, kv_heads, parameters.k.dim);
    parameters.v = view(v_, kv_heads, parameters.v.dim);
  }

 private:
  static std::vector<E> copy(const TensorView<const float>& packed) {
    return std::vector<E>(packed.data, packed.data + packed.heads * packed.tokens * packed.dim);
  }

  std::vector<E> q_, k_, v_, out_;
};

/// The inputs of a shape. Those of the last shape are kept, as rows are sorted by shape and large clips take
/// seconds.
inline Inputs& inputs_of(const Shape& shape) {
  static std::unique_ptr<Inputs> last;
  if (last == nullptr || &last->shape() != &shape) {
    last.reset();
    last = std::make_unique<Inputs>(shape);
  }
  return *last;
}

/// Parameters common to all operators over these inputs.
template <class P>
P parameters_for(Inputs& in, Layout layout) {
  P p;
  p.q = in.q(layout);
  p.k = in.k(layout);
  p.v = in.v(layout);
  p.out = in.out(layout);
  if constexpr (requires { p.phi_q; }) {
    p.phi_q = in.phi_q();
    p.phi_k = in.phi_k();
  }
  if constexpr (requires { p.chunking; }) p.chunking = in.shape().chunking();
  return p;
}

}  // namespace rehyat::bench
