#pragma once
// ONNX Runtime's C API as the kernel uses it: its errors as ours, its tensors, its threads.

#include <onnxruntime_c_api.h>

#include <atomic>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rehyat/executor.hpp"
#include "rehyat/status.hpp"

namespace rehyat_onnx {

using rehyat::Result;
using rehyat::Status;
using rehyat::StatusCode;

inline Status take(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return {};
  const Status error = Status::error(StatusCode::invalid_argument, "%s", api.GetErrorMessage(status));
  api.ReleaseStatus(status);
  return error;
}

inline OrtStatus* give(const OrtApi& api, const Status& status) {
  if (status.ok()) return nullptr;
  return api.CreateStatus(ORT_INVALID_ARGUMENT, (std::string("rehyat: ") + status.message()).c_str());
}

/// A tensor's sizes and elements.
struct Tensor {
  std::vector<std::int64_t> shape = {};
  void* data = nullptr;

  static Result<Tensor> of(const OrtApi& api, const OrtValue* value) {
    Tensor tensor;
    OrtTensorTypeAndShapeInfo* info = nullptr;
    REHYAT_RETURN_IF_ERROR(take(api, api.GetTensorTypeAndShape(value, &info)));
    std::size_t rank = 0;
    Status status = take(api, api.GetDimensionsCount(info, &rank));
    tensor.shape.resize(rank);
    if (status.ok()) status = take(api, api.GetDimensions(info, tensor.shape.data(), rank));
    api.ReleaseTensorTypeAndShapeInfo(info);
    // for an input too: the function that returns const data is younger
    if (status.ok()) status = take(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &tensor.data));
    if (!status.ok()) return status;
    return tensor;
  }

  Status expect_rank(const char* name, std::size_t rank) const {
    if (shape.size() == rank) return {};
    return Status::error(StatusCode::invalid_argument, "%s has %zu dimensions, expected %zu", name,
                         shape.size(), rank);
  }
};

/// An Executor over the threads of the session that a kernel runs in.
class SessionThreads {
 public:
  /// Workers beyond the session's threads find nothing to do; they cost workspace.
  SessionThreads(const OrtApi& api, const OrtKernelContext* context, int workers)
      : api_(api), context_(context), workers_(workers) {}

  int slots() const { return workers_; }

  // README begin
  void run(std::int64_t count, rehyat::TaskRef task) const {
    Phase phase{task, count};
    const auto work = [](void* shared, std::size_t slot) {
      static_cast<Phase*>(shared)->work(static_cast<int>(slot));
    };
    OrtStatus* status =
        api_.KernelContext_ParallelFor(context_, work, static_cast<std::size_t>(slots()), 0, &phase);
    if (status != nullptr) api_.ReleaseStatus(status);
    phase.work(0);  // all of it, if there was an error; else nothing is left
  }
  // README end

 private:
  /// Tasks are taken one by one: a worker is a slot, whichever thread it runs on.
  struct Phase {
    rehyat::TaskRef task;
    std::int64_t count;
    std::atomic<std::int64_t> next{0};

    void work(int slot) {
      for (std::int64_t i; (i = next.fetch_add(1)) < count;) task(i, slot);
    }
  };

  const OrtApi& api_;
  const OrtKernelContext* context_;
  int workers_;
};

}  // namespace rehyat_onnx
