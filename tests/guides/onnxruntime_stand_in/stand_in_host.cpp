// The stand-in for ONNX Runtime: as much of a session as one node needs. Nothing that it hands out may be
// left.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

#include "onnxruntime_host.hpp"

struct OrtStatus {
  std::string message;
};
struct OrtValue {
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;
};
struct OrtTensorTypeAndShapeInfo {
  std::vector<std::int64_t> shape;
};
struct OrtKernelInfo {
  const rehyat::guides::Node& node;
  std::vector<OrtValue> values;
};
struct OrtKernelContext {
  const std::vector<OrtValue>& inputs;
  int threads;
  std::size_t element_size;
  OrtValue output = {};
};
struct OrtCustomOpDomain {
  std::string name;
  std::vector<const OrtCustomOp*> operators = {};
};
struct OrtSessionOptions {
  std::vector<OrtCustomOpDomain*> domains = {};
};

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

namespace rehyat::guides {
namespace {

std::atomic<int> lent{0};  ///< statuses, shapes, allocators and blocks that were not given back

template <class T>
T* lend(T* object) {
  ++lent;
  return object;
}
template <class T>
void take_back(T* object) {
  if (object == nullptr) return;
  --lent;
  delete object;
}

OrtStatus* error(const std::string& message) { return lend(new OrtStatus{message}); }

void* allocate(OrtAllocator*, std::size_t size) { return lend(std::malloc(size)); }
void release(OrtAllocator*, void* memory) {
  --lent;
  std::free(memory);
}

template <class T>
const T* attribute(const OrtKernelInfo* info, const std::string& name) {
  for (const NodeAttribute& a : info->node.attributes) {
    if (a.name == name) return std::get_if<T>(&a.value);
  }
  return nullptr;
}

template <class T>
OrtStatus* read(const OrtKernelInfo* info, const char* name, T* out) {
  const T* const value = attribute<T>(info, name);
  if (value == nullptr) return error(std::string("there is no attribute ") + name);
  *out = *value;
  return nullptr;
}

OrtStatus* read_string(const OrtKernelInfo* info, const char* name, char* out, std::size_t* size) {
  std::string value;
  if (OrtStatus* status = read(info, name, &value)) return status;
  const std::size_t room = *size;
  *size = value.size() + 1;
  if (room < *size) return error("the string is longer than its memory");
  std::memcpy(out, value.c_str(), *size);
  return nullptr;
}

OrtStatus* constant_input(const OrtKernelInfo* info, std::size_t index, int* is_constant,
                          const OrtValue** out) {
  *is_constant = info->node.inputs[index].initializer ? 1 : 0;
  *out = *is_constant != 0 ? &info->values[index] : nullptr;
  return nullptr;
}

OrtStatus* make_output(OrtKernelContext* context, std::size_t, const std::int64_t* shape, std::size_t rank,
                       OrtValue** out) {
  OrtValue& output = context->output;
  output.shape.assign(shape, shape + rank);
  const std::int64_t count = std::accumulate(shape, shape + rank, std::int64_t{1}, std::multiplies());
  output.data.resize(static_cast<std::size_t>(count) * context->element_size);
  *out = &output;
  return nullptr;
}

/// With no threads it fails, as it may.
OrtStatus* parallel_for(const OrtKernelContext* context, void (*function)(void*, std::size_t),
                        std::size_t total, std::size_t, void* data) {
  if (context->threads == 0) return error("no threads");
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i; (i = next++) < total;) function(data, i);
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < context->threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& t : threads) t.join();
  return nullptr;
}

