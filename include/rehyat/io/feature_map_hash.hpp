#pragma once
// Whether two feature maps are the same network.

#include <cstdint>
#include <cstring>
#include <span>

#include "rehyat/feature_map.hpp"
#include "rehyat/io/crc64.hpp"
#include "rehyat/schedule.hpp"

namespace rehyat::detail {

// These numbers are in the hash, and so in files: a member may be added, none may change its value.
static_assert(static_cast<int>(FeatureMap::Kind::elementwise) == 1 &&
              static_cast<int>(FeatureMap::Kind::polynomial) == 2 &&
              static_cast<int>(FeatureMap::Kind::given) == 3);
static_assert(static_cast<int>(Activation::identity) == 0 && static_cast<int>(Activation::relu) == 1 &&
              static_cast<int>(Activation::gelu) == 2 && static_cast<int>(Activation::silu) == 3 &&
              static_cast<int>(Activation::softplus) == 4 && static_cast<int>(Activation::elu1) == 5);

class FeatureMapHash {
 public:
  /// The hash of a checked map that reads vectors of `head_dim`. See feature_map_hash().
  FeatureMapHash(const FeatureMap& map, std::int64_t head_dim) {
    add_number(map.kind);
    if (map.kind == FeatureMap::Kind::elementwise) add_number(map.output_activation);
    if (map.kind == FeatureMap::Kind::given) add_number(map.given_dim);
    if (map.kind == FeatureMap::Kind::polynomial) add_network(map, head_dim);
  }
  std::uint64_t value() const { return crc_.value(); }

 private:
  template <class T>
  void add_number(T number) {
    const std::int64_t wide = static_cast<std::int64_t>(number);
    crc_.add(std::as_bytes(std::span(&wide, 1)));
  }
  void add_floats(const float* values, std::int64_t count) {
    crc_.add(std::as_bytes(std::span(values, static_cast<std::size_t>(count))));
  }

  void add_network(const FeatureMap& map, std::int64_t head_dim) {
    add_number(map.num_layers);
    add_number(map.degree);
    // between the layers: a single layer has no such place
    add_number(map.num_layers > 1 ? map.activation : Activation::identity);
    add_number(map.output_activation);
    add_number(map.heads);
    add_number(head_dim);
    std::int64_t in_dim = head_dim;
    for (int i = 0; i < map.num_layers && i < max_feature_layers; ++i) {
      const DenseLayer& layer = map.layers[i];
      add_number(layer.out_dim);
      add_number(layer.bias != nullptr);
      if (map.layout == WeightLayout::rows) {
        add_floats(layer.weight, map.heads * layer.out_dim * in_dim);
      } else {
        add_panels(layer, map.heads, in_dim);
      }
      if (layer.bias != nullptr) add_floats(layer.bias, map.heads * layer.out_dim);
      in_dim = layer.out_dim;
    }
  }

  /// Packed weights in the order of unpacked ones.
  void add_panels(const DenseLayer& layer, std::int64_t heads, std::int64_t in_dim) {
    const std::int64_t panel_size = in_dim * weight_panel, panels = ceil_div(layer.out_dim, weight_panel);
    float piece[64];
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t unit = 0; unit < layer.out_dim; ++unit) {
        const float* const column =
            layer.weight + (h * panels + unit / weight_panel) * panel_size + unit % weight_panel;
        for (std::int64_t first = 0; first < in_dim; first += 64) {
          const std::int64_t count = in_dim - first < 64 ? in_dim - first : 64;
          for (std::int64_t i = 0; i < count; ++i) piece[i] = column[(first + i) * weight_panel];
          add_floats(piece, count);
        }
      }
    }
  }

  Crc64 crc_;
};

/// A number that tells networks apart: the CRC-64/XZ of a sequence of little-endian numbers, int64 but for
/// the weights and biases, which are float32 and count by their bits (0 and -0 differ). Weights count the
/// same whether they are packed or not.
///
/// Always the kind (1 elementwise, 2 polynomial, 3 given). Elementwise: the activation. Given: its features.
/// Polynomial: layers, degree, activation between the layers (0 if there is one layer), activation after the
/// last, heads, head_dim; then of each layer out_dim, whether it has biases (1) or none (0), the weights
/// [heads, out_dim, in_dim], and the biases [heads, out_dim] that it has. Activations: 0 identity, 1 relu,
/// 2 gelu, 3 silu, 4 softplus, 5 elu1.
inline std::uint64_t feature_map_hash(const FeatureMap& map, std::int64_t head_dim) {
  return FeatureMapHash(map, head_dim).value();
}

}  // namespace rehyat::detail
