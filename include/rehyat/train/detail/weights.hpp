#pragma once
// The weights of one side, or the gradients with respect to them, in one array.

#include <cstdint>

#include "rehyat/train/feature_map.hpp"

namespace rehyat::train::detail {

/// Which layers have a bias.
template <class Real>
auto biases(const Phi<Real>& phi) {
  return [&phi](int layer) { return phi.bias[layer] != nullptr; };
}

/// Cuts `memory` into the arrays of a map's layers, weight before bias. No memory: only their size.
template <class Real, class HasBias>
std::int64_t cut(const FeatureMap& map, std::int64_t head_dim, HasBias has_bias, Real* memory,
                 PhiGradient<Real>& arrays) {
  std::int64_t used = 0, in_dim = head_dim;
  const auto next = [&](std::int64_t count) {
    used += count;
    return memory == nullptr ? nullptr : memory + used - count;
  };
  for (int i = 0; i < map.num_layers && i < max_feature_layers; ++i) {
    const std::int64_t outputs = map.heads * map.layers[i].out_dim;
    arrays.weight[i] = next(outputs * in_dim);
    arrays.bias[i] = has_bias(i) ? next(outputs) : nullptr;
    in_dim = map.layers[i].out_dim;
  }
  return used;
}

}  // namespace rehyat::train::detail
