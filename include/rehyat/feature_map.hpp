#pragma once

#include <cstdint>

#include "rehyat/config.hpp"

namespace rehyat {

/// Element-wise functions inside a feature map. All keep NaN.
enum class Activation : std::uint8_t {
  identity,
  relu,      ///< max(x, 0)
  gelu,      ///< x * (1 + erf(x / sqrt 2)) / 2, the exact form
  silu,      ///< x / (1 + exp(-x))
  softplus,  ///< log(1 + exp(x))
  elu1,      ///< elu(x) + 1: x + 1 above 0, exp(x) below
};

/// An activation and its name in files and in the settings of models.
struct NamedActivation {
  const char* name;
  Activation value;
};
inline constexpr NamedActivation named_activations[] = {
    {"identity", Activation::identity}, {"relu", Activation::relu},         {"gelu", Activation::gelu},
    {"silu", Activation::silu},         {"softplus", Activation::softplus}, {"elu1", Activation::elu1},
};

/// The name of an activation, "unknown" if the value is none.
constexpr const char* activation_name(Activation activation) {
  for (const NamedActivation& known : named_activations) {
    if (known.value == activation) return known.name;
  }
  return "unknown";
}

inline constexpr int max_feature_layers = 3;
inline constexpr int max_feature_degree = 4;
/// Widest hidden layer and widest feature vector that are accepted.
inline constexpr std::int64_t max_feature_dim = 16384;

/// How the weights of the layers lie in memory.
enum class WeightLayout : std::uint8_t {
  rows,    ///< [heads, out_dim, in_dim]: the bytes of a PyTorch Conv1d(heads * in_dim, heads * out_dim,
           ///< kernel_size=1, groups=heads)
  panels,  ///< [heads, ceil(out_dim / 8), in_dim, 8], padded with zeros: what pack_weights() makes, read by
           ///< the kernels as one stream
};

/// Outputs of a panel of packed weights, on every instruction set.
inline constexpr std::int64_t weight_panel = 8;

/// One dense layer of a per-head MLP, as a view over the caller's weights.
struct DenseLayer {
  const float* weight = nullptr;  ///< as the map's `layout` says
  const float* bias = nullptr;    ///< [heads, out_dim], or null for none
  std::int64_t out_dim = 0;
};

/// The feature map phi: R^D -> R^F of one side (queries or keys) of linear attention. A value that views
/// weights; they must outlive every call that uses it.
struct FeatureMap {
  enum class Kind : std::uint8_t {
    unset,        ///< refused wherever features are needed
    elementwise,  ///< output_activation(x); F = D
    polynomial,   ///< MLP, output cut into `degree` equal parts, part i raised to the power i (ReHyAt, eq. 9)
    given,        ///< the caller passes the features themselves, `given_dim` wide
  };

  Kind kind = Kind::unset;
  int num_layers = 0;                                   ///< 1 to 3 for polynomial
  int degree = 1;                                       ///< 1 to 4
  Activation activation = Activation::gelu;             ///< between the layers
  Activation output_activation = Activation::identity;  ///< after the last layer, before the powers
  DenseLayer layers[max_feature_layers] = {};
  WeightLayout layout = WeightLayout::rows;  ///< of all layers
  std::int64_t heads = 0;      ///< heads the weights are for: query heads for phi_q, kv heads for phi_k
  std::int64_t given_dim = 0;  ///< F of `given`

  /// elu(x) + 1 (Katharopoulos et al. 2020, eq. 7).
  static constexpr FeatureMap elu1() { return elementwise(Activation::elu1); }
  /// max(x, 0) (SANA).
  static constexpr FeatureMap relu() { return elementwise(Activation::relu); }
  static constexpr FeatureMap identity() { return elementwise(Activation::identity); }
  static constexpr FeatureMap elementwise(Activation activation) {
    FeatureMap map;
    map.kind = Kind::elementwise;
    map.output_activation = activation;
    return map;
  }
  /// Features that the caller computes, `feature_dim` of them a token; see GivenFeatures.
  static constexpr FeatureMap given(std::int64_t feature_dim) {
    FeatureMap map;
    map.kind = Kind::given;
    map.given_dim = feature_dim;
    return map;
  }

  /// Rows of weights that a head's layer of `out_dim` outputs holds in memory.
  constexpr REHYAT_INLINE std::int64_t stored_rows(std::int64_t out_dim) const {
    if (layout == WeightLayout::rows) return out_dim;
    return (out_dim + weight_panel - 1) / weight_panel * weight_panel;
  }

  /// The same map for heads [first, first + count) alone, of queries or keys of `head_dim` elements; it views
  /// the same weights. Nothing is checked: operators must accept this map, and it must have those heads.
  constexpr FeatureMap of_heads(std::int64_t head_dim, std::int64_t first, std::int64_t count) const {
    FeatureMap map = *this;
    if (kind != Kind::polynomial) return map;
    map.heads = count;
    std::int64_t in_dim = head_dim;
    for (int i = 0; i < num_layers && i < max_feature_layers; ++i) {  // GCC 12 must see the second bound too
      DenseLayer& layer = map.layers[i];
      layer.weight += first * stored_rows(layer.out_dim) * in_dim;
      if (layer.bias != nullptr) layer.bias += first * layer.out_dim;
      in_dim = layer.out_dim;
    }
    return map;
  }

  /// F, the number of features of a token whose query or key has `head_dim` elements.
  constexpr std::int64_t feature_dim(std::int64_t head_dim) const {
    switch (kind) {
      case Kind::unset:
        return 0;
      case Kind::elementwise:
        return head_dim;
      case Kind::given:
        return given_dim;
      case Kind::polynomial:
        return num_layers >= 1 && num_layers <= max_feature_layers ? layers[num_layers - 1].out_dim : 0;
    }
    return 0;
  }
};

}  // namespace rehyat
