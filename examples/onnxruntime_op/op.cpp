// The custom operator rehyat::HybridAttention for ONNX Runtime.
//   query [batch, tokens, num_heads * head_dim], key [batch, tokens, kv_num_heads * head_dim], value and
//   output alike: float, float16 or bfloat16, laid out as in MultiHeadAttention; then, for a phi with
//   weights, float initializers for each layer: phi_q weight, phi_q bias, phi_k weight, phi_k bias of a
//   grouped Conv1d.

#include <algorithm>
#include <climits>
#include <memory>
#include <thread>

#include "node.hpp"
#include "runtime.hpp"

namespace rehyat_onnx {
namespace {

/// Has all that is used here, so that the library runs in ONNX Runtime 1.18 and later.
constexpr std::uint32_t api_version = 18;

/// [batch, tokens, heads * dim] as [batch, token, head, dim].
Result<rehyat::InputView> view_of(const char* name, const Tensor& tensor, rehyat::ElementType type,
                                  std::int64_t heads) {
  REHYAT_RETURN_IF_ERROR(tensor.expect_rank(name, 3));
  const std::int64_t batch = tensor.shape[0], tokens = tensor.shape[1], width = tensor.shape[2];
  if (width % heads != 0) {
    return Status::error(StatusCode::invalid_argument,
                         "%s has %" PRId64 " channels, expected a multiple of %" PRId64 " heads", name, width,
                         heads);
  }
  rehyat::InputView view =
      rehyat::TensorView<const float>::token_major(nullptr, batch, tokens, heads, width / heads);
  view.data = tensor.data, view.type = type;
  return view;
}

/// What a node keeps between calls; several threads may run it at once.
class Kernel {
 public:
  Kernel(const OrtApi& api, rehyat::ElementType type) : api_(api), type_(type) {}
  ~Kernel() { api_.ReleaseAllocator(allocator_); }

  Status create(const OrtKernelInfo* info) {
    REHYAT_RETURN_IF_ERROR(node_.read(api_, info));
    return take(api_, api_.KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator_));
  }

  const OrtApi& api() const { return api_; }

  // README begin
  Status compute(OrtKernelContext* context) const {
    rehyat::HybridAttention p = node_.settings;
    REHYAT_RETURN_IF_ERROR(input(context, 0, "query", node_.heads, p.q));
    REHYAT_RETURN_IF_ERROR(input(context, 1, "key", node_.kv_heads, p.k));
    REHYAT_RETURN_IF_ERROR(input(context, 2, "value", node_.kv_heads, p.v));
    REHYAT_RETURN_IF_ERROR(output(context, p));

    SessionThreads threads(api_, context, workers_);
    const Result<std::size_t> bytes = rehyat::workspace_size(p, threads.slots());
    if (!bytes.ok()) return bytes.status();
    void* workspace = allocator_->Alloc(allocator_, *bytes);
    const Status status = rehyat::hybrid_attention(p, {workspace, *bytes}, threads);
    allocator_->Free(allocator_, workspace);
    return status;
  }
  // README end

 private:
  Status input(OrtKernelContext* context, std::size_t index, const char* name, std::int64_t heads,
               rehyat::InputView& view) const {
    const OrtValue* value = nullptr;
    REHYAT_RETURN_IF_ERROR(take(api_, api_.KernelContext_GetInput(context, index, &value)));
    const Result<Tensor> tensor = Tensor::of(api_, value);
    if (!tensor.ok()) return tensor.status();
    const Result<rehyat::InputView> found = view_of(name, *tensor, type_, heads);
    if (!found.ok()) return found.status();
    view = *found;
    return {};
  }

  /// [batch, tokens, num_heads * value_dim], made by the session.
  Status output(OrtKernelContext* context, rehyat::HybridAttention& p) const {
    const std::int64_t shape[] = {p.q.batch, p.q.tokens, p.q.heads * p.v.dim};
    OrtValue* value = nullptr;
    void* data = nullptr;
    REHYAT_RETURN_IF_ERROR(take(api_, api_.KernelContext_GetOutput(context, 0, shape, 3, &value)));
    REHYAT_RETURN_IF_ERROR(take(api_, api_.GetTensorMutableData(value, &data)));
    p.out = rehyat::TensorView<float>::token_major(nullptr, p.q.batch, p.q.tokens, p.q.heads, p.v.dim);
    p.out.data = data, p.out.type = type_;
    return {};
  }

  const OrtApi& api_;
  const rehyat::ElementType type_;
  const int workers_ = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  Node node_;
  OrtAllocator* allocator_ = nullptr;
};

/// The operator for one type of tensors; three of the same name make one operator of any type.
struct Operator : OrtCustomOp {
  rehyat::ElementType element;
  ONNXTensorElementDataType type;

  Operator(rehyat::ElementType element_type, ONNXTensorElementDataType onnx_type)
      : OrtCustomOp{}, element(element_type), type(onnx_type) {
    version = api_version;
    GetName = [](const OrtCustomOp*) { return "HybridAttention"; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp*) { return first_weight + 1; };
    GetInputType = [](const OrtCustomOp* op, std::size_t index) {
      return index < first_weight ? static_cast<const Operator*>(op)->type
                                  : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, std::size_t index) {
      return index < first_weight ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_VARIADIC;
    };
    GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return std::size_t{1}; };
    GetOutputType = [](const OrtCustomOp* op, std::size_t) { return static_cast<const Operator*>(op)->type; };
    GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
    CreateKernelV2 = create;
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      const Kernel& k = *static_cast<const Kernel*>(kernel);
      return give(k.api(), k.compute(context));
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

  static OrtStatus* create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info,
                           void** created) {
    auto kernel = std::make_unique<Kernel>(*api, static_cast<const Operator*>(op)->element);
    const Status status = kernel->create(info);
    if (status.ok()) *created = kernel.release();
    return give(*api, status);
  }
};

/// Lives as long as this library is loaded, which is longer than any session that uses it.
class Domain {
 public:
  explicit Domain(const OrtApi& api) : api_(api), status_(create()) {}
  ~Domain() { api_.ReleaseCustomOpDomain(domain_); }

  OrtStatus* add_to(OrtSessionOptions* options) const {
    return status_.ok() ? api_.AddCustomOpDomain(options, domain_) : give(api_, status_);
  }

 private:
  Status create() {
    REHYAT_RETURN_IF_ERROR(take(api_, api_.CreateCustomOpDomain("rehyat", &domain_)));
    for (const Operator& op : operators_) {
      REHYAT_RETURN_IF_ERROR(take(api_, api_.CustomOpDomain_Add(domain_, &op)));
    }
    return {};
  }

  const OrtApi& api_;
  const Operator operators_[3] = {{rehyat::ElementType::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
                                  {rehyat::ElementType::float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
                                  {rehyat::ElementType::bfloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16}};
  OrtCustomOpDomain* domain_ = nullptr;
  const Status status_;
};

}  // namespace
}  // namespace rehyat_onnx

/// What ONNX Runtime looks for in the library.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(rehyat_onnx::api_version);
  if (api == nullptr)
    return base->GetApi(1)->CreateStatus(ORT_FAIL, "rehyat: expected ONNX Runtime 1.18 or later");
  static const rehyat_onnx::Domain domain(*api);
  return domain.add_to(options);
}
