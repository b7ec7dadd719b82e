#pragma once
// The weights of one kv head's maps while they are trained: phi_q of its query heads, phi_k, one array.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "rehyat/train/detail/activation.hpp"
#include "rehyat/train/detail/adam.hpp"
#include "rehyat/train/detail/weights.hpp"

namespace rehyat::train::detail {

constexpr bool every_layer(int) { return true; }

/// The shape of a side's map for `heads` heads.
inline FeatureMap shape_of(FeatureMap map, std::int64_t heads) {
  map.heads = heads;
  for (DenseLayer& layer : map.layers) layer.weight = layer.bias = nullptr;
  return map;
}

/// Both sides' arrays in one.
class HeadWeights {
 public:
  HeadWeights(const FeatureMap& map, std::int64_t group, std::int64_t head_dim, Arena& arena) {
    const FeatureMap q = shape_of(map, group), k = shape_of(map, 1);
    const std::int64_t of_q = cut<float>(q, head_dim, every_layer, nullptr, phi_q);
    size_ = of_q + cut<float>(k, head_dim, every_layer, nullptr, phi_k);
    memory_ = take<float>(arena, size_);
    if (memory_ == nullptr) return;
    cut(q, head_dim, every_layer, memory_, phi_q);
    cut(k, head_dim, every_layer, memory_ + of_q, phi_k);
  }

  RowVector<float> all() const { return {memory_, size_}; }
  std::int64_t size() const { return size_; }

  PhiGradient<float> phi_q, phi_k;

 private:
  float* memory_ = nullptr;
  std::int64_t size_ = 0;
};

/// The map of `heads` heads that views these arrays.
inline FeatureMap viewing(const FeatureMap& map, const PhiGradient<float>& arrays, std::int64_t heads) {
  FeatureMap viewed = shape_of(map, heads);
  for (int i = 0; i < viewed.num_layers; ++i) {
    viewed.layers[i].weight = arrays.weight[i], viewed.layers[i].bias = arrays.bias[i];
  }
  return viewed;
}

/// The last bias with which, weights aside, phi_q . phi_k of a pair is `product`: it grows with the bias.
inline float bias_for_product(const FeatureMap& map, std::int64_t head_dim, double product) {
  const double part = static_cast<double>(map.feature_dim(head_dim) / map.degree);
  const auto product_with = [&](double bias) {
    const double y = activate(map.output_activation, bias);
    double sum = 0;
    for (int power = 1; power <= map.degree; ++power) sum += part * std::pow(y, 2 * power);
    return sum;
  };
  double low = -30, high = 30;
  for (int i = 0; i < 60; ++i) (product_with((low + high) / 2) < product ? low : high) = (low + high) / 2;
  return static_cast<float>(high);
}

/// One head's weights: uniform in +-2 / sqrt(in_dim), which about keeps the size of what passes through; the
/// last bias is `last_bias`.
inline void initialise(const FeatureMap& map, std::int64_t head_dim, float last_bias,
                       const PhiGradient<float>& arrays, RandomStream& random) {
  std::int64_t in_dim = head_dim;
  for (int i = 0; i < map.num_layers; ++i) {
    const std::int64_t outputs = map.layers[i].out_dim;
    const bool is_last = i + 1 == map.num_layers;
    const float size =
                    is_last && map.output_activation == Activation::relu ? std::min(last_bias, 2.0f) : 2.0f,
                bound = size / std::sqrt(static_cast<float>(in_dim));
    for (std::int64_t j = 0; j < outputs * in_dim; ++j) arrays.weight[i][j] = bound * random.symmetric();
    for (std::int64_t j = 0; j < outputs; ++j) {
      arrays.bias[i][j] = is_last ? last_bias : bound * random.symmetric();
    }
    in_dim = outputs;
  }
}

/// Makes the features of one head 0, or for softplus and elu1 as good as.
inline void silence(const FeatureMap& map, std::int64_t head_dim, std::int64_t head,
                    const PhiGradient<float>& arrays) {
  const int last = map.num_layers - 1;
  const std::int64_t outputs = map.layers[last].out_dim,
                     inputs = last == 0 ? head_dim : map.layers[last - 1].out_dim;
  RowVector<float>(arrays.weight[last] + head * outputs * inputs, outputs * inputs).setZero();
  RowVector<float>(arrays.bias[last] + head * outputs, outputs).setConstant(-100);
}

/// Copies `heads` heads to those from `first` on of arrays of more.
inline void copy_heads(const FeatureMap& map, std::int64_t head_dim, std::int64_t heads,
                       const PhiGradient<float>& from, const PhiGradient<float>& to, std::int64_t first) {
  std::int64_t in_dim = head_dim;
  for (int i = 0; i < map.num_layers; ++i) {
    const std::int64_t outputs = map.layers[i].out_dim;
    std::copy_n(from.weight[i], heads * outputs * in_dim, to.weight[i] + first * outputs * in_dim);
    std::copy_n(from.bias[i], heads * outputs, to.bias[i] + first * outputs);
    in_dim = outputs;
  }
}

}  // namespace rehyat::train::detail
