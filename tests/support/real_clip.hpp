#pragma once
// A TestClip's hybrid attention for training: its tensors and weights in Real, and its gradients.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <vector>

#include "executors.hpp"
#include "rehyat/train/hybrid_attention.hpp"
#include "run.hpp"
#include "test_clip.hpp"

namespace rehyat::support {

/// One thing that there is a gradient of, and that gradient.
template <class Real>
struct Differentiable {
  const char* name;
  std::vector<Real>* values;
  std::vector<Real>* gradient;
};

/// Owned copies of all that a clip's hybrid attention reads; parameters() views them.
template <class Real>
class RealClip {
 public:
  RealClip(const TestClip& clip, Direction direction) : clip_(clip), direction_(direction) {
    q_ = copy("q", clip.q);
    k_ = copy("k", clip.k);
    v_ = copy("v", clip.v);
    given_q_ = copy("given.q", clip.given_q);
    given_k_ = copy("given.k", clip.given_k);
    given_q_denominator_ = copy("given.q_denominator", clip.given_q_denominator);
    given_k_denominator_ = copy("given.k_denominator", clip.given_k_denominator);
    const Geometry& g = clip.geometry;
    phi_q_ = copy_weights("phi_q", clip.phi_q, g.heads());
    phi_k_ = copy_weights("phi_k", clip.phi_k, g.kv_heads);
  }
  RealClip(const RealClip&) = delete;
  RealClip& operator=(const RealClip&) = delete;

  train::HybridAttention<Real> parameters() const {
    const Geometry& g = clip_.geometry;
    train::HybridAttention<Real> p;
    p.q = view(q_, g.heads(), g.dim), p.k = view(k_, g.kv_heads, g.dim),
    p.v = view(v_, g.kv_heads, g.value_dim);
    p.chunking = clip_.chunking(), p.direction = direction_;
    const std::int64_t f = clip_.phi_q.given_dim;
    p.given = {.q = view(given_q_, g.heads(), f),
               .k = view(given_k_, g.kv_heads, f),
               .q_denominator = view(given_q_denominator_, g.heads(), f),
               .k_denominator = view(given_k_denominator_, g.kv_heads, f)};
    p.phi_q = phi(clip_.phi_q, phi_q_), p.phi_k = phi(clip_.phi_k, phi_k_);
    p.stabilizer = clip_.stabilizer, p.frames = clip_.frames;
    if (clip_.scale) p.scale = static_cast<Real>(*clip_.scale);
    p.denominator_epsilon = static_cast<Real>(clip_.denominator_epsilon);
    p.denominator_floor = static_cast<Real>(clip_.denominator_floor);
    return p;
  }

  train::HybridGradients<Real> gradients() {
    const Geometry& g = clip_.geometry;
    train::HybridGradients<Real> d;
    const auto gradient_view = [&](std::size_t index, std::int64_t heads, std::int64_t dim) {
      return output_view(gradients_[index], heads, dim);
    };
    const std::int64_t f = clip_.phi_q.given_dim;
    d.q = gradient_view(q_, g.heads(), g.dim), d.k = gradient_view(k_, g.kv_heads, g.dim);
    d.v = gradient_view(v_, g.kv_heads, g.value_dim);
    d.given = {.q = gradient_view(given_q_, g.heads(), f),
               .k = gradient_view(given_k_, g.kv_heads, f),
               .q_denominator = gradient_view(given_q_denominator_, g.heads(), f),
               .k_denominator = gradient_view(given_k_denominator_, g.kv_heads, f)};
    d.phi_q = phi_gradient(phi_q_), d.phi_k = phi_gradient(phi_k_);
    return d;
  }

  /// [B, N, H, Dv], without gaps.
  TensorView<Real> output_view(std::vector<Real>& values) const {
    return output_view(values, clip_.geometry.heads(), clip_.geometry.value_dim);
  }
  std::vector<Real> empty_output() const {
    const Geometry& g = clip_.geometry;
    return std::vector<Real>(static_cast<std::size_t>(g.batch * g.tokens() * g.heads() * g.value_dim),
                             static_cast<Real>(untouched));
  }

