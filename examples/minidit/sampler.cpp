#include "sampler.hpp"

#include <algorithm>

#include "../cli/bad_input.hpp"
#include "noise.hpp"

namespace rehyat::minidit {

Sampler::Sampler(const Model& model, const AttentionPlan& plan, const Grid& grid,
                 const SamplerSettings& settings, ExecutorRef executor)
    : model_(model),
      chunking_(plan.chunking),
      grid_(grid),
      settings_(settings),
      executor_(executor),
      attention_(plan, model.heads(), executor) {
  if (settings.context_frames != 0 && settings.context_frames < 2 * chunking_.chunk_frames) {
    throw cli::BadInput("a context of " + std::to_string(settings.context_frames) +
                        " frames; expected two chunks, " + std::to_string(2 * chunking_.chunk_frames) +
                        ", or more, or 0");
  }
}

/// Takes a clean chunk into the states of all layers.
void Sampler::commit(const Matrix& chunk) {
  const Clip clip{
      .latents = chunk, .grid = grid_, .clean_frames = chunking_.chunk_frames, .first_frame = position_};
  attention_.commit(true);
  model_.velocity(clip, attention_, executor_);
  attention_.commit(false);
  position_ += clip.frames();
}

void Sampler::make_room(Index frames) {
  if (settings_.context_frames == 0 || position_ + frames <= settings_.context_frames) return;
  attention_.reset();
  position_ = 0;
  for (const Matrix& chunk : recent_) commit(chunk);
}

Matrix Sampler::next(Index frames, const Matrix& first_frame) {
  make_room(frames);
  const Index tokens = grid_.tokens(), clean = frames_made_ == 0 ? 1 : 0;
  Matrix x = noise(settings_.seed, frames_made_ * tokens, frames * tokens, model_.channels());
  if (clean == 1) x.topRows(tokens) = first_frame;
  for (int step = 0; step < settings_.steps; ++step) {
    const float size = 1.0f / static_cast<float>(settings_.steps);
    const Clip clip{.latents = x,
                    .grid = grid_,
                    .noise_level = 1 - static_cast<float>(step) * size,
                    .clean_frames = clean,
                    .first_frame = position_};
    const Matrix velocity = model_.velocity(clip, attention_, executor_);
    x.bottomRows((frames - clean) * tokens) += size * velocity.bottomRows((frames - clean) * tokens);
  }
  commit(x);
  frames_made_ += frames;
  if (settings_.context_frames != 0) {
    const std::size_t kept = static_cast<std::size_t>(settings_.context_frames / chunking_.chunk_frames / 2);
    if (recent_.size() == kept) recent_.erase(recent_.begin());
    recent_.push_back(x);
  }
  return x;
}

}  // namespace rehyat::minidit
