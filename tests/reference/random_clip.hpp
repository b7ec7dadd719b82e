#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "case.hpp"
#include "support/random.hpp"
#include "support/random_feature_map.hpp"

namespace rehyat::reference {

/// Values that are floats, held as doubles.
inline Array<double> normal_array(support::Random& random, Index tokens, Index heads, Index dim,
                                  double deviation = 1) {
  Array<float> array(tokens, heads, dim);
  random.fill_normal(array.values, deviation);
  return array.cast<double>();
}

inline Array<double> magnitudes(Array<double> array) {
  for (double& x : array.values) x = std::abs(x);
  return array;
}

inline Inputs normal_inputs(support::Random& random, Index query_tokens, Index key_tokens, Index heads,
                            Index kv_heads, Index dim, Index value_dim) {
  return {.q = normal_array(random, query_tokens, heads, dim),
          .k = normal_array(random, key_tokens, kv_heads, dim),
          .v = normal_array(random, key_tokens, kv_heads, value_dim)};
}

/// A random geometry with random features, all schedules to be run on it.
struct Clip {
  Index frames;
  Chunking chunking;
  Inputs inputs;
  Model model;
  std::vector<support::RandomFeatureMap> weights;

  explicit Clip(support::Random& random)
      : frames(random.integer(1, 9)),
        chunking{.tokens_per_frame = random.integer(1, 5),
                 .chunk_frames = random.integer(1, 5),
                 .overlap_frames = random.pick<Index>({0, 1, 2, 7})} {
    const Index kv_heads = random.integer(1, 2), heads = kv_heads * random.integer(1, 3);
    const Index tokens = frames * chunking.tokens_per_frame, dim = random.integer(1, 12);
    inputs = normal_inputs(random, tokens, tokens, heads, kv_heads, dim, random.integer(1, 12));
    model.stabilizer = random.pick({Stabilizer::row_max, Stabilizer::none});
    if (random.coin()) model.scale = random.uniform(0.05, 1);
    if (model.stabilizer == Stabilizer::row_max) {
      model.denominator_epsilon = random.pick({0.0, 1e-3});
      model.denominator_floor = random.pick({0.0, 1.5});
    }
    choose_features(random, heads, kv_heads, dim);
  }

  Case with(std::vector<KeySets> chunks) const { return {inputs, model, std::move(chunks)}; }
  Case hybrid(Direction direction) const { return with(hybrid_key_sets(frames, chunking, direction)); }
  Case linear(Direction direction) const { return with(linear_key_sets(frames, chunking, direction)); }
  Case uniform(Index rate) const { return with(uniform_key_sets(inputs.q.tokens, rate)); }

 private:
  void choose_features(support::Random& random, Index heads, Index kv_heads, Index dim) {
    switch (random.integer(0, 4)) {
      case 0:
        model.phi_q = model.phi_k = FeatureMap::elu1();
        return;
      case 1:
        give_features(random, random.integer(1, 10), random.coin());
        return;
      default:
        break;
    }
    support::FeatureMapShape shape{.num_layers = static_cast<int>(random.integer(1, 3)),
                                   .hidden_dim = random.integer(1, 12),
                                   .degree = static_cast<int>(random.integer(1, 4))};
    shape.feature_dim = shape.degree * random.integer(1, 5);
    shape.activation = random.pick({Activation::relu, Activation::gelu, Activation::silu, Activation::elu1});
    shape.output_activation = random.pick({Activation::softplus, Activation::elu1});
    shape.bias = random.coin();
    weights.emplace_back(random, heads, dim, shape);
    weights.emplace_back(random, kv_heads, dim, shape);
    model.phi_q = weights[0].map();
    model.phi_k = weights[1].map();
  }

  void give_features(support::Random& random, Index feature_dim, bool separate_denominator) {
    model.phi_q = model.phi_k = FeatureMap::given(feature_dim);
    const auto draw = [&](const Array<double>& like) {
      return magnitudes(normal_array(random, like.tokens, like.heads, feature_dim));
    };
    inputs.given_q = draw(inputs.q);
    inputs.given_k = draw(inputs.k);
    if (!separate_denominator) return;
    inputs.given_q_denominator = draw(inputs.q);
    inputs.given_k_denominator = draw(inputs.k);
  }
};

}  // namespace rehyat::reference
