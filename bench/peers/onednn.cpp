// The peer oneDNN: the primitives matmul, softmax, matmul, a head after the other, each on all threads.
// Stores the N x N scores of a head. Prepared: q is scaled, k and v are in the layouts that the matmuls ask
// for.

#include <cmath>
#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>

#include "server.hpp"

namespace rehyat::bench {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

double quadratic_bytes(const Clip& clip, const Call&) {
  const double tokens = static_cast<double>(clip.tokens());
  return tokens * tokens * sizeof(float);
}

memory::desc matrix(memory::dim rows, memory::dim columns, Tag tag) {
  return {{rows, columns}, memory::data_type::f32, tag};
}

dnnl::matmul::primitive_desc matmul_of(const dnnl::engine& engine, const memory::desc& a,
                                       const memory::desc& b, const memory::desc& product) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, a, b, product};
#else
  return {dnnl::matmul::desc(a, b, product), engine};
#endif
}

dnnl::softmax_forward::primitive_desc softmax_of(const dnnl::engine& engine, const memory::desc& scores) {
  constexpr int axis = 1;
#if DNNL_VERSION_MAJOR >= 3
  return {engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::softmax_accurate, scores, scores,
          axis};
#else
  return {dnnl::softmax_forward::desc(dnnl::prop_kind::forward_inference, scores, axis), engine};
#endif
}

class OneDnn final : public Peer {
 public:
  explicit OneDnn(const Clip& clip)
      : clip_(&clip),
        token_rows_(matrix(clip.tokens(), clip.head_dim, Tag::ab)),
        scores_desc_(matrix(clip.tokens(), clip.tokens(), Tag::ab)),
        qk_desc_(
            matmul_of(engine_, token_rows_, matrix(clip.head_dim, clip.tokens(), Tag::any), scores_desc_)),
        pv_desc_(
            matmul_of(engine_, scores_desc_, matrix(clip.tokens(), clip.head_dim, Tag::any), token_rows_)),
        qk_(qk_desc_),
        softmax_(softmax_of(engine_, scores_desc_)),
        pv_(pv_desc_),
        scores_(scores_desc_, engine_) {
    const memory::desc k_transposed = matrix(clip.head_dim, clip.tokens(), Tag::ba);
    for (std::int64_t h = 0; h < clip.heads; ++h) {
      heads_.push_back({scaled(clip.head(clip.q, h)),
                        reordered(clip.head(clip.k, h), k_transposed, qk_desc_.weights_desc()),
                        reordered(clip.head(clip.v, h), token_rows_, pv_desc_.weights_desc()),
                        memory(token_rows_, engine_)});
    }
  }

  void run() override {
    for (Head& head : heads_) {
      qk_.execute(stream_, {{DNNL_ARG_SRC, head.q}, {DNNL_ARG_WEIGHTS, head.k}, {DNNL_ARG_DST, scores_}});
      softmax_.execute(stream_, {{DNNL_ARG_SRC, scores_}, {DNNL_ARG_DST, scores_}});
      pv_.execute(stream_, {{DNNL_ARG_SRC, scores_}, {DNNL_ARG_WEIGHTS, head.v}, {DNNL_ARG_DST, head.out}});
    }
    stream_.wait();
  }

  std::vector<float> output() override {
    std::vector<float> out;
    for (Head& head : heads_) {
      const float* data = static_cast<const float*>(head.out.get_data_handle());
      out.insert(out.end(), data, data + clip_->head_size());
    }
    return out;
  }

  nlohmann::json about() const override {
    const dnnl_version_t* v = dnnl::version();
    return {{"version",
             std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch)},
            {"arithmetic", "float32"}};
  }

 private:
  struct Head {
    memory q, k, v, out;
  };

  memory scaled(const float* q) {
    memory copy(token_rows_, engine_);
    const float scale = 1 / std::sqrt(static_cast<float>(clip_->head_dim));
    float* values = static_cast<float*>(copy.get_data_handle());
    for (std::int64_t i = 0; i < clip_->head_size(); ++i) values[i] = scale * q[i];
    return copy;
  }

  memory reordered(const float* data, const memory::desc& from, const memory::desc& to) {
    memory source(from, engine_, const_cast<float*>(data)), target(to, engine_);
    dnnl::reorder(source, target).execute(stream_, source, target);
    stream_.wait();
    return target;
  }

  const Clip* clip_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  memory::desc token_rows_, scores_desc_;
  dnnl::matmul::primitive_desc qk_desc_, pv_desc_;
  dnnl::matmul qk_;
  dnnl::softmax_forward softmax_;
  dnnl::matmul pv_;
  memory scores_;
  std::vector<Head> heads_;
};

std::unique_ptr<Peer> prepare(const Clip& clip, const Call& call) {
  if (call.threads > 1 && dnnl::version()->cpu_runtime == DNNL_RUNTIME_SEQ) {
    throw std::runtime_error("this oneDNN is built without threads");
  }
  return std::make_unique<OneDnn>(clip);
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  using namespace rehyat::bench;
  return serve(argc, argv, {quadratic_bytes, prepare});
}
