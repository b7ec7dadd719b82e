#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "random.hpp"
#include "rehyat/feature_map.hpp"

namespace rehyat::support {

/// What a random polynomial feature map looks like.
struct FeatureMapShape {
  int num_layers = 2;
  std::int64_t hidden_dim = 16;
  std::int64_t feature_dim = 16;  ///< a multiple of degree
  int degree = 2;
  Activation activation = Activation::gelu;
  Activation output_activation = Activation::softplus;
  bool bias = true;
  double last_bias = 0;  ///< added to the last layer's bias; with relu, -1000 makes every feature 0
};

/// A polynomial feature map that owns its weights: normal, scaled so that unit inputs give outputs of size 1.
class RandomFeatureMap {
 public:
  RandomFeatureMap(Random& random, std::int64_t heads, std::int64_t head_dim, const FeatureMapShape& shape) {
    map_.kind = FeatureMap::Kind::polynomial;
    map_.num_layers = shape.num_layers;
    map_.degree = shape.degree;
    map_.activation = shape.activation;
    map_.output_activation = shape.output_activation;
    map_.heads = heads;
    std::int64_t in_dim = head_dim;
    for (int i = 0; i < shape.num_layers; ++i) {
      const bool last = i + 1 == shape.num_layers;
      DenseLayer& layer = map_.layers[i];
      layer.out_dim = last ? shape.feature_dim : shape.hidden_dim;
      weights_[i] =
          random.normals(heads * layer.out_dim * in_dim, 1 / std::sqrt(static_cast<double>(in_dim)));
      layer.weight = weights_[i].data();
      if (shape.bias) {
        biases_[i] = random.normals(heads * layer.out_dim, 0.1);
        for (float& b : biases_[i]) b += last ? static_cast<float>(shape.last_bias) : 0.0f;
        layer.bias = biases_[i].data();
      }
      in_dim = layer.out_dim;
    }
  }
  RandomFeatureMap(RandomFeatureMap&&) = default;
  RandomFeatureMap& operator=(RandomFeatureMap&&) = default;

  /// Views the weights: valid as long as this object, wherever it is moved.
  const FeatureMap& map() const { return map_; }

 private:
  std::vector<float> weights_[max_feature_layers];
  std::vector<float> biases_[max_feature_layers];
  FeatureMap map_;
};

}  // namespace rehyat::support
