#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "reference.hpp"

namespace rehyat::reference {

/// The recurrence in double, with a real tail: sums over the frames that left the overlap, and the keys and
/// values (and given features) of the frames since. Chunks are Inputs of whole frames.
class Recurrence {
 public:
  enum class Kind { hybrid, linear };

  Recurrence(Model model, Chunking chunking, Kind kind)
      : model_(std::move(model)), chunking_(chunking), kind_(kind) {}

  /// The output of a chunk; the state stays as it is.
  Output peek(const Inputs& chunk) const {
    if (kind_ == Kind::hybrid) return read(chunk, with_tail(chunk));
    Recurrence next = *this;
    next.commit(chunk);
    const Inputs no_softmax_keys{.k = Array<double>(0, chunk.k.heads, chunk.k.dim),
                                 .v = Array<double>(0, chunk.v.heads, chunk.v.dim)};
    return next.read(chunk, no_softmax_keys);
  }

  /// Takes the keys and values of a chunk into the state.
  void commit(const Inputs& chunk) {
    const Inputs all = with_tail(chunk);
    const Index tokens_per_frame = chunking_.tokens_per_frame;
    const Index overlap = kind_ == Kind::hybrid ? chunking_.overlap_frames : 0;
    const Index kept = std::min(overlap * tokens_per_frame, all.k.tokens);
    const Index leaving = all.k.tokens - kept;
    absorb(all.slice(0, leaving));
    tail_ = all.slice(leaving, all.k.tokens);
    frames_seen_ += chunk.k.tokens / tokens_per_frame;
  }

  /// peek, then commit.
  Output step(const Inputs& chunk) {
    Output out = peek(chunk);
    commit(chunk);
    return out;
  }

  Index frames_seen() const { return frames_seen_; }

 private:
  /// The keys of the tail, then those of the chunk.
  Inputs with_tail(const Inputs& chunk) const {
    return {.k = concatenate(tail_.k, chunk.k),
            .v = concatenate(tail_.v, chunk.v),
            .given_k = concatenate(tail_.given_k, chunk.given_k),
            .given_k_denominator = concatenate(tail_.given_k_denominator, chunk.given_k_denominator)};
  }

  void absorb(const Inputs& keys) {
    const AllFeatures phi(keys, model_);
    sums_.resize(static_cast<std::size_t>(keys.k.heads));
    for (Index g = 0; g < keys.k.heads && keys.k.tokens > 0; ++g) {
      sums_[static_cast<std::size_t>(g)].absorb(head_matrix(phi.k, g), head_matrix(phi.k_denominator, g),
                                                head_matrix(keys.v, g));
    }
  }

  Output read(const Inputs& queries, const Inputs& keys) const {
    const AllFeatures phi(queries, model_);
    Output out(queries.q.tokens, queries.q.heads, keys.v.dim);
    for (Index h = 0; h < queries.q.heads; ++h) {
      const Index g = h / (queries.q.heads / keys.k.heads);
      const Sums sums = sums_.empty() ? Sums{} : sums_[static_cast<std::size_t>(g)];
      const Branches branches(head_matrix(queries.q, h), head_matrix(keys.k, g), head_matrix(keys.v, g),
                              model_.score_scale(queries.q.dim), head_matrix(phi.q, h),
                              head_matrix(phi.q_denominator, h), sums);
      for (Index i = 0; i < queries.q.tokens; ++i) join(branches, i, model_, i, h, out);
    }
    return out;
  }

  Model model_;
  Chunking chunking_;
  Kind kind_;
  std::vector<Sums> sums_;  ///< by kv head; empty before anything left the overlap
  Inputs tail_;
  Index frames_seen_ = 0;
};

/// Steps through a clip chunk by chunk.
inline Output recurrent(const Inputs& clip, const Model& model, const Chunking& chunking,
                        Recurrence::Kind kind) {
  Recurrence state(model, chunking, kind);
  Output out;
  const Index chunk_tokens = chunking.chunk_frames * chunking.tokens_per_frame;
  for (Index begin = 0; begin < clip.q.tokens; begin += chunk_tokens) {
    out.append(state.step(clip.slice(begin, std::min(begin + chunk_tokens, clip.q.tokens))));
  }
  return out;
}

}  // namespace rehyat::reference
