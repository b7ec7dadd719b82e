// The peer rehyat: its exact attention, hybrid attention in one shot, and the same chunk by chunk from an
// empty state, in the arithmetic that the variant names. Besides what all peers say: "operations" of the
// operator on this clip, and of the last one "streaming_bytes".

#include <cstddef>
#include <stdexcept>

#include "../contestants.hpp"
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

Arithmetic arithmetic_of(const Call& call) {
  for (const Arithmetic arithmetic : {Arithmetic::float32, Arithmetic::float16, Arithmetic::int8}) {
    if (call.variant == arithmetic_name(arithmetic)) return arithmetic;
  }
  throw std::runtime_error("rehyat has no arithmetic " + call.variant);
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
      : clip_(&clip),
        arithmetic_(arithmetic_of(call)),
        pool_(call.threads),
        out_(static_cast<std::size_t>(clip.heads * clip.head_size())) {}

  std::vector<float> output() override { return out_; }
  nlohmann::json about() const override {
    const auto number = [](int n) { return std::to_string(n); };
    return {{"version", number(REHYAT_VERSION_MAJOR) + "." + number(REHYAT_VERSION_MINOR) + "." +
                            number(REHYAT_VERSION_PATCH)},
            {"compiler", __VERSION__},
            {"isa", isa_name(default_kernels().isa)},
            {"arithmetic", arithmetic_name(arithmetic_)},
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
    p.arithmetic = arithmetic_;
    return p;
  }
  HybridAttention hybrid_parameters(const Features& q, const Features& k) {
    auto p = parameters<HybridAttention>();
    p.chunking = {clip_->tokens_per_frame, clip_->chunk_frames, clip_->overlap_frames};
    p.phi_q = q.map();
    p.phi_k = k.map();
    return p;
  }
  const Clip* clip_;
  Arithmetic arithmetic_;
  ThreadPool pool_;
  double operations_ = 0;

 private:
  template <class T>
  TensorView<T> view(T* data) const {
    return TensorView<T>::head_major(data, 1, clip_->tokens(), clip_->heads, clip_->head_dim);
  }

  std::vector<float> out_;
};

class Exact final : public Rehyat {
 public:
  Exact(const Clip& clip, const Call& call)
      : Rehyat(clip, call),
        operator_(parameters<SoftmaxAttention>(), softmax_attention<ThreadPool>, pool_, default_kernels()) {
    operations_ = operator_.operations();
  }
  void run() override { check(operator_.run()); }

 private:
  OneShot<SoftmaxAttention, decltype(&softmax_attention<ThreadPool>)> operator_;
};

class Hybrid final : public Rehyat {
 public:
  Hybrid(const Clip& clip, const Call& call)
      : Rehyat(clip, call),
        phi_q_(clip, "phi_q"),
        phi_k_(clip, "phi_k"),
        operator_(hybrid_parameters(phi_q_, phi_k_), hybrid_attention<ThreadPool>, pool_, default_kernels()) {
    operations_ = operator_.operations();
  }
  void run() override { check(operator_.run()); }

 private:
  Features phi_q_, phi_k_;
  OneShot<HybridAttention, decltype(&hybrid_attention<ThreadPool>)> operator_;
};

class Recurrent final : public Rehyat {
 public:
  Recurrent(const Clip& clip, const Call& call)
      : Rehyat(clip, call),
        phi_q_(clip, "phi_q"),
        phi_k_(clip, "phi_k"),
        chunks_(hybrid_parameters(phi_q_, phi_k_), pool_, default_kernels()) {
    operations_ = operation_count(hybrid_parameters(phi_q_, phi_k_)).total();
  }
  /// streaming_bytes: what a streaming caller holds, state, workspace, and q, k, v and out of a chunk.
  nlohmann::json about() const override {
    nlohmann::json about = Rehyat::about();
    about["streaming_bytes"] = chunks_.state_bytes() + chunks_.workspace_bytes() + chunks_.chunk_bytes();
    return about;
  }
  void run() override { check(chunks_.run_clip()); }

 private:
  Features phi_q_, phi_k_;
  Recurrence<> chunks_;
};

std::unique_ptr<Peer> prepare(const Clip& clip, const Call& call) {
  if (call.operation == "exact") return std::make_unique<Exact>(clip, call);
  if (call.operation == "hybrid") return std::make_unique<Hybrid>(clip, call);
  if (call.operation == "hybrid_recurrent") return std::make_unique<Recurrent>(clip, call);
  throw std::runtime_error("rehyat has no " + call.operation + " here");
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  using namespace rehyat::bench;
  return serve(argc, argv, {[](const Clip&, const Call&) { return 0.0; }, prepare});
}
