#pragma once

/// @file rehyat/train/distillation.hpp
/// Distillation of phi (ReHyAt, section 3.3, stage 1; LoLCATs' attention transfer): from captured q, k, v
/// alone, per head, on a CPU. Needs Eigen 3.4 and, with run-time dispatch, rehyat_add_dispatch(... TRAINING):
/// its dense algebra runs in kernels of its own, of the instruction set that `kernels` have.
///
/// Numerator and denominator of the softmax branch and the teacher's output do not depend on phi: the
/// library's kernels compute them once. A step is dense algebra: features, prefix sums by chunk, the
/// distance, and for the gradient a sum over chunks last to first.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "rehyat/executor.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/status.hpp"
#include "rehyat/train/detail/check_distillation.hpp"
#include "rehyat/train/detail/head_distiller.hpp"
#include "rehyat/train/distillation_parameters.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::train {

/// Weights or biases of a side in all layers, in the order weight, bias, weight, ...: how many floats
/// `heads` heads of `map` need.
inline std::int64_t weight_count(const FeatureMap& map, std::int64_t heads, std::int64_t head_dim) {
  PhiGradient<float> measured;
  return detail::cut<float>(detail::shape_of(map, heads), head_dim, detail::every_layer, nullptr, measured);
}

/// That many floats as Distillation's phi_q or phi_k.
inline PhiGradient<float> weights_in(float* memory, const FeatureMap& map, std::int64_t heads,
                                     std::int64_t head_dim) {
  PhiGradient<float> arrays;
  detail::cut(detail::shape_of(map, heads), head_dim, detail::every_layer, memory, arrays);
  return arrays;
}

/// The map that they are weights of; it views them.
inline FeatureMap distilled_map(const FeatureMap& map, const PhiGradient<float>& weights,
                                std::int64_t heads) {
  return detail::viewing(map, weights, heads);
}

/// Bytes of workspace that distill() needs for `slots` executor slots, any alignment. A slot holds one kv
/// head, and what is large in it is, as float, with G = H / Hkv:
/// - of each clip its inputs, N (G D + D + Dv + 1), and 2 Dv + 1 for each of the G n queries that are scored,
///   in the clip as it is and once more for each shift of its training frames;
/// - for the longest clip what backward needs of phi_k, two a linear key and hidden unit and one a feature,
///   and the output that reports are made from, G N Dv.
/// Not the clips themselves, all heads of them: those are only viewed.
inline Result<std::size_t> workspace_size(const Distillation& parameters, int slots,
                                          const Kernels& kernels = default_kernels()) {
  REHYAT_RETURN_IF_ERROR(detail::check(parameters));
  REHYAT_RETURN_IF_ERROR(rehyat::detail::check_slots(slots));
  detail::Arena measure;
  detail::HeadDistiller(parameters, kernels, measure);
  std::size_t size = 0;
  if (measure.overflows() || __builtin_mul_overflow(measure.size(), static_cast<std::size_t>(slots), &size)) {
    return rehyat::detail::refuse("clips[0].q.tokens", parameters.clips[0].q.tokens,
                                  "a workspace whose size does not overflow");
  }
  return size;
}

/// Trains phi_q and phi_k and writes them to the parameters' phi_q and phi_k; `heads` (as many as query
/// heads) receives the reports. A head is never written worse than without its linear branch on the
/// validation frames. `observe` is called as bool(const DistillationProgress&), from any of the executor's
/// threads at once: before anything is computed for a kv head, at each look at the validation frames, and
/// every evaluate_every steps of Initialization::places, when there is no look yet. False ends that head's
/// training, and its best weights so far are taken, before the first look those it has: if it had not begun,
/// those of heads without a linear branch. Tasks: kv heads. The bits depend neither on the executor and its
/// slots nor on the workspace; they do on the instruction set. Some small arrays are allocated; the stack
/// must have room for 256 KiB. Errors: what is refused before anything is done has written nothing; inputs
/// that are not finite are found head by head.
template <Executor E, class Observe>
Status distill(const Distillation& parameters, std::span<DistilledHead> heads, Workspace workspace,
               E& executor, Observe&& observe, const Kernels& kernels = default_kernels()) {
  const int slots = executor.slots();
  const Result<std::size_t> needed = workspace_size(parameters, slots, kernels);
  if (!needed.ok()) return needed.status();
  REHYAT_RETURN_IF_ERROR(rehyat::detail::check_workspace(workspace, *needed, slots));
  const DistillationClip& clip = parameters.clips[0];
  REHYAT_RETURN_IF_ERROR(rehyat::detail::check_equal("heads.size()", static_cast<std::int64_t>(heads.size()),
                                                     "clips[0].q.heads", clip.q.heads));
  const std::int64_t group = clip.q.heads / clip.k.heads;
  const std::size_t slot_size = *needed / static_cast<std::size_t>(slots);
  std::vector<Status> statuses(static_cast<std::size_t>(clip.k.heads));
  const auto task = [&](std::int64_t g, int slot) {
    detail::Arena arena(
        {static_cast<char*>(workspace.data) + static_cast<std::size_t>(slot) * slot_size, slot_size});
    detail::HeadDistiller distiller(parameters, kernels, arena);
    statuses[static_cast<std::size_t>(g)] = distiller.run(g, heads.data() + g * group, observe);
  };
  ExecutorRef(executor).run(clip.k.heads, task);
  for (const Status& status : statuses) REHYAT_RETURN_IF_ERROR(status);
  return {};
}

}  // namespace rehyat::train
