#pragma once
// What a step of distillation is made from.

#include <cstdint>
#include <vector>

#include "rehyat/train/detail/adam.hpp"
#include "rehyat/train/detail/prepared_clip.hpp"

namespace rehyat::train::detail {

/// Of one clip: the training frames without the first `shift`, and which of their chunks.
struct ClipChunks {
  std::int64_t shift = 0;
  std::vector<std::int64_t> chunks;
};

/// Asked once for each of `left` things, takes `wanted` of them: each set of that size as likely as another.
class Draw {
 public:
  Draw(std::int64_t left, std::int64_t wanted) : left_(left), wanted_(wanted) {}
  bool takes(RandomStream& random) {
    const bool taken = random.below(left_--) < wanted_;
    wanted_ -= taken;
    return taken;
  }

 private:
  std::int64_t left_, wanted_;
};

inline std::int64_t count_chunks(const std::vector<ClipChunks>& batch) {
  std::int64_t sum = 0;
  for (const ClipChunks& clip : batch) sum += static_cast<std::int64_t>(clip.chunks.size());
  return sum;
}

/// Of every clip, in their order.
inline std::vector<ClipChunks> draw_batch(const Distillation& p, RandomStream& random) {
  std::vector<ClipChunks> batch(p.clips.size());
  for (std::size_t c = 0; c < batch.size(); ++c) {
    // half of the steps are cut as the operator cuts a whole clip
    batch[c].shift = random.below(2) == 0 ? 0 : random.below(shifts(p));
    batch[c].chunks = training_cut(p, p.clips[c], batch[c].shift).scored_chunks();
  }
  if (p.batch_clips > 0) {
    Draw clips(static_cast<std::int64_t>(batch.size()), p.batch_clips);
    for (ClipChunks& clip : batch) {
      if (!clips.takes(random)) clip.chunks.clear();
    }
  }
  if (p.batch_chunks > 0) {
    Draw chunks(count_chunks(batch), p.batch_chunks);
    for (ClipChunks& clip : batch) {
      std::erase_if(clip.chunks, [&](std::int64_t) { return !chunks.takes(random); });
    }
  }
  return batch;
}

}  // namespace rehyat::train::detail
