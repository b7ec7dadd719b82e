#include "attention.hpp"

#include <algorithm>
#include <iterator>

#include "../cli/bad_input.hpp"
#include "rehyat/attention.hpp"
#include "rehyat/packed_weights.hpp"

namespace rehyat::minidit {
namespace {

using cli::require;

constexpr const char* kind_names[] = {"softmax", "causal", "window", "hybrid"};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

AttentionKind kind_of(const std::string& name, const std::string& choice) {
  const auto* const found = std::find(std::begin(kind_names), std::end(kind_names), name);
  if (found == std::end(kind_names)) {
    throw cli::BadInput("attention '" + choice + "' names '" + name +
                        "'; expected softmax, causal, window or hybrid");
  }
  return static_cast<AttentionKind>(found - std::begin(kind_names));
}

FeatureMap packed(const FeatureMap& map, std::unique_ptr<char[]>& memory) {
  const std::size_t size = require(packed_weights_size(map, Model::head_dim));
  memory = std::make_unique<char[]>(size);
  return require(pack_weights(map, Model::head_dim, {memory.get(), size}));
}

/// Softmax of every chunk over the keys from `first_of(chunk)` to the chunk's end, both in frames.
template <class First>
void softmax_by_chunk(const LayerTensors& t, const Chunking& chunking, First first_of, ExecutorRef executor,
                      Scratch& scratch) {
  const Index tokens = chunking.tokens_per_frame, frames = t.q.tokens / tokens;
  for (Index chunk = 0; chunk < chunk_count(frames, chunking); ++chunk) {
    const Range queries = hybrid_sets(frames, chunk, chunking, Direction::causal).queries.scaled(tokens);
    const Index first = first_of(chunk) * tokens;
    const SoftmaxAttention attention{.q = t.q.slice_tokens(queries.begin, queries.size()),
                                     .k = t.k.slice_tokens(first, queries.end - first),
                                     .v = t.v.slice_tokens(first, queries.end - first),
                                     .out = t.out.slice_tokens(queries.begin, queries.size())};
    const std::size_t size = require(workspace_size(attention, executor.slots()));
    require(softmax_attention(attention, scratch.of(size), executor));
  }
}

}  // namespace

const char* name_of(AttentionKind kind) { return kind_names[static_cast<int>(kind)]; }

std::string AttentionPlan::text() const {
  const auto unlike_first = [&](const AttentionLayer& layer) { return layer.kind != layers.front().kind; };
  if (std::none_of(layers.begin(), layers.end(), unlike_first)) return name_of(layers.front().kind);
  std::string text;
  for (const AttentionLayer& layer : layers)
    text += (text.empty() ? "" : ",") + std::string(name_of(layer.kind));
  return text;
}

AttentionPlan make_plan(const std::string& choice, const Model& model, const TensorFile& phi,
                        const Chunking& chunking) {
  std::vector<std::string> names = split(choice);
  const auto layers = static_cast<std::size_t>(model.layers());
  if (names.size() == 1) names.resize(layers, names.front());
  if (names.size() != layers) {
    throw cli::BadInput("attention '" + choice + "' is for " + std::to_string(names.size()) +
                        " layers; expected one name, or one for each of " + std::to_string(layers));
  }
  AttentionPlan plan{{}, chunking};
  for (const std::string& name : names) {
    AttentionLayer layer{.kind = kind_of(name, choice)};
    if (layer.kind == AttentionKind::hybrid) {
      const std::string prefix = "layer" + std::to_string(plan.layers.size()) + ".";
      const FeatureMapWeights weights =
          require(phi.feature_maps(prefix, {model.heads(), model.heads(), Model::head_dim}));
      layer.phi_q = packed(weights.phi_q, layer.packed_q);
      layer.phi_k = packed(weights.phi_k, layer.packed_k);
    }
    plan.layers.push_back(std::move(layer));
  }
  return plan;
}

void OneShotAttention::attend(const LayerTensors& t) {
  const AttentionLayer& layer = plan_.layers[static_cast<std::size_t>(t.layer)];
  const auto by_chunk = [&](auto first_of) {
    softmax_by_chunk(t, plan_.chunking, first_of, executor_, scratch_);
  };
  switch (layer.kind) {
    case AttentionKind::softmax: {
      const SoftmaxAttention attention{.q = t.q, .k = t.k, .v = t.v, .out = t.out};
      const std::size_t size = require(workspace_size(attention, executor_.slots()));
      return require(softmax_attention(attention, scratch_.of(size), executor_));
    }
    case AttentionKind::causal:
      return by_chunk([](Index) { return Index{0}; });
    case AttentionKind::window:
      return by_chunk([&](Index chunk) { return softmax_begin(chunk, plan_.chunking); });
    case AttentionKind::hybrid: {
      const HybridAttention attention{.q = t.q,
                                      .k = t.k,
                                      .v = t.v,
                                      .out = t.out,
                                      .chunking = plan_.chunking,
                                      .phi_q = layer.phi_q,
                                      .phi_k = layer.phi_k};
      const std::size_t size = require(workspace_size(attention, executor_.slots()));
      return require(hybrid_attention(attention, scratch_.of(size), executor_));
    }
  }
}

}  // namespace rehyat::minidit
