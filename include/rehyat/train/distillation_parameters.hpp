#pragma once
// What is distilled, how, and what came of it.

#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "rehyat/feature_map.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/train/feature_map.hpp"

namespace rehyat::train {

/// What hybrid attention is to reproduce: exact softmax attention over
enum class Teacher : std::uint8_t {
  causal,  ///< the frames up to the end of the query's chunk: all that the student can see
  full,    ///< the clip
};

/// The sum over queries and channels of the distance to the teacher, by the sum of the teacher's own size.
enum class DistillationLoss : std::uint8_t {
  l1,  ///< of magnitudes (ReHyAt, section 3.3)
  l2,  ///< of squares
};

/// Where training begins. In either case phi_q begins as phi_k.
enum class Initialization : std::uint8_t {
  silent,  ///< features of random weights, so small that the linear branch hardly counts
  /// Place cells: features that were trained to tell at which of the tokens_per_frame places of a frame a
  /// token is, one feature a place. For heads that look up the same place in other frames. Fewer features
  /// than places: neighbours share one, and such a head cannot tell them apart.
  places,
};

/// Captured inputs of one attention layer, as they enter attention: q [1, N, H, D], k [1, N, Hkv, D],
/// v [1, N, Hkv, Dv], of any element type and outer strides (a memory-mapped file will do). All finite.
struct DistillationClip {
  InputView q = {}, k = {}, v = {};
  std::int64_t tokens_per_frame = 1;
};

/// Stage 1 of ReHyAt: phi_q and phi_k of each head, such that causal hybrid attention (Stabilizer::row_max)
/// reproduces a softmax teacher on captured clips of one layer.
struct Distillation {
  std::span<const DistillationClip> clips = {};  ///< of the same H, Hkv, D, Dv
  std::int64_t chunk_frames = 3, overlap_frames = 1;
  Teacher teacher = Teacher::causal;
  std::optional<float> scale = std::nullopt;  ///< 1 / sqrt(D) unless given

  /// The shape of both sides' maps: polynomial, WeightLayout::rows, output_activation softplus, relu or elu1
  /// (what is not positive lets denominators cross zero). Heads and pointers are not read.
  FeatureMap map = {};
  PhiGradient<float> phi_q = {}, phi_k = {};  ///< where the weights and biases of all H and Hkv heads go

  Initialization initialization = Initialization::silent;
  std::int64_t place_steps = 300;  ///< of the training of place cells, before `steps`

  DistillationLoss loss = DistillationLoss::l1;  ///< of each clip by itself; their mean counts chunks
  std::int64_t steps = 400;
  float learning_rate = 0.006f;    ///< Adam's at its height; from there a cosine to 0
  std::int64_t warmup_steps = 20;  ///< a line up to it
  std::int64_t batch_clips = 0;    ///< clips of a step, drawn at random; 0 for all
  std::int64_t batch_chunks = 0;   ///< chunks of a step, drawn at random; 0 for all of its clips
  bool shift_chunks =
      true;  ///< in half of the steps, a clip begins at a random one of its first chunk_frames frames
  std::int64_t validation_frames = 4;  ///< the last of each clip: never trained on, they choose the weights
  std::int64_t evaluate_every = 10;    ///< steps between two looks at them
  std::int64_t patience = 0;           ///< looks without a new best before a head is done; 0 for all steps
  std::uint64_t seed = 0;
};

/// sum |y - teacher| and sum |teacher|, over queries that have linear keys.
struct DistillationError {
  double difference = 0, size = 0;
  double relative_l1() const { return difference / size; }
};

/// Errors of one way to attend, measured with the library's kernels on whole clips.
struct FrameErrors {
  DistillationError train;       ///< queries of the frames that were trained on
  DistillationError validation;  ///< and of the validation frames
};

/// What came of a query head.
struct DistilledHead {
  FrameErrors window;          ///< without a linear branch
  FrameErrors elu1;            ///< with phi(x) = elu(x) + 1
  FrameErrors distilled;       ///< with the weights as written
  bool began = false;          ///< false: ended before anything was computed; no errors, and it fell back
  std::int64_t steps = 0;      ///< that were taken
  std::int64_t best_step = 0;  ///< whose weights were written
  /// Nothing was learnt, or nothing that made the validation frames better: phi_q's last layer has weights 0
  /// and biases that make its features 0, or next to it, and the head is window-only.
  bool fell_back = false;
};

/// How far a kv head's training is.
struct DistillationProgress {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  std::int64_t kv_head = 0;
  std::int64_t step = 0;             ///< taken so far
  double loss = unknown;             ///< of the last step; NaN before the first
  double validation = unknown;       ///< relative L1 on the validation frames; NaN before the first look
  double best_validation = unknown;  ///< so far; NaN only before the first look
  std::int64_t place_step = 0;       ///< of the training of place cells, taken so far
};

}  // namespace rehyat::train
