#pragma once
// The training of one kv head and the query heads that read it, from the clips to the weights and the report.

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "rehyat/train/detail/batch.hpp"
#include "rehyat/train/detail/head_weights.hpp"
#include "rehyat/train/detail/kernel_algebra.hpp"
#include "rehyat/train/detail/prepared_clip.hpp"
#include "rehyat/train/detail/start.hpp"
#include "rehyat/train/detail/student.hpp"
#include "rehyat/train/kernels.hpp"

namespace rehyat::train::detail {

/// Memory for any kv head of a checked problem.
class HeadDistiller {
 public:
  HeadDistiller(const Distillation& p, const Kernels& kernels, Arena& arena)
      : p_(&p),
        group_(p.clips[0].q.heads / p.clips[0].k.heads),
        head_dim_(p.clips[0].q.dim),
        weights_(p.map, group_, head_dim_, arena),
        best_(p.map, group_, head_dim_, arena),
        gradient_(p.map, group_, head_dim_, arena),
        gradient_of_clip_(p.map, group_, head_dim_, arena),
        adam_(weights_.size(), arena),
        phi_q_(Phi<float>::of(viewing(p.map, weights_.phi_q, group_))),
        phi_k_(Phi<float>::of(viewing(p.map, weights_.phi_k, 1))),
        student_(phi_q_, phi_k_, student_size(p), arena, KernelAlgebra(training_kernels(kernels))) {
    std::int64_t tokens = 0, chunk_tokens = 0;
    std::size_t bytes = 0;
    for (const DistillationClip& clip : p.clips) {
      clips_.emplace_back(p, clip, arena);
      tokens = std::max(tokens, clip.q.tokens);
      chunk_tokens = std::max(chunk_tokens, std::min(p.chunk_frames * clip.tokens_per_frame, clip.q.tokens));
      bytes = std::max(
          {bytes, kernel_bytes(PreparedClip::workspace_size(p, clip, kernels)),
           kernel_bytes(rehyat::workspace_size(hybrid(slice_group(clip, 0), elu1, elu1), 1, kernels)),
           kernel_bytes(
               rehyat::workspace_size(hybrid(slice_group(clip, 0), viewing(p.map, measured(), group_),
                                             viewing(p.map, measured(), 1)),
                                      1, kernels))});
    }
    if (p.initialization == Initialization::places) {
      places_.emplace(p, phi_q_, phi_k_, arena, KernelAlgebra(training_kernels(kernels)));
    }
    out_ = take<float>(arena, tokens, group_, p.clips[0].v.dim);
    kernel_.window_max = take<float>(arena, chunk_tokens);
    kernel_.teacher_max = take<float>(arena, chunk_tokens);
    kernel_.teacher_sum = take<float>(arena, chunk_tokens);
    kernel_.workspace = {arena.floats(ceil_div(static_cast<std::int64_t>(bytes), sizeof(float))), bytes};
    kernel_.kernels = &kernels;
  }
  HeadDistiller(const HeadDistiller&) = delete;
  HeadDistiller& operator=(const HeadDistiller&) = delete;

  /// Trains kv head `g` and writes weights and `heads`, the results of its group. `observe(progress)` says
  /// whether to begin and to go on.
  template <class Observe>
  Status run(std::int64_t g, DistilledHead* heads, Observe& observe) {
    if (observe(DistillationProgress{.kv_head = g})) {
      REHYAT_RETURN_IF_ERROR(learn(g, heads, observe));
    } else {
      weights_.all().setZero();
      for (std::int64_t h = 0; h < group_; ++h) fall_back(h, heads[h] = {});
    }
    copy_heads(p_->map, head_dim_, group_, weights_.phi_q, p_->phi_q, g * group_);
    copy_heads(p_->map, head_dim_, 1, weights_.phi_k, p_->phi_k, g);
    return {};
  }

 private:
  static constexpr FeatureMap elu1 = FeatureMap::elu1();

  template <class Observe>
  Status learn(std::int64_t g, DistilledHead* heads, Observe& observe) {
    groups_.clear();
    for (std::size_t c = 0; c < clips_.size(); ++c) {
      groups_.push_back(slice_group(p_->clips[c], g));
      if (clips_[c].load(groups_[c])) continue;
      return Status::error(StatusCode::invalid_argument,
                           "clips[%zu] of kv head %" PRId64 " has a NaN or infinity, expected finite values",
                           c, g);
    }
    LinearMass mass;
    for (std::size_t c = 0; c < clips_.size(); ++c) {
      const Result<LinearMass> of_clip = clips_[c].attend(*p_, groups_[c], kernel_);
      if (!of_clip.ok()) return of_clip.status();
      mass.sum += of_clip->sum, mass.pairs += of_clip->pairs;
    }
    RandomStream random(p_->seed, g);
    adam_.start();
    bool goes_on = true;
    if (places_) {
      goes_on = learn_places(g, random, observe);
    } else {
      start_silent(*p_, mass, weights_, random);
    }
    const DistilledHead trained = train(g, random, goes_on, observe);
    for (std::int64_t h = 0; h < group_; ++h) heads[h] = trained;
    return judge(heads);
  }

