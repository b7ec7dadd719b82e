// The peer ggml: ggml_flash_attn_ext on the CPU backend. Variants: float16 k and v, converted beforehand, as
// diffusion programs run it, and float32.

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include <cmath>
#include <cstddef>
#include <stdexcept>

#include "server.hpp"

namespace rehyat::bench {
namespace {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using Context = std::unique_ptr<ggml_context, Release<ggml_free>>;
using Backend = std::unique_ptr<ggml_backend, Release<ggml_backend_free>>;
using Buffer = std::unique_ptr<ggml_backend_buffer, Release<ggml_backend_buffer_free>>;

/// ggml's CPU backend, which may be a library that is loaded at run time.
Backend cpu_backend(int threads) {
  ggml_backend_load_all();
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device == nullptr) throw std::runtime_error("this ggml has no CPU backend");
  Backend backend(ggml_backend_dev_init(device, nullptr));
  void* set_threads =
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_set_n_threads");
  if (backend == nullptr || set_threads == nullptr) {
    throw std::runtime_error("ggml's CPU backend takes no number of threads");
  }
  reinterpret_cast<ggml_backend_set_n_threads_t>(set_threads)(backend.get(), threads);
  return backend;
}

class Ggml final : public Peer {
 public:
  Ggml(const Clip& clip, int threads, ggml_type key_type)
      : clip_(&clip),
        backend_(cpu_backend(threads)),
        context_(ggml_init({ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true})) {
    ggml_tensor* q = new_tensor(GGML_TYPE_F32);
    ggml_tensor* k = new_tensor(key_type);
    ggml_tensor* v = new_tensor(key_type);
    const float scale = 1 / std::sqrt(static_cast<float>(clip.head_dim));
    out_ = ggml_flash_attn_ext(context_.get(), q, k, v, nullptr, scale, 0, 0);
    ggml_flash_attn_ext_set_prec(out_, GGML_PREC_F32);
    graph_ = ggml_new_graph(context_.get());
    ggml_build_forward_expand(graph_, out_);
    buffer_.reset(ggml_backend_alloc_ctx_tensors(context_.get(), backend_.get()));
    if (buffer_ == nullptr) throw std::runtime_error("ggml has no memory for the tensors");
    fill(q, clip.q);
    fill(k, clip.k);
    fill(v, clip.v);
  }

  void run() override {
    if (ggml_backend_graph_compute(backend_.get(), graph_) != GGML_STATUS_SUCCESS) {
      throw std::runtime_error("ggml_backend_graph_compute failed");
    }
  }

  /// ggml's is [tokens, heads, head_dim].
  std::vector<float> output() override {
    std::vector<float> theirs(static_cast<std::size_t>(clip_->heads * clip_->head_size())), out;
    ggml_backend_tensor_get(out_, theirs.data(), 0, theirs.size() * sizeof(float));
    out.reserve(theirs.size());
    for (std::int64_t h = 0; h < clip_->heads; ++h) {
      for (std::int64_t t = 0; t < clip_->tokens(); ++t) {
        const float* row = theirs.data() + (t * clip_->heads + h) * clip_->head_dim;
        out.insert(out.end(), row, row + clip_->head_dim);
      }
    }
    return out;
  }

  nlohmann::json about() const override {
    const bool half = out_->src[1]->type == GGML_TYPE_F16;
    return {{"version", BENCH_GGML_VERSION}, {"arithmetic", half ? "float32, float16 k and v" : "float32"}};
  }

 private:
  ggml_tensor* new_tensor(ggml_type type) {
    return ggml_new_tensor_3d(context_.get(), type, clip_->head_dim, clip_->tokens(), clip_->heads);
  }

  void fill(ggml_tensor* tensor, const NpyArray& array) {
    if (tensor->type == GGML_TYPE_F32) {
      return ggml_backend_tensor_set(tensor, array.data.data(), 0, ggml_nbytes(tensor));
    }
    std::vector<ggml_fp16_t> half(array.data.size());
    ggml_fp32_to_fp16_row(array.data.data(), half.data(), static_cast<std::int64_t>(half.size()));
    ggml_backend_tensor_set(tensor, half.data(), 0, ggml_nbytes(tensor));
  }

  const Clip* clip_;
  Backend backend_;
  Context context_;
  Buffer buffer_;
  ggml_tensor* out_ = nullptr;
  ggml_cgraph* graph_ = nullptr;
};

std::unique_ptr<Peer> prepare(const Clip& clip, const Call& call) {
  return std::make_unique<Ggml>(clip, call.threads,
                                call.variant == "float16" ? GGML_TYPE_F16 : GGML_TYPE_F32);
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  using namespace rehyat::bench;
  return serve(argc, argv, {[](const Clip&, const Call&) { return 0.0; }, prepare});
}
