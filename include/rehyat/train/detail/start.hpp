#pragma once
// Where the training of a kv head begins.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include "rehyat/train/detail/head_weights.hpp"
#include "rehyat/train/detail/kernel_algebra.hpp"
#include "rehyat/train/detail/place_cells.hpp"
#include "rehyat/train/detail/prepared_clip.hpp"

namespace rehyat::train::detail {

/// Draws phi_k; phi_q begins as phi_k: q and k that are alike share features from the first step on.
inline void draw_weights(const Distillation& p, float last_bias, const HeadWeights& weights,
                         RandomStream& random) {
  const std::int64_t group = p.clips[0].q.heads / p.clips[0].k.heads, head_dim = p.clips[0].q.dim;
  initialise(p.map, head_dim, last_bias, weights.phi_k, random);
  for (std::int64_t h = 0; h < group; ++h) copy_heads(p.map, head_dim, 1, weights.phi_k, weights.phi_q, h);
}

/// The linear branch begins small, with a hundredth of the mass that its keys have in the teacher; more ends
/// worse on sharp heads.
inline void start_silent(const Distillation& p, const LinearMass& mass, const HeadWeights& weights,
                         RandomStream& random) {
  constexpr double share = 0.01;
  const double product = share * std::max(mass.sum / mass.pairs, 1e-9);
  draw_weights(p, bias_for_product(p.map, p.clips[0].q.dim, product), weights, random);
}

/// The training of place cells, before that by attention: few steps, of few tokens.
class PlaceStart {
 public:
  PlaceStart(const Distillation& p, const Phi<float>& phi_q, const Phi<float>& phi_k, Arena& arena,
             const KernelAlgebra& algebra)
      : p_(&p),
        group_(phi_q.map.heads),
        head_dim_(p.clips[0].q.dim),
        features_(p.map.feature_dim(head_dim_)),
        phi_q_(phi_q, head_dim_, arena, algebra),
        phi_k_(phi_k, head_dim_, arena, algebra),
        tokens_(take<float>(arena, PlaceTeacher<float>::rows, head_dim_)) {
    for (const DistillationClip& clip : p.clips) cells_ = std::max(cells_, places_of(clip).cells());
  }

  /// Cells begin by saying that a token is elsewhere, as often as it is. Features that have no cell begin
  /// with next to nothing.
  void draw(const HeadWeights& weights, RandomStream& random) const {
    constexpr float silent_bias = -7, silent_weight = 0.1f;
    draw_weights(*p_, -std::log(static_cast<float>(cells_)), weights, random);
    const int last = p_->map.num_layers - 1;
    const std::int64_t inputs = last == 0 ? head_dim_ : p_->map.layers[last - 1].out_dim,
                       silent = features_ - cells_;
    for (std::int64_t side = 0; side <= group_; ++side) {
      const PhiGradient<float>& phi = side == group_ ? weights.phi_k : weights.phi_q;
      const std::int64_t first = (side == group_ ? 0 : side * features_) + cells_;
      RowVector<float>(phi.weight[last] + first * inputs, silent * inputs) *= silent_weight;
      RowVector<float>(phi.bias[last] + first, silent).setConstant(silent_bias);
    }
  }

  /// Adam's learning rate.
  float rate(std::int64_t step) const {
    constexpr float height = 0.004f;
    constexpr std::int64_t warmup = 10;
    return learning_rate(height, step, warmup, p_->place_steps);
  }

  /// The mean loss of a token, over random ones of the training frames of `clip`, as many as two frames have;
  /// its derivative is added to `gradient`, which was zero.
  void step(const DistillationClip& clip, const HeadClip<float>& packed, const HeadWeights& gradient,
            RandomStream& random) {
    constexpr std::int64_t rows = PlaceTeacher<float>::rows;
    const Places places = places_of(clip);
    const std::int64_t trained = training_frames(*p_, clip) * clip.tokens_per_frame,
                       drawn = 2 * clip.tokens_per_frame;
    for (std::int64_t begin = 0; begin < drawn; begin += rows) {
      std::array<std::int64_t, rows> tokens = {}, right = {};
      const auto count = static_cast<std::size_t>(std::min(rows, drawn - begin));
      for (std::size_t i = 0; i < count; ++i) {
        tokens[i] = random.below(trained);
        right[i] = places.cell_of(tokens[i]);
      }
      const std::span<const std::int64_t> chosen(tokens.data(), count), cells(right.data(), count);
      for (std::int64_t h = 0; h < group_; ++h) {
        phi_q_.teach(h, gather(packed.q + h * packed.tokens * head_dim_, chosen), cells, cells_,
                     gradient.phi_q);
      }
      phi_k_.teach(0, gather(packed.k, chosen), cells, cells_, gradient.phi_k);
    }
    gradient.all() *= 1 / static_cast<float>(drawn);
  }

 private:
  Places places_of(const DistillationClip& clip) const { return {clip.tokens_per_frame, features_}; }

  ConstMatrix<float> gather(const float* rows, std::span<const std::int64_t> tokens) const {
    float* to = tokens_;
    for (const std::int64_t token : tokens) to = std::copy_n(rows + token * head_dim_, head_dim_, to);
    return {tokens_, static_cast<std::int64_t>(tokens.size()), head_dim_};
  }

  const Distillation* p_;
  std::int64_t group_, head_dim_, features_, cells_ = 0;
  PlaceTeacher<float, KernelAlgebra> phi_q_, phi_k_;
  float* tokens_;  ///< a block of them
};

}  // namespace rehyat::train::detail