  static StudentSize student_size(const Distillation& p) {
    StudentSize size{p.clips[0].q.dim, p.clips[0].v.dim, 0, 0};
    for (const DistillationClip& clip : p.clips) {
      size.linear_keys = std::max(size.linear_keys, whole_cut(p, clip).linear_keys());
      size.chunks = std::max(size.chunks, whole_cut(p, clip).chunks());
    }
    return size;
  }

  /// Weights for a question about sizes: none of them is read.
  static PhiGradient<float> measured() {
    static float none = 0;
    PhiGradient<float> arrays;
    for (int i = 0; i < max_feature_layers; ++i) arrays.weight[i] = arrays.bias[i] = &none;
    return arrays;
  }
  static std::size_t kernel_bytes(const Result<std::size_t>& size) { return size.ok() ? *size : 0; }

  HybridAttention hybrid(const DistillationClip& group, const FeatureMap& phi_q,
                         const FeatureMap& phi_k) const {
    HybridAttention p{.q = group.q, .k = group.k, .v = group.v};
    p.out = TensorView<float>::token_major(out_, 1, group.q.tokens, group_, group.v.dim);
    p.chunking = chunking_of(*p_, group);
    p.phi_q = phi_q, p.phi_k = phi_k, p.scale = p_->scale;
    return p;
  }