  template <class E>
  std::vector<Real> forward(E& executor) const {
    std::vector<Real> out = empty_output();
    const auto p = parameters();
    const Result<std::size_t> size = train::workspace_size(p, executor.slots());
    EXPECT_TRUE(size.ok()) << size.status().message();
    if (!size.ok()) return out;
    NanWorkspace workspace(*size);
    const Status status = train::hybrid_attention(p, output_view(out), workspace.get(), executor);
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }

  /// Fills the gradients of sum(d_out * out); NaN is in them before.
  template <class E>
  void backward(const std::vector<Real>& d_out, E& executor) {
    for (std::vector<Real>& d : gradients_) {
      std::fill(d.begin(), d.end(), std::numeric_limits<Real>::quiet_NaN());
    }
    const auto p = parameters();
    const auto d = gradients();
    const Result<std::size_t> size = train::workspace_size(p, d, executor.slots());
    ASSERT_TRUE(size.ok()) << size.status().message();
    NanWorkspace workspace(*size);
    std::vector<Real> copy = d_out;
    const Status status =
        train::hybrid_attention_gradients(p, output_view(copy), d, workspace.get(), executor);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  /// Everything that has a gradient.
  std::vector<Differentiable<Real>> all() {
    std::vector<Differentiable<Real>> result;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (!values_[i].empty()) result.push_back({names_[i], &values_[i], &gradients_[i]});
    }
    return result;
  }

 private:
  static constexpr std::size_t none = 0;

  std::size_t copy(const char* name, std::span<const float> from) {
    names_.push_back(name);
    values_.emplace_back(from.begin(), from.end());
    gradients_.emplace_back(from.size());
    return values_.size() - 1;
  }

  struct Weights {
    std::size_t weight[max_feature_layers] = {}, bias[max_feature_layers] = {};
  };
  Weights copy_weights(const char* name, const FeatureMap& map, std::int64_t heads) {
    Weights weights;
    std::int64_t in = clip_.geometry.dim;
    for (int i = 0; i < map.num_layers; ++i) {
      const DenseLayer& layer = map.layers[i];
      const auto outputs = static_cast<std::size_t>(heads * layer.out_dim);
      weights.weight[i] = copy(name, {layer.weight, outputs * static_cast<std::size_t>(in)});
      if (layer.bias != nullptr) weights.bias[i] = copy(name, {layer.bias, outputs});
      in = layer.out_dim;
    }
    return weights;
  }
  train::Phi<Real> phi(const FeatureMap& map, const Weights& weights) const {
    train::Phi<Real> result{.map = map};
    for (int i = 0; i < map.num_layers; ++i) {
      result.map.layers[i].weight = result.map.layers[i].bias = nullptr;
      result.weight[i] = values_[weights.weight[i]].data();
      if (weights.bias[i] != none) result.bias[i] = values_[weights.bias[i]].data();
    }
    return result;
  }
  train::PhiGradient<Real> phi_gradient(const Weights& weights) {
    train::PhiGradient<Real> d;
    for (int i = 0; i < max_feature_layers; ++i) {
      if (weights.weight[i] != none) d.weight[i] = gradients_[weights.weight[i]].data();
      if (weights.bias[i] != none) d.bias[i] = gradients_[weights.bias[i]].data();
    }
    return d;
  }

  TensorView<const Real> view(std::size_t index, std::int64_t heads, std::int64_t dim) const {
    const std::vector<Real>& values = values_[index];
    if (values.empty()) return {};
    return TensorView<const Real>::token_major(values.data(), clip_.geometry.batch, clip_.geometry.tokens(),
                                               heads, dim);
  }
  TensorView<Real> output_view(std::vector<Real>& values, std::int64_t heads, std::int64_t dim) const {
    if (values.empty()) return {};
    return TensorView<Real>::token_major(values.data(), clip_.geometry.batch, clip_.geometry.tokens(), heads,
                                         dim);
  }

  const TestClip& clip_;
  Direction direction_;
  std::vector<const char*> names_;
  std::deque<std::vector<Real>> values_, gradients_;  // q first: no bias has index 0
  std::size_t q_, k_, v_, given_q_, given_k_, given_q_denominator_, given_k_denominator_;
  Weights phi_q_, phi_k_;
};

}  // namespace rehyat::support
