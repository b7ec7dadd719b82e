#pragma once
// How the layers of a model attend, over a whole clip at once or chunk by chunk.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/io/tensor_file.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::minidit {

enum class AttentionKind {
  softmax,  ///< softmax over all frames
  causal,   ///< softmax over all frames up to the end of the chunk
  window,   ///< softmax over the chunk and its overlap
  hybrid,   ///< window, and linear attention to everything earlier
};

const char* name_of(AttentionKind kind);

/// One layer's choice. The maps, if hybrid, view packed weights that the layer owns: it moves, but is not
/// copied.
struct AttentionLayer {
  AttentionKind kind = AttentionKind::softmax;
  FeatureMap phi_q = {}, phi_k = {};
  std::unique_ptr<char[]> packed_q = {}, packed_k = {};
};

struct AttentionPlan {
  std::vector<AttentionLayer> layers;
  Chunking chunking;

  /// "softmax,hybrid,hybrid,softmax", or one name if all layers are alike.
  std::string text() const;
};

/// `choice` is the name of a kind for all layers, or one for each, separated by commas. Feature maps of
/// hybrid layers are the tensors layer<l>.phi_q.* and layer<l>.phi_k.* of `phi`. Throws BadInput.
AttentionPlan make_plan(const std::string& choice, const Model& model, const TensorFile& phi,
                        const Chunking& chunking);

/// Memory that grows to what is asked for.
class Scratch {
 public:
  Workspace of(std::size_t size) {
    if (memory_.size() < size) memory_.resize(size);
    return {memory_.data(), memory_.size()};
  }

 private:
  std::vector<char> memory_;
};

/// Attention over all frames of a clip in one call.
class OneShotAttention final : public Attention {
 public:
  OneShotAttention(const AttentionPlan& plan, ExecutorRef executor) : plan_(plan), executor_(executor) {}
  void attend(const LayerTensors& tensors) override;

 private:
  const AttentionPlan& plan_;
  ExecutorRef executor_;
  Scratch scratch_;
};

/// What one layer remembers of the chunks before.
class LayerMemory {
 public:
  virtual ~LayerMemory() = default;
  /// Attends with one chunk, and keeps its keys and values if `commits`.
  virtual void attend(const LayerTensors& chunk, bool commits) = 0;
  virtual void reset() = 0;
  virtual std::size_t bytes() const = 0;
};

/// Attention of one chunk after the other: the same results as in one shot, to the bit. Memory is constant
/// where all layers are window or hybrid; causal layers keep all keys and values. softmax is refused: it
/// would need frames that are not there yet.
class StreamingAttention final : public Attention {
 public:
  StreamingAttention(const AttentionPlan& plan, Index heads, ExecutorRef executor);

  void attend(const LayerTensors& chunk) override;

  /// Whether the chunks that come are kept: once they are clean.
  void commit(bool commits) { commits_ = commits; }
  /// Back to before the first chunk.
  void reset();
  std::size_t bytes() const;

 private:
  std::vector<std::unique_ptr<LayerMemory>> layers_;
  bool commits_ = false;
};

}  // namespace rehyat::minidit
