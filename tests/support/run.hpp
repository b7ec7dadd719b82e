#pragma once
// Runs operators with a workspace of exactly the size asked for, filled with NaN beforehand: scratch that is
// read before it is written shows.

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "rehyat/attention.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat::support {

/// Bytes of workspace full of NaN.
class NanWorkspace {
 public:
  explicit NanWorkspace(std::size_t bytes)
      : floats_(bytes / sizeof(float) + 1, std::numeric_limits<float>::quiet_NaN()), bytes_(bytes) {}
  Workspace get() { return {floats_.data(), bytes_}; }

 private:
  std::vector<float> floats_;
  std::size_t bytes_;
};

inline Status call(const SoftmaxAttention& p, Workspace w, auto& executor, const Kernels& kernels) {
  return softmax_attention(p, w, executor, kernels);
}
inline Status call(const HybridAttention& p, Workspace w, auto& executor, const Kernels& kernels) {
  return hybrid_attention(p, w, executor, kernels);
}
inline Status call(const LinearAttention& p, Workspace w, auto& executor, const Kernels& kernels) {
  return linear_attention(p, w, executor, kernels);
}
inline Status call(const UniformAttention& p, Workspace w, auto& executor, const Kernels& kernels) {
  return uniform_attention(p, w, executor, kernels);
}

/// Runs a one-shot operator; the test fails where it is refused.
template <class P, class E>
void run(const P& parameters, E& executor, const Kernels& kernels) {
  const Result<std::size_t> size = workspace_size(parameters, executor.slots(), kernels);
  ASSERT_TRUE(size.ok()) << size.status().message();
  NanWorkspace workspace(*size);
  const Status status = call(parameters, workspace.get(), executor, kernels);
  ASSERT_TRUE(status.ok()) << status.message();
}

template <class P>
void run(const P& parameters, const Kernels& kernels) {
  SerialExecutor executor;
  run(parameters, executor, kernels);
}

/// A recurrent state with its memory and workspace.
class OwnedState {
 public:
  OwnedState(const RecurrentConfig& config, int slots, const Kernels& kernels)
      : kernels_(kernels),
        memory_(*RecurrentState::size_bytes(config) / 8),
        workspace_(*RecurrentState::workspace_size(config, slots, kernels)),
        state_(*RecurrentState::create(config, memory_.data(), memory_.size() * 8)) {}

  RecurrentState& operator*() { return state_; }
  RecurrentState* operator->() { return &state_; }
  const std::vector<double>& memory() const { return memory_; }

  template <class E>
  Status step(const RecurrentChunk& chunk, E& executor) {
    return state_.step(chunk, workspace_.get(), executor, kernels_);
  }
  template <class E>
  Status peek(const RecurrentChunk& chunk, E& executor) {
    return state_.peek(chunk, workspace_.get(), executor, kernels_);
  }
  template <class E>
  Status commit(const RecurrentChunk& chunk, E& executor) {
    return state_.commit(chunk, workspace_.get(), executor, kernels_);
  }

 private:
  const Kernels& kernels_;
  std::vector<double> memory_;
  NanWorkspace workspace_;
  RecurrentState state_;
};

}  // namespace rehyat::support