  /// False: `observe` says that the head's training ends.
  template <class Observe>
  bool learn_places(std::int64_t g, RandomStream& random, Observe& observe) {
    places_->draw(weights_, random);
    for (std::int64_t step = 0; step < p_->place_steps; ++step) {
      const auto c = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(clips_.size())));
      gradient_.all().setZero();
      places_->step(p_->clips[c], clips_[c].packed, gradient_, random);
      adam_.step(weights_.all(), gradient_.all(), places_->rate(step));
      place_step_ = step + 1;
      if (place_step_ % p_->evaluate_every == 0 &&
          !observe(DistillationProgress{.kv_head = g, .place_step = place_step_})) {
        return false;
      }
    }
    adam_.start();  // another loss, other moments
    return true;
  }

  template <class Observe>
  DistilledHead train(std::int64_t g, RandomStream& random, bool goes_on, Observe& observe) {
    DistilledHead result;
    result.began = true;
    double best = std::numeric_limits<double>::infinity(), loss = DistillationProgress::unknown;
    best_.all() = weights_.all();
    std::int64_t looks_without = 0;
    for (std::int64_t step = 0;; ++step) {
      if (step % p_->evaluate_every == 0 || step == p_->steps) {
        const double validation = validate();
        ++looks_without;
        if (validation < best) {
          best = validation, result.best_step = step, looks_without = 0;
          best_.all() = weights_.all();
        }
        goes_on = observe(DistillationProgress{g, step, loss, validation, best, place_step_}) && goes_on;
        if (!goes_on || step == p_->steps || (p_->patience > 0 && looks_without >= p_->patience)) break;
      }
      loss = sweep_batch(random);
      adam_.step(weights_.all(), gradient_.all(),
                 learning_rate(p_->learning_rate, step, p_->warmup_steps, p_->steps));
      result.steps = step + 1;
    }
    weights_.all() = best_.all();
    return result;
  }

  double validate() {
    DistillationError error;
    for (std::size_t c = 0; c < clips_.size(); ++c) {
      const Cut cut = validation_cut(*p_, p_->clips[c]);
      add(error, student_.sweep(clips_[c].packed, cut, clips_[c].whole_targets(), cut.scored_chunks(),
                                DistillationLoss::l1));
    }
    return error.relative_l1();
  }

  /// The loss of a step, its gradient in gradient_: of each clip the distance by its own teacher's size, so
  /// that clips with large values do not outweigh the others, and of these the mean over the step's chunks.
  double sweep_batch(RandomStream& random) {
    const std::vector<ClipChunks> batch = draw_batch(*p_, random);
    double loss = 0;
    gradient_.all().setZero();
    for (std::size_t c = 0; c < clips_.size(); ++c) {
      const auto& [shift, chunks] = batch[c];
      if (chunks.empty()) continue;
      gradient_of_clip_.all().setZero();
      const DistillationError error = student_.sweep(clips_[c].packed, training_cut(*p_, p_->clips[c], shift),
                                                     clips_[c].training_targets(shift), chunks, p_->loss,
                                                     gradient_of_clip_.phi_q, gradient_of_clip_.phi_k);
      if (error.size == 0) continue;  // a teacher of zeros: nothing to be relative to
      const double share = static_cast<double>(chunks.size()) / static_cast<double>(count_chunks(batch));
      loss += share * error.relative_l1();
      gradient_.all() += static_cast<float>(share / error.size) * gradient_of_clip_.all();
    }
    return loss;
  }

  static void add(DistillationError& sum, const DistillationError& part) {
    sum.difference += part.difference, sum.size += part.size;
  }

  /// Fills the reports, and silences the heads that the validation frames are better without.
  Status judge(DistilledHead* heads) {
    const FeatureMap q = viewing(p_->map, weights_.phi_q, group_), k = viewing(p_->map, weights_.phi_k, 1);
    for (std::size_t c = 0; c < clips_.size(); ++c) {
      add_window_errors(c, heads);
      REHYAT_RETURN_IF_ERROR(add_errors(c, elu1, elu1, heads, &DistilledHead::elu1));
      REHYAT_RETURN_IF_ERROR(add_errors(c, q, k, heads, &DistilledHead::distilled));
    }
    for (std::int64_t h = 0; h < group_; ++h) {
      // a NaN is not better either
      if (heads[h].distilled.validation.difference < heads[h].window.validation.difference) continue;
      fall_back(h, heads[h]);
    }
    return {};
  }

  void fall_back(std::int64_t h, DistilledHead& head) {
    silence(p_->map, head_dim_, h, weights_.phi_q);
    head.fell_back = true;
    head.distilled = head.window;
  }

  /// Adds the distance of row `i` of the scored queries of clip `c`.
  template <class Output>
  void add_error(std::size_t c, const Range& scored, std::int64_t h, FrameErrors& errors,
                 Output output) const {
    const DistillationClip& clip = p_->clips[c];
    const std::int64_t first_validation = training_frames(*p_, clip) * clip.tokens_per_frame;
    const Targets<float>& targets = clips_[c].whole_targets()[h];
    for (std::int64_t i = scored.begin; i < scored.end; ++i) {
      DistillationError& error = i < first_validation ? errors.train : errors.validation;
      const float* const teacher = targets.teacher + (i - scored.begin) * clip.v.dim;
      for (std::int64_t channel = 0; channel < clip.v.dim; ++channel) {
        const double expected = static_cast<double>(teacher[channel]);
        error.difference += std::abs(output(i, channel) - expected);
        error.size += std::abs(expected);
      }
    }
  }

  void add_window_errors(std::size_t c, DistilledHead* heads) const {
    const Range scored = whole_cut(*p_, p_->clips[c]).scored();
    const std::int64_t width = p_->clips[c].v.dim + 1;
    for (std::int64_t h = 0; h < group_; ++h) {
      add_error(c, scored, h, heads[h].window, [&](std::int64_t i, std::int64_t channel) {
        const float* const row = clips_[c].whole_targets()[h].softmax + (i - scored.begin) * width;
        return static_cast<double>(row[channel]) / static_cast<double>(row[width - 1]);
      });
    }
  }

  Status add_errors(std::size_t c, const FeatureMap& phi_q, const FeatureMap& phi_k, DistilledHead* heads,
                    FrameErrors DistilledHead::*errors) {
    const HybridAttention p = hybrid(groups_[c], phi_q, phi_k);
    SerialExecutor serial;
    REHYAT_RETURN_IF_ERROR(hybrid_attention(p, kernel_.workspace, serial, *kernel_.kernels));
    const Range scored = whole_cut(*p_, p_->clips[c]).scored();
    const std::int64_t channels = p_->clips[c].v.dim;
    for (std::int64_t h = 0; h < group_; ++h) {
      add_error(c, scored, h, heads[h].*errors, [&](std::int64_t i, std::int64_t channel) {
        return static_cast<double>(out_[(i * group_ + h) * channels + channel]);
      });
    }
    return {};
  }

  const Distillation* p_;
  std::int64_t group_, head_dim_;
  HeadWeights weights_, best_, gradient_, gradient_of_clip_;
  Adam adam_;
  Phi<float> phi_q_, phi_k_;  ///< views of weights_
  Student<float, KernelAlgebra> student_;
  std::optional<PlaceStart> places_;
  std::int64_t place_step_ = 0;
  std::vector<PreparedClip> clips_;
  std::vector<DistillationClip> groups_;
  float* out_ = nullptr;
  KernelScratch kernel_ = {};
};

}  // namespace rehyat::train::detail
