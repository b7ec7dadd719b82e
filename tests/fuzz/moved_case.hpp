#pragma once
// Cases near another, to see how much the reference hangs on the last bits of its inputs.

#include <deque>
#include <vector>

#include "reference/case.hpp"
#include "support/random.hpp"

namespace rehyat::fuzz {

inline constexpr double least_movement = 0x1p-21;  ///< of a number; at most twice that

/// A case whose every number is off by a little, with weights of its own.
class Moved {
 public:
  Moved(const reference::Case& c, support::Random& random) : random_(random), case_(c) {
    reference::Inputs& in = case_.inputs;
    for (auto* a :
         {&in.q, &in.k, &in.v, &in.given_q, &in.given_k, &in.given_q_denominator, &in.given_k_denominator}) {
      for (double& x : a->values) x = move(x);
    }
    move_weights(case_.model.phi_q, in.q.dim);
    move_weights(case_.model.phi_k, in.q.dim);
  }
  const reference::Case& get() const { return case_; }

 private:
  double move(double x) {
    const double by = random_.uniform(least_movement, 2 * least_movement);
    return x * (random_.coin() ? 1 + by : 1 - by);
  }
  const float* moved(const float* values, reference::Index count) {
    if (values == nullptr) return nullptr;
    std::vector<float>& copy = weights_.emplace_back(values, values + count);
    for (float& x : copy) x = static_cast<float>(move(static_cast<double>(x)));
    return copy.data();
  }
  void move_weights(FeatureMap& map, reference::Index in_dim) {
    if (map.kind != FeatureMap::Kind::polynomial) return;
    for (int i = 0; i < map.num_layers; ++i) {
      DenseLayer& layer = map.layers[i];
      layer.weight = moved(layer.weight, map.heads * layer.out_dim * in_dim);
      layer.bias = moved(layer.bias, map.heads * layer.out_dim);
      in_dim = layer.out_dim;
    }
  }

  support::Random& random_;
  reference::Case case_;
  std::deque<std::vector<float>> weights_;
};

}  // namespace rehyat::fuzz
