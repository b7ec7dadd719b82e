#pragma once

/// @file rehyat/packed_weights.hpp
/// The weights of a polynomial feature map in the order in which the kernels read them. Pack once, when a
/// model is loaded, and pass the packed map to every call: results are the same to the bit, and each head's
/// weights are one stream instead of eight.

#include <cstring>

#include "rehyat/detail/check.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat {
namespace detail {

inline void pack_layer(float* to, const DenseLayer& layer, std::int64_t heads, std::int64_t in_dim) {
  const std::int64_t panels = ceil_div(layer.out_dim, weight_panel);
  for (std::int64_t h = 0; h < heads; ++h) {
    const float* from = layer.weight + h * layer.out_dim * in_dim;
    for (std::int64_t p = 0; p < panels; ++p, to += in_dim * weight_panel) {
      for (std::int64_t r = 0; r < weight_panel; ++r) {
        const std::int64_t unit = p * weight_panel + r;
        for (std::int64_t i = 0; i < in_dim; ++i) {
          to[i * weight_panel + r] = unit < layer.out_dim ? from[unit * in_dim + i] : 0.0f;
        }
      }
    }
  }
}

/// Copies the weights and biases of a checked map to the arena, or measures them where it has no memory.
inline FeatureMap pack_layers(const FeatureMap& map, std::int64_t head_dim, Arena& arena) {
  FeatureMap packed = map;
  packed.layout = WeightLayout::panels;
  std::int64_t in_dim = head_dim;
  // the second bound is checked before; GCC 12 must see it too
  for (int i = 0; i < map.num_layers && i < max_feature_layers; ++i) {
    const DenseLayer& layer = map.layers[i];
    float* weight = arena.floats(map.heads, packed.stored_rows(layer.out_dim), in_dim);
    float* bias = layer.bias == nullptr ? nullptr : arena.floats(map.heads, layer.out_dim);
    if (weight != nullptr) pack_layer(weight, layer, map.heads, in_dim);
    if (bias != nullptr) {
      std::memcpy(bias, layer.bias, static_cast<std::size_t>(map.heads * layer.out_dim) * sizeof(float));
    }
    packed.layers[i] = {.weight = weight, .bias = bias, .out_dim = layer.out_dim};
    in_dim = layer.out_dim;
  }
  return packed;
}

inline Status check_packable(const FeatureMap& map, std::int64_t head_dim) {
  if (map.kind != FeatureMap::Kind::polynomial) {
    return Status::error(StatusCode::invalid_argument,
                         "map is not polynomial, expected a map that has weights to pack");
  }
  REHYAT_RETURN_IF_ERROR(check_dim("head_dim", head_dim));
  REHYAT_RETURN_IF_ERROR(check_at_least("map.heads", map.heads, 1));
  REHYAT_RETURN_IF_ERROR(check_feature_map("map", map, map.heads, head_dim));
  if (map.layout != WeightLayout::rows) {
    return refuse("map.layout (0: rows)", static_cast<std::int64_t>(map.layout), "0");
  }
  return {};
}

}  // namespace detail

/// Bytes that pack_weights() needs for `map`, whose first layer reads vectors of `head_dim`.
inline Result<std::size_t> packed_weights_size(const FeatureMap& map, std::int64_t head_dim) {
  REHYAT_RETURN_IF_ERROR(detail::check_packable(map, head_dim));
  detail::Arena measure;
  detail::pack_layers(map, head_dim, measure);
  if (measure.overflows())
    return detail::refuse("map.heads", map.heads, "weights whose size does not overflow");
  return measure.size();
}

/// Copies the weights and biases of `map` to `memory` (of any alignment) in packed form and returns the map
/// that views the copy; the original is not needed by it. `memory` belongs to the caller and must outlive the
/// result. Refused: a map that is not polynomial or already packed, and memory of less than
/// packed_weights_size() bytes; then nothing is written.
inline Result<FeatureMap> pack_weights(const FeatureMap& map, std::int64_t head_dim, Workspace memory) {
  const Result<std::size_t> needed = packed_weights_size(map, head_dim);
  if (!needed.ok()) return needed.status();
  REHYAT_RETURN_IF_ERROR(detail::check_memory("memory", memory, *needed));
  detail::Arena arena(memory);
  return detail::pack_layers(map, head_dim, arena);
}

}  // namespace rehyat
