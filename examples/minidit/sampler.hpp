#pragma once

#include <cstdint>
#include <vector>

#include "attention.hpp"
#include "model.hpp"

namespace rehyat::minidit {

struct SamplerSettings {
  int steps = 24;  ///< of Euler's method, from noise to a clean chunk
  std::uint64_t seed = 1;
  Index context_frames = 21;  ///< positions that the model was trained on; 0: positions run on for ever
};

/// Makes a video chunk by chunk, each by rectified flow: peeked at while it is denoised, and committed once
/// it is clean. Memory does not grow with the video, unless a layer is causal and positions run on.
///
/// The rotary embedding turns keys by their position before phi sees them. What a state has absorbed cannot
/// be turned again, and phi is not defined by distances alone, so all frames that a state holds must have
/// positions on one scale, and phi has only learned those of its training clips. Two ways are offered:
/// - positions run on: valid, but phi is asked about angles it has never seen;
/// - before the positions leave `context_frames`, the state is emptied and the latest chunks, about half as
///   many as fit, are committed to it once more at positions from 0. Everything stays as in training; what
///   is older than those chunks is forgotten.
class Sampler {
 public:
  Sampler(const Model& model, const AttentionPlan& plan, const Grid& grid, const SamplerSettings& settings,
          ExecutorRef executor);

  /// The next `frames` frames, 1 to chunk_frames (fewer end the video), [frames * tokens, channels]. The
  /// first chunk begins with `first_frame` as it is.
  Matrix next(Index frames, const Matrix& first_frame);

  std::size_t state_bytes() const { return attention_.bytes(); }

 private:
  void commit(const Matrix& chunk);
  void make_room(Index frames);

  const Model& model_;
  Chunking chunking_;
  Grid grid_;
  SamplerSettings settings_;
  ExecutorRef executor_;
  StreamingAttention attention_;
  std::vector<Matrix> recent_;  ///< the latest chunks, those that are committed once more
  Index frames_made_ = 0;
  Index position_ = 0;  ///< of the next frame
};

}  // namespace rehyat::minidit
