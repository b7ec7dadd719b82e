#pragma once
// A clip cut into the chunks of a recurrence.

#include <algorithm>
#include <vector>

#include "test_clip.hpp"

namespace rehyat::support {

/// The chunks of a clip, each with the frames that every batch entry has of it.
class ClipStream {
 public:
  ClipStream(const TestClip& clip, Written& written) : clip_(clip) {
    whole_.q = clip.q_view(), whole_.k = clip.k_view(), whole_.v = clip.v_view();
    whole_.given = clip.given();
    written.receive(whole_);
  }
  /// `whole` has views of the clip's shape, wherever they are.
  ClipStream(const TestClip& clip, const RecurrentChunk& whole) : clip_(clip), whole_(whole) {}

  std::int64_t chunks() const { return clip_.geometry.chunks(); }

  /// Chunk t. Views frames(t), so it is valid until the next call.
  RecurrentChunk chunk(std::int64_t t) {
    const Geometry& g = clip_.geometry;
    const std::int64_t first = t * g.chunk_frames, most = std::min(g.chunk_frames, g.frames - first);
    RecurrentChunk c = whole_;
    const auto cut = [&](auto& view) {
      if (view.data != nullptr)
        view = view.slice_tokens(first * g.tokens_per_frame, most * g.tokens_per_frame);
    };
    cut(c.q), cut(c.k), cut(c.v), cut(c.out);
    cut(c.given.q), cut(c.given.k), cut(c.given.q_denominator), cut(c.given.k_denominator);
    cut(c.statistics.row_max), cut(c.statistics.row_sum), cut(c.statistics.linear_denominator);
    frames_.clear();
    for (const std::int64_t f : clip_.frames) frames_.push_back(std::clamp<std::int64_t>(f - first, 0, most));
    c.frames = frames_;
    return c;
  }

 private:
  const TestClip& clip_;
  RecurrentChunk whole_;
  std::vector<std::int64_t> frames_;
};

/// Batch entry `b` of a chunk alone.
inline RecurrentChunk entry_of(RecurrentChunk chunk, std::int64_t b) {
  for (auto* view : {&chunk.q, &chunk.k, &chunk.v, &chunk.given.q, &chunk.given.k, &chunk.given.q_denominator,
                     &chunk.given.k_denominator}) {
    *view = view->slice_batch(b);
  }
  chunk.out = chunk.out.slice_batch(b);
  for (auto* view :
       {&chunk.statistics.row_max, &chunk.statistics.row_sum, &chunk.statistics.linear_denominator}) {
    *view = view->slice_batch(b);
  }
  chunk.frames = chunk.frames.empty() ? chunk.frames : chunk.frames.subspan(static_cast<std::size_t>(b), 1);
  return chunk;
}

using rehyat::merge;

/// Steps a state through a clip.
template <class E>
Written stream(const TestClip& clip, OwnedState& state, E& executor) {
  const Geometry& g = clip.geometry;
  Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
  ClipStream chunks(clip, written);
  DenominatorReport total;
  for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
    const Status status = state.step(chunks.chunk(t), executor);
    EXPECT_TRUE(status.ok()) << "chunk " << t << ": " << status.message();
    merge(total, written.report);
  }
  written.report = total;
  return written;
}

}  // namespace rehyat::support
