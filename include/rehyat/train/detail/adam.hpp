#pragma once
// Adam, its learning rate over the steps, and the random numbers of training.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "rehyat/train/detail/matrix.hpp"

namespace rehyat::train::detail {

/// SplitMix64: the same numbers everywhere.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::int64_t stream) : state_(seed) {
    state_ = next() + static_cast<std::uint64_t>(stream);
  }
  std::uint64_t next() {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  /// In [0, count).
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(count));
  }
  /// In [-1, 1).
  float symmetric() { return static_cast<float>(static_cast<std::int32_t>(next() >> 32)) * 0x1p-31f; }

 private:
  std::uint64_t state_;
};

/// A line from 0 to `height` over the warm-up, then a cosine to 0.
inline float learning_rate(float height, std::int64_t step, std::int64_t warmup, std::int64_t steps) {
  if (step < warmup) return height * static_cast<float>(step + 1) / static_cast<float>(warmup);
  const double done =
      static_cast<double>(step - warmup) / static_cast<double>(std::max<std::int64_t>(steps - warmup, 1));
  return static_cast<float>(height * (1 + std::cos(std::numbers::pi * done)) / 2);
}

/// Kingma and Ba 2015, algorithm 1.
class Adam {
 public:
  Adam(std::int64_t count, Arena& arena)
      : mean_(take<float>(arena, count), count), square_(take<float>(arena, count), count) {}

  void start() {
    mean_.setZero(), square_.setZero();
    mean_weight_ = square_weight_ = 1;
  }

  void step(RowVector<float> weights, RowVector<float> gradient, float rate) {
    constexpr float mean_decay = 0.9f, square_decay = 0.99f, least = 1e-8f;
    mean_weight_ *= mean_decay, square_weight_ *= square_decay;
    mean_ = mean_decay * mean_ + (1 - mean_decay) * gradient;
    square_.array() = square_decay * square_.array() + (1 - square_decay) * gradient.array().square();
    const float root = std::sqrt(1 - square_weight_);
    weights.array() -= rate / (1 - mean_weight_) * mean_.array() / (square_.array().sqrt() / root + least);
  }

 private:
  RowVector<float> mean_, square_;
  float mean_weight_ = 1, square_weight_ = 1;  ///< of the zeros they started from
};

}  // namespace rehyat::train::detail
