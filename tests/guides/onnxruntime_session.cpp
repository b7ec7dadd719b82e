// ONNX Runtime itself: a model of one node, and the library of examples/onnxruntime_op loaded as any program
// would.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <thread>

#include "onnx_model.hpp"
#include "onnxruntime_host.hpp"

namespace rehyat::guides {
namespace {

const OrtApi& api() {
  static const OrtApi* const instance = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (instance == nullptr) throw std::runtime_error("ONNX Runtime is older than its header");
  return *instance;
}

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw std::runtime_error(message);
}

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

/// What `create(&pointer)` makes, and what releases it.
template <class T, class Create>
Owned<T> make(void (*release)(T*), const Create& create) {
  T* object = nullptr;
  check(create(&object));
  return {object, release};
}

Owned<OrtValue> value_of(const NodeInput& input) {
  const auto memory = make<OrtMemoryInfo>(api().ReleaseMemoryInfo, [](auto** out) {
    return api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, out);
  });
  return make<OrtValue>(api().ReleaseValue, [&](auto** out) {
    return api().CreateTensorWithDataAsOrtValue(memory.get(), const_cast<std::byte*>(input.data.data()),
                                                input.data.size(), input.shape.data(), input.shape.size(),
                                                input.type, out);
  });
}

Owned<OrtSession> session_of(const Node& node, int threads) {
  static const auto env = make<OrtEnv>(
      api().ReleaseEnv, [](auto** out) { return api().CreateEnv(ORT_LOGGING_LEVEL_FATAL, "rehyat", out); });
  const auto options = make<OrtSessionOptions>(api().ReleaseSessionOptions,
                                               [](auto** out) { return api().CreateSessionOptions(out); });
  check(api().SetIntraOpNumThreads(options.get(), std::max(1, threads)));
  check(api().RegisterCustomOpsLibrary_V2(options.get(), REHYAT_ONNXRUNTIME_OP));
  const std::string model = onnx_model(node);
  return make<OrtSession>(api().ReleaseSession, [&](auto** out) {
    return api().CreateSessionFromArray(env.get(), model.data(), model.size(), options.get(), out);
  });
}

Outcome run(OrtSession& session, const Node& node) {
  std::vector<Owned<OrtValue>> values;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i].initializer) continue;
    values.push_back(value_of(node.inputs[i]));
    names.push_back(input_name(i));
  }
  std::vector<const OrtValue*> inputs;
  for (const auto& v : values) inputs.push_back(v.get());
  std::vector<const char*> input_names;
  for (const std::string& name : names) input_names.push_back(name.c_str());
  const char* const output_name = "output";
  const auto output = make<OrtValue>(api().ReleaseValue, [&](auto** out) {
    return api().Run(&session, nullptr, input_names.data(), inputs.data(), inputs.size(), &output_name, 1,
                     out);
  });
  const auto info = make<OrtTensorTypeAndShapeInfo>(api().ReleaseTensorTypeAndShapeInfo, [&](auto** out) {
    return api().GetTensorTypeAndShape(output.get(), out);
  });
  Outcome outcome;
  std::size_t rank = 0, count = 0;
  check(api().GetDimensionsCount(info.get(), &rank));
  outcome.shape.resize(rank);
  check(api().GetDimensions(info.get(), outcome.shape.data(), rank));
  check(api().GetTensorShapeElementCount(info.get(), &count));
  void* data = nullptr;
  check(api().GetTensorMutableData(output.get(), &data));
  const bool is_float = node.inputs[0].type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  const auto* bytes = static_cast<const std::byte*>(data);
  outcome.data.assign(bytes, bytes + count * (is_float ? 4 : 2));
  return outcome;
}

/// What is thrown becomes the outcome's error.
template <class F>
Outcome outcome_of(const F& function) {
  try {
    return function();
  } catch (const std::exception& e) {
    return {.error = e.what()};
  }
}

}  // namespace

Outcome run_node(const Node& node, int threads) {
  return outcome_of([&] {
    const auto session = session_of(node, threads);
    Outcome other;
    std::thread second([&] { other = outcome_of([&] { return run(*session, node); }); });
    const Outcome outcome = outcome_of([&] { return run(*session, node); });
    second.join();
    EXPECT_EQ(outcome.error, other.error);
    EXPECT_EQ(outcome.data, other.data);
    return outcome;
  });
}

}  // namespace rehyat::guides
