#pragma once
// Between PyTorch and rehyat: tensors as views without copies, errors as exceptions, threads, memory.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <utility>

#include "rehyat/detail/shared_tasks.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat_torch {

/// A refusal becomes Python's RuntimeError, with rehyat's own message.
inline void check(const rehyat::Status& status) { TORCH_CHECK(status.ok(), "rehyat: ", status.message()); }

template <class T>
T value_of(rehyat::Result<T> result) {
  check(result.status());
  return std::move(*result);
}

/// What every tensor must be: on the CPU, [batch, heads, tokens, dim], the elements of dim side by side.
inline void check_tensor(const char* name, const at::Tensor& t) {
  TORCH_CHECK(t.device().is_cpu(), "rehyat: ", name, " is on ", t.device(), ", expected cpu");
  TORCH_CHECK(t.layout() == at::kStrided, "rehyat: ", name, " is ", t.layout(),
              ", expected a strided tensor");
  TORCH_CHECK(t.dim() == 4, "rehyat: ", name, " has shape ", t.sizes(),
              ", expected [batch, heads, tokens, dim]");
  TORCH_CHECK(t.size(3) <= 1 || t.stride(3) == 1, "rehyat: ", name, " has its last dimension ", t.stride(3),
              " elements apart, expected 1 (", name, ".contiguous() copies it)");
}

template <class View>
View with_geometry(View view, const at::Tensor& t) {
  view.batch = t.size(0), view.heads = t.size(1), view.tokens = t.size(2), view.dim = t.size(3);
  view.batch_stride = t.stride(0), view.head_stride = t.stride(1), view.token_stride = t.stride(2);
  return view;
}

/// A tensor of the type T as what the gradients take and write.
template <class T>
rehyat::TensorView<T> typed_view(const char* name, const at::Tensor& t) {
  using Element = std::remove_const_t<T>;
  check_tensor(name, t);
  TORCH_CHECK(t.scalar_type() == c10::CppTypeToScalarType<Element>::value, "rehyat: ", name, " is ",
              t.scalar_type(), ", expected ", c10::CppTypeToScalarType<Element>::value, " as q is");
  rehyat::TensorView<T> view;
  view.data = t.data_ptr<Element>();
  return with_geometry(view, t);
}

/// A tensor of any type that the kernels take.
template <class View>
View any_view(const char* name, const at::Tensor& t) {
  check_tensor(name, t);
  const at::ScalarType type = t.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf, "rehyat: ", name, " is ",
              type, ", expected Float, BFloat16 or Half");
  View view;
  view.data = t.data_ptr();
  view.type = type == at::kFloat  ? rehyat::ElementType::float32
              : type == at::kHalf ? rehyat::ElementType::float16
                                  : rehyat::ElementType::bfloat16;
  return with_geometry(view, t);
}

/// An uninitialised [batch, heads, tokens, dim], which lies in memory as [batch, tokens, heads, dim]: what
/// joins the heads again is a view.
inline at::Tensor token_major(const at::Tensor& like, int64_t heads, int64_t dim, at::ScalarType type) {
  return at::empty({like.size(0), like.size(2), heads, dim}, like.options().dtype(type)).transpose(1, 2);
}

/// Scratch memory from PyTorch's allocator.
class OwnedWorkspace {
 public:
  explicit OwnedWorkspace(std::size_t size) : bytes_(at::empty({static_cast<int64_t>(size)}, at::kByte)) {}
  rehyat::Workspace get() const { return {bytes_.data_ptr(), static_cast<std::size_t>(bytes_.numel())}; }

 private:
  at::Tensor bytes_;
};

/// PyTorch's own threads: torch.set_num_threads() says how many.
struct TorchExecutor {
  int slots() const { return at::get_num_threads(); }
  void run(std::int64_t count, rehyat::TaskRef task) const {
    rehyat::detail::SharedTasks tasks(count, task);
    at::parallel_for(0, tasks.workers(slots()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t slot = begin; slot < end; ++slot) tasks.work(static_cast<int>(slot));
    });
  }
};

}  // namespace rehyat_torch
