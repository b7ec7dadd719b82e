// Attention chunk by chunk: a recurrent state for each hybrid layer, kept keys and values for the others.

#include <optional>

#include "../cli/bad_input.hpp"
#include "attention.hpp"
#include "rehyat/attention.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat::minidit {
namespace {

using cli::require;

/// A hybrid layer: sums over what left the overlap, and the overlap.
class RecurrentLayer final : public LayerMemory {
 public:
  RecurrentLayer(const AttentionLayer& layer, const Chunking& chunking, Index heads, ExecutorRef executor)
      : config_{.heads = heads,
                .kv_heads = heads,
                .head_dim = Model::head_dim,
                .value_dim = Model::head_dim,
                .chunking = chunking,
                .phi_q = layer.phi_q,
                .phi_k = layer.phi_k},
        executor_(executor),
        memory_((require(RecurrentState::size_bytes(config_)) + sizeof(double) - 1) / sizeof(double)),
        workspace_(require(RecurrentState::workspace_size(config_, executor.slots()))),
        state_(require(RecurrentState::create(config_, memory_.data(), bytes()))) {}

  void attend(const LayerTensors& t, bool commits) override {
    const RecurrentChunk chunk{.q = t.q, .k = t.k, .v = t.v, .out = t.out};
    const Workspace workspace{workspace_.data(), workspace_.size()};
    require(commits ? state_.step(chunk, workspace, executor_) : state_.peek(chunk, workspace, executor_));
  }
  void reset() override { state_.reset(); }
  std::size_t bytes() const override { return memory_.size() * sizeof(double); }

 private:
  RecurrentConfig config_;
  ExecutorRef executor_;
  std::vector<double> memory_;  // a state needs 8 bytes of alignment
  std::vector<char> workspace_;
  RecurrentState state_;
};

/// A softmax layer: keys and values of the overlap (window), or of all frames (causal).
class CachedLayer final : public LayerMemory {
 public:
  CachedLayer(std::optional<Index> kept_tokens, Index heads, ExecutorRef executor)
      : kept_tokens_(kept_tokens), heads_(heads), executor_(executor) {}

  void attend(const LayerTensors& t, bool commits) override {
    const std::size_t before = keys_.size();
    append(t.k, keys_);
    append(t.v, values_);
    const SoftmaxAttention attention{.q = t.q, .k = view(keys_), .v = view(values_), .out = t.out};
    const std::size_t size = require(workspace_size(attention, executor_.slots()));
    require(softmax_attention(attention, scratch_.of(size), executor_));
    for (std::vector<float>* cache : {&keys_, &values_}) {
      if (!commits) {
        cache->resize(before);
      } else if (kept_tokens_) {
        const std::size_t kept = static_cast<std::size_t>(*kept_tokens_ * heads_ * Model::head_dim);
        if (cache->size() > kept) cache->erase(cache->begin(), cache->end() - static_cast<Index>(kept));
      }
    }
  }
  void reset() override {
    keys_.clear();
    values_.clear();
  }
  std::size_t bytes() const override { return (keys_.size() + values_.size()) * sizeof(float); }

 private:
  static void append(const TensorView<const float>& chunk, std::vector<float>& cache) {
    for (Index token = 0; token < chunk.tokens; ++token) {
      const float* const row = chunk.row(0, token, 0);
      cache.insert(cache.end(), row, row + chunk.heads * chunk.dim);
    }
  }
  TensorView<const float> view(const std::vector<float>& cache) const {
    const Index tokens = static_cast<Index>(cache.size()) / (heads_ * Model::head_dim);
    return TensorView<const float>::token_major(cache.data(), 1, tokens, heads_, Model::head_dim);
  }

  std::optional<Index> kept_tokens_;
  Index heads_;
  ExecutorRef executor_;
  Scratch scratch_;
  std::vector<float> keys_, values_;
};

std::unique_ptr<LayerMemory> make_memory(const AttentionLayer& layer, const Chunking& chunking, Index heads,
                                         ExecutorRef executor) {
  switch (layer.kind) {
    case AttentionKind::softmax:
      break;
    case AttentionKind::causal:
      return std::make_unique<CachedLayer>(std::nullopt, heads, executor);
    case AttentionKind::window:
      return std::make_unique<CachedLayer>(chunking.overlap_frames * chunking.tokens_per_frame, heads,
                                           executor);
    case AttentionKind::hybrid:
      return std::make_unique<RecurrentLayer>(layer, chunking, heads, executor);
  }
  throw cli::BadInput(
      "attention softmax sees frames to come; chunk by chunk expected causal, window or hybrid");
}

}  // namespace

StreamingAttention::StreamingAttention(const AttentionPlan& plan, Index heads, ExecutorRef executor) {
  for (const AttentionLayer& layer : plan.layers) {
    layers_.push_back(make_memory(layer, plan.chunking, heads, executor));
  }
}

void StreamingAttention::attend(const LayerTensors& chunk) {
  layers_[static_cast<std::size_t>(chunk.layer)]->attend(chunk, commits_);
}

void StreamingAttention::reset() {
  for (const auto& layer : layers_) layer->reset();
}

std::size_t StreamingAttention::bytes() const {
  std::size_t total = 0;
  for (const auto& layer : layers_) total += layer->bytes();
  return total;
}

}  // namespace rehyat::minidit