OrtApi make_api() {
  OrtApi api{};
  api.CreateStatus = [](OrtErrorCode, const char* message) { return error(message); };
  api.GetErrorMessage = [](const OrtStatus* status) { return status->message.c_str(); };
  api.ReleaseStatus = take_back<OrtStatus>;
  api.CreateCustomOpDomain = [](const char* name, OrtCustomOpDomain** out) -> OrtStatus* {
    *out = new OrtCustomOpDomain{name};
    return nullptr;
  };
  api.CustomOpDomain_Add = [](OrtCustomOpDomain* domain, const OrtCustomOp* op) -> OrtStatus* {
    domain->operators.push_back(op);
    return nullptr;
  };
  api.AddCustomOpDomain = [](OrtSessionOptions* options, OrtCustomOpDomain* domain) -> OrtStatus* {
    options->domains.push_back(domain);
    return nullptr;
  };
  api.ReleaseCustomOpDomain = [](OrtCustomOpDomain* domain) { delete domain; };
  api.GetTensorMutableData = [](OrtValue* value, void** out) -> OrtStatus* {
    *out = value->data.data();
    return nullptr;
  };
  api.GetTensorTypeAndShape = [](const OrtValue* value, OrtTensorTypeAndShapeInfo** out) -> OrtStatus* {
    *out = lend(new OrtTensorTypeAndShapeInfo{value->shape});
    return nullptr;
  };
  api.GetDimensionsCount = [](const OrtTensorTypeAndShapeInfo* info, std::size_t* out) -> OrtStatus* {
    *out = info->shape.size();
    return nullptr;
  };
  api.GetDimensions = [](const OrtTensorTypeAndShapeInfo* info, std::int64_t* out,
                         std::size_t count) -> OrtStatus* {
    std::copy_n(info->shape.begin(), count, out);
    return nullptr;
  };
  api.ReleaseTensorTypeAndShapeInfo = take_back<OrtTensorTypeAndShapeInfo>;
  api.KernelInfoGetAttribute_float = read<float>;
  api.KernelInfoGetAttribute_int64 = read<std::int64_t>;
  api.KernelInfoGetAttribute_string = read_string;
  api.KernelInfo_GetInputCount = [](const OrtKernelInfo* info, std::size_t* out) -> OrtStatus* {
    *out = info->node.inputs.size();
    return nullptr;
  };
  api.KernelInfoGetConstantInput_tensor = constant_input;
  api.KernelInfoGetAllocator = [](const OrtKernelInfo*, OrtMemType, OrtAllocator** out) -> OrtStatus* {
    *out = lend(new OrtAllocator{allocate, release});
    return nullptr;
  };
  api.ReleaseAllocator = take_back<OrtAllocator>;
  api.KernelContext_GetInput = [](const OrtKernelContext* context, std::size_t index,
                                  const OrtValue** out) -> OrtStatus* {
    *out = &context->inputs[index];
    return nullptr;
  };
  api.KernelContext_GetOutput = make_output;
  api.KernelContext_ParallelFor = parallel_for;
  return api;
}

const OrtApi& the_api() {
  static const OrtApi api = make_api();
  return api;
}

/// The message, which is given back; empty where all is well.
std::string message_of(OrtStatus* status) {
  const std::string message = status == nullptr ? "" : status->message;
  take_back(status);
  return message;
}

const OrtCustomOp* operator_for(ONNXTensorElementDataType type) {
  static const OrtApiBase base{[](std::uint32_t) { return &the_api(); }};
  OrtSessionOptions options;
  EXPECT_EQ(message_of(RegisterCustomOps(&options, &base)), "");
  EXPECT_EQ(options.domains.at(0)->name, "rehyat");
  for (const OrtCustomOp* op : options.domains[0]->operators) {
    EXPECT_STREQ(op->GetName(op), "HybridAttention");
    if (op->GetInputType(op, 0) == type && op->GetOutputType(op, 0) == type) return op;
  }
  return nullptr;
}

Outcome compute(const OrtCustomOp& op, void* kernel, const OrtKernelInfo& info, int threads) {
  OrtKernelContext context{info.values, threads, std::size_t{op.GetOutputType(&op, 0) == 1 ? 4u : 2u}};
  Outcome outcome{.error = message_of(op.KernelComputeV2(kernel, &context))};
  outcome.shape = context.output.shape, outcome.data = context.output.data;
  return outcome;
}

}  // namespace

Outcome run_node(const Node& node, int threads) {
  const OrtCustomOp* op = operator_for(node.inputs.at(0).type);
  if (op == nullptr) return {.error = "no operator for this type"};
  OrtKernelInfo info{node, {}};
  for (const NodeInput& input : node.inputs) info.values.push_back({input.shape, input.data});
  void* kernel = nullptr;
  Outcome outcome{.error = message_of(op->CreateKernelV2(op, &the_api(), &info, &kernel))};
  EXPECT_EQ(kernel == nullptr, !outcome.error.empty()) << "who gets an error would not destroy the kernel";
  if (outcome.error.empty()) {
    for (std::size_t i = 3; i < info.values.size(); ++i) info.values[i] = {};  // a session may drop them now
    Outcome other;
    std::thread second([&] { other = compute(*op, kernel, info, threads); });
    outcome = compute(*op, kernel, info, threads);
    second.join();
    EXPECT_EQ(outcome.error, other.error);
    EXPECT_EQ(outcome.data, other.data);
    op->KernelDestroy(kernel);
  }
  EXPECT_EQ(lent, 0) << "not everything was given back";
  return outcome;
}

}  // namespace rehyat::guides
