#pragma once
// Preconditions of distillation, in the order and words of the library's operators.

#include <cinttypes>
#include <cmath>

#include "rehyat/detail/check.hpp"
#include "rehyat/train/detail/head_weights.hpp"
#include "rehyat/train/detail/prepared_clip.hpp"

namespace rehyat::train::detail {

inline Status check_clip(const Distillation& p, std::size_t index) {
  using namespace rehyat::detail;
  const DistillationClip& first = p.clips[0];
  const DistillationClip& clip = p.clips[index];
  const auto check = [&]() -> Status {
    REHYAT_RETURN_IF_ERROR(check_dim("q.dim", clip.q.dim));
    REHYAT_RETURN_IF_ERROR(check_dim("v.dim", clip.v.dim));
    REHYAT_RETURN_IF_ERROR(check_at_least("q.heads", clip.q.heads, 1));
    REHYAT_RETURN_IF_ERROR(check_at_least("k.heads", clip.k.heads, 1));
    REHYAT_RETURN_IF_ERROR(check_at_least("q.tokens", clip.q.tokens, 1));
    REHYAT_RETURN_IF_ERROR(check_divides("k.heads", clip.k.heads, "q.heads", clip.q.heads));
    REHYAT_RETURN_IF_ERROR(check_input("q", clip.q, {1, clip.q.tokens, first.q.heads, first.q.dim}));
    REHYAT_RETURN_IF_ERROR(check_input("k", clip.k, {1, clip.q.tokens, first.k.heads, first.q.dim}));
    REHYAT_RETURN_IF_ERROR(check_input("v", clip.v, {1, clip.q.tokens, first.k.heads, first.v.dim}));
    REHYAT_RETURN_IF_ERROR(check_at_least("tokens_per_frame", clip.tokens_per_frame, 1));
    return check_divides("tokens_per_frame", clip.tokens_per_frame, "q.tokens", clip.q.tokens);
  };
  if (const Status status = check(); !status.ok()) {
    return Status::error(StatusCode::invalid_argument, "clips[%zu]: %s", index, status.message());
  }
  const std::int64_t frames = clip.q.tokens / clip.tokens_per_frame;
  const auto is_empty = [](const Cut& cut) { return cut.frames.size() < 1 || cut.scored().empty(); };
  if (p.validation_frames < frames && !is_empty(training_cut(p, clip, shifts(p) - 1)) &&
      !is_empty(validation_cut(p, clip))) {
    return {};
  }
  return Status::error(StatusCode::invalid_argument,
                       "clips[%zu] has %" PRId64
                       " frames, expected enough that queries have linear keys both among the "
                       "last %" PRId64 " (validation_frames) and, shifted by %" PRId64 ", before",
                       index, frames, p.validation_frames, shifts(p) - 1);
}

inline Status check_map(const Distillation& p) {
  using rehyat::detail::refuse;
  if (p.map.kind != FeatureMap::Kind::polynomial) {
    return Status::error(StatusCode::invalid_argument,
                         "map.kind is not polynomial, expected what has weights");
  }
  float weight = 0;
  FeatureMap map = shape_of(p.map, 1);
  for (DenseLayer& layer : map.layers) layer.weight = &weight;
  REHYAT_RETURN_IF_ERROR(rehyat::detail::check_feature_map("map", map, 1, p.clips[0].q.dim));
  if (p.map.layout != WeightLayout::rows) {
    return refuse("map.layout (0: rows)", static_cast<std::int64_t>(p.map.layout), "0");
  }
  const Activation last = p.map.output_activation;
  if (last != Activation::softplus && last != Activation::relu && last != Activation::elu1) {
    return refuse("map.output_activation", static_cast<std::int64_t>(last),
                  "softplus, relu or elu1: denominators must not cross zero");
  }
  for (int i = 0; i < p.map.num_layers; ++i) {
    for (const PhiGradient<float>* side : {&p.phi_q, &p.phi_k}) {
      if (side->weight[i] == nullptr || side->bias[i] == nullptr) {
        return rehyat::detail::refuse_null(side == &p.phi_q ? "a weight or bias of phi_q"
                                                            : "a weight or bias of phi_k");
      }
    }
  }
  return {};
}

inline Status check(const Distillation& p) {
  using namespace rehyat::detail;
  REHYAT_RETURN_IF_ERROR(check_at_least("clips.size()", static_cast<std::int64_t>(p.clips.size()), 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("chunk_frames", p.chunk_frames, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("overlap_frames", p.overlap_frames, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("validation_frames", p.validation_frames, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("steps", p.steps, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("warmup_steps", p.warmup_steps, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("place_steps", p.place_steps, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("batch_clips", p.batch_clips, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("batch_chunks", p.batch_chunks, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("evaluate_every", p.evaluate_every, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("patience", p.patience, 0));
  if (!(p.learning_rate > 0) || !std::isfinite(p.learning_rate)) {
    return Status::error(StatusCode::invalid_argument, "learning_rate is %g, expected a finite number > 0",
                         static_cast<double>(p.learning_rate));
  }
  REHYAT_RETURN_IF_ERROR(check_normalisation(Stabilizer::row_max, p.scale, 0, 0));
  for (std::size_t i = 0; i < p.clips.size(); ++i) REHYAT_RETURN_IF_ERROR(check_clip(p, i));
  return check_map(p);
}

}  // namespace rehyat::train::detail
