#pragma once
// What is timed: an operator over a clip with its workspace, and a recurrence with its state.

#include <cstddef>
#include <utility>
#include <vector>

#include "inputs.hpp"
#include "rehyat/thread_pool.hpp"

namespace rehyat::bench {

inline std::vector<std::byte> bytes(const Result<std::size_t>& size) {
  return std::vector<std::byte>(size.ok() ? *size : 0);
}

/// An operator's workspace and call.
template <class P, class Call, class E = ThreadPool>
class OneShot {
 public:
  OneShot(const P& parameters, Call call, E& executor, const Kernels& kernels)
      : parameters_(parameters),
        call_(call),
        executor_(&executor),
        kernels_(&kernels),
        workspace_(bytes(workspace_size(parameters, executor.slots(), kernels))) {}

  Status run() {
    return call_(parameters_, Workspace{workspace_.data(), workspace_.size()}, *executor_, *kernels_);
  }
  double operations() const { return operation_count(parameters_).total(); }
  std::size_t workspace_bytes() const { return workspace_.size(); }

 private:
  P parameters_;
  Call call_;
  E* executor_;
  const Kernels* kernels_;
  std::vector<std::byte> workspace_;
};

/// Causal hybrid attention as a recurrence over the chunks of a clip.
template <class E = ThreadPool>
class Recurrence {
 public:
  Recurrence(const HybridAttention& clip, E& executor, const Kernels& kernels)
      : clip_(clip),
        config_{.heads = clip.q.heads,
                .kv_heads = clip.k.heads,
                .head_dim = clip.q.dim,
                .value_dim = clip.v.dim,
                .chunking = clip.chunking,
                .phi_q = clip.phi_q,
                .phi_k = clip.phi_k,
                .arithmetic = clip.arithmetic},
        executor_(&executor),
        kernels_(&kernels),
        memory_(bytes(RecurrentState::size_bytes(config_))),
        workspace_(bytes(RecurrentState::workspace_size(config_, executor.slots(), kernels))),
        state_(RecurrentState::create(config_, memory_.data(), memory_.size())) {}
  Recurrence(const Recurrence&) = delete;
  Recurrence& operator=(const Recurrence&) = delete;

  std::int64_t chunk_tokens() const { return clip_.chunking.chunk_frames * clip_.chunking.tokens_per_frame; }
  std::int64_t chunks_seen() const { return chunks_seen_; }

  /// The clip's whole chunks, again and again.
  Status step() {
    const std::int64_t whole_chunks = clip_.q.tokens / chunk_tokens();
    return step(chunks_seen_ % whole_chunks * chunk_tokens(), chunk_tokens());
  }

  /// The whole clip from an empty state.
  Status run_clip() {
    if (!state_.ok()) return state_.status();
    state_->reset();
    for (std::int64_t begin = 0; begin < clip_.q.tokens; begin += chunk_tokens()) {
      const std::int64_t left = clip_.q.tokens - begin;
      REHYAT_RETURN_IF_ERROR(step(begin, left < chunk_tokens() ? left : chunk_tokens()));
    }
    return {};
  }

  std::size_t workspace_bytes() const { return workspace_.size(); }
  std::size_t state_bytes() const { return memory_.size(); }
  /// q, k, v and out of a chunk.
  std::size_t chunk_bytes() const {
    const std::int64_t row =
        clip_.q.heads * (clip_.q.dim + clip_.v.dim) + clip_.k.heads * (clip_.k.dim + clip_.v.dim);
    return static_cast<std::size_t>(chunk_tokens() * row) * sizeof(float);
  }

 private:
  Status step(std::int64_t begin, std::int64_t tokens) {
    if (!state_.ok()) return state_.status();
    ++chunks_seen_;
    return state_->step({.q = clip_.q.slice_tokens(begin, tokens),
                         .k = clip_.k.slice_tokens(begin, tokens),
                         .v = clip_.v.slice_tokens(begin, tokens),
                         .out = clip_.out.slice_tokens(begin, tokens)},
                        Workspace{workspace_.data(), workspace_.size()}, *executor_, *kernels_);
  }

  HybridAttention clip_;
  RecurrentConfig config_;
  E* executor_;
  const Kernels* kernels_;
  std::vector<std::byte> memory_, workspace_;
  Result<RecurrentState> state_;
  std::int64_t chunks_seen_ = 0;
};

}  // namespace rehyat::bench
