// The peer rehyat: its exact attention, hybrid attention in one shot, and the same chunk by chunk from an
// empty state. Besides what all peers say: "operations" of the operator on this clip, and of the last one
// "streaming_bytes".

#include <cstddef>
#include <stdexcept>

#include "rehyat/version.hpp"
#include "server.hpp"

namespace rehyat::bench {
namespace {

void check(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

template <class T>
T value_of(const Result<T>& result) {
  check(result.status());
  return *result;
}

/// phi of one side: two layers, gelu between, softplus after, powers 1 and 2.
class Features {
 public:
  Features(const Clip& clip, const std::string& side) {
    map_.kind = FeatureMap::Kind::polynomial;
    map_.num_layers = 2;
    map_.degree = 2;
    map_.activation = Activation::gelu;
    map_.output_activation = Activation::softplus;
    map_.heads = clip.heads;
    for (int i = 0; i < 2; ++i) {
      weights_[i] = read_array(clip.folder, side + "_weight_" + std::to_string(i));
      biases_[i] = read_array(clip.folder, side + "_bias_" + std::to_string(i));
      map_.layers[i] = {weights_[i].data.data(), biases_[i].data.data(), weights_[i].shape[1]};
    }
    packed_.resize(value_of(packed_weights_size(map_, clip.head_dim)));
    map_ = value_of(pack_weights(map_, clip.head_dim, {packed_.data(), packed_.size()}));
  }
  const FeatureMap& map() const { return map_; }

 private:
  NpyArray weights_[2], biases_[2];
  std::vector<std::byte> packed_;
  FeatureMap map_;
};

/// What the three operators have in common.
class Rehyat : public Peer {
 public:
  Rehyat(const Clip& clip, const Call& call)
      : clip_(&clip), pool_(call.threads), out_(static_cast<std::size_t>(clip.heads * clip.head_size())) {}

  std::vector<float> output() override { return out_; }
  nlohmann::json about() const override {
    const auto number = [](int n) { return std::to_string(n); };
    return {{"version", number(REHYAT_VERSION_MAJOR) + "." + number(REHYAT_VERSION_MINOR) + "." +
                            number(REHYAT_VERSION_PATCH)},
            {"compiler", __VERSION__},
            {"isa", isa_name(default_kernels().isa)},
            {"arithmetic", "float32"},
            {"operations", operations_}};
  }

 protected:
  template <class P>
  P parameters() {
    P p;
    p.q = view(clip_->q.data.data());
    p.k = view(clip_->k.data.data());
    p.v = view(clip_->v.data.data());
    p.out = view(out_.data());
    return p;
  }
  HybridAttention hybrid_parameters(const Features& q, const Features& k) {
    auto p = parameters<HybridAttention>();
    p.chunking = {clip_->tokens_per_frame, clip_->chunk_frames, clip_->overlap_frames};
    p.phi_q = q.map();
    p.phi_k = k.map();
    return p;
  }
  void reserve(const Result<std::size_t>& size) { bytes_.resize(value_of(size)); }
  Workspace workspace() { return {bytes_.data(), bytes_.size()}; }
  std::size_t workspace_bytes() const { return bytes_.size(); }

  const Clip* clip_;
  ThreadPool pool_;
  double operations_ = 0;

 private:
  template <class T>
  TensorView<T> view(T* data) const {
    return TensorView<T>::head_major(data, 1, clip_->tokens(), clip_->heads, clip_->head_dim);
  }

  std::vector<float> out_;
  std::vector<std::byte> bytes_;
};

class Exact final : public Rehyat {
 public:
  Exact(const Clip& clip, const Call& call) : Rehyat(clip, call), p_(parameters<SoftmaxAttention>()) {
    operations_ = operation_count(p_).total();
    reserve(workspace_size(p_, pool_.slots()));
  }
  void run() override { check(softmax_attention(p_, workspace(), pool_)); }

 private:
  SoftmaxAttention p_;
};

class OneShot final : public Rehyat {
 public:
  OneShot(const Clip& clip, const Call& call)
      : Rehyat(clip, call), phi_q_(clip, "phi_q"), phi_k_(clip, "phi_k") {
    p_ = hybrid_parameters(phi_q_, phi_k_);
    operations_ = operation_count(p_).total();
    reserve(workspace_size(p_, pool_.slots()));
  }
  void run() override { check(hybrid_attention(p_, workspace(), pool_)); }

 private:
  Features phi_q_, phi_k_;
  HybridAttention p_;
};

class Recurrent final : public Rehyat {
 public:
  Recurrent(const Clip& clip, const Call& call)
      : Rehyat(clip, call), phi_q_(clip, "phi_q"), phi_k_(clip, "phi_k") {
    p_ = hybrid_parameters(phi_q_, phi_k_);
    operations_ = operation_count(p_).total();
    const RecurrentConfig config{.heads = clip.heads,
                                 .kv_heads = clip.heads,
                                 .head_dim = clip.head_dim,
                                 .value_dim = clip.head_dim,
                                 .chunking = p_.chunking,
                                 .phi_q = p_.phi_q,
                                 .phi_k = p_.phi_k};
    memory_.resize(value_of(RecurrentState::size_bytes(config)));
    state_ = value_of(RecurrentState::create(config, memory_.data(), memory_.size()));
    reserve(RecurrentState::workspace_size(config, pool_.slots()));
  }
  nlohmann::json about() const override {
    nlohmann::json about = Rehyat::about();
    about["streaming_bytes"] = streaming_bytes();
    return about;
  }
  void run() override {
    state_->reset();
    const std::int64_t chunk_tokens = clip_->chunk_frames * clip_->tokens_per_frame;
    for (std::int64_t begin = 0; begin < clip_->tokens(); begin += chunk_tokens) {
      const std::int64_t count = std::min(chunk_tokens, clip_->tokens() - begin);
      check(state_->step({.q = p_.q.slice_tokens(begin, count),
                          .k = p_.k.slice_tokens(begin, count),
                          .v = p_.v.slice_tokens(begin, count),
                          .out = p_.out.slice_tokens(begin, count)},
                         workspace(), pool_));
    }
  }

 private:
  /// What a streaming caller holds: state, workspace, and q, k, v and out of a chunk.
  std::size_t streaming_bytes() const {
    const std::int64_t elements =
        4 * clip_->heads * clip_->chunk_frames * clip_->tokens_per_frame * clip_->head_dim;
    return memory_.size() + workspace_bytes() + static_cast<std::size_t>(elements) * sizeof(float);
  }

  Features phi_q_, phi_k_;
  HybridAttention p_;
  std::vector<std::byte> memory_;
  std::optional<RecurrentState> state_;
};

std::unique_ptr<Peer> prepare(const Clip& clip, const Call& call) {
  if (call.operation == "exact") return std::make_unique<Exact>(clip, call);
  if (call.operation == "hybrid") return std::make_unique<OneShot>(clip, call);
  if (call.operation == "hybrid_recurrent") return std::make_unique<Recurrent>(clip, call);
  throw std::runtime_error("rehyat has no " + call.operation + " here");
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  using namespace rehyat::bench;
  return serve(argc, argv, {[](const Clip&, const Call&) { return 0.0; }, prepare});
}
