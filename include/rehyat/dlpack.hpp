#pragma once

/// @file rehyat/dlpack.hpp
/// Views of DLPack tensors (https://dmlc.github.io/dlpack), without their header: any struct with DLTensor's
/// members will do. Nothing is copied and nothing is owned: the tensor's memory must outlive the view.

#include <cinttypes>
#include <cstdint>

#include "rehyat/detail/axes_view.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat {

/// A type with the members of DLPack's DLTensor.
template <class T>
concept DlpackTensor = requires(const T& t) {
  static_cast<char*>(t.data);
  static_cast<std::int64_t>(t.device.device_type);
  static_cast<std::int64_t>(t.ndim);
  static_cast<std::int64_t>(t.dtype.code);
  static_cast<std::int64_t>(t.dtype.bits);
  static_cast<std::int64_t>(t.dtype.lanes);
  static_cast<const std::int64_t*>(t.shape);
  static_cast<const std::int64_t*>(t.strides);
  static_cast<std::uint64_t>(t.byte_offset);
};

/// The order of a tensor's dimensions.
using DlpackAxes = TensorAxes;

namespace detail {

/// DLPack's numbers.
inline constexpr std::int64_t dlpack_cpu = 1, dlpack_cuda_host = 3, dlpack_rocm_host = 11;
inline constexpr std::int64_t dlpack_float = 2, dlpack_bfloat = 4;

template <DlpackTensor T>
Result<ElementType> dlpack_element(const char* name, const T& t) {
  const auto code = static_cast<std::int64_t>(t.dtype.code), bits = static_cast<std::int64_t>(t.dtype.bits),
             lanes = static_cast<std::int64_t>(t.dtype.lanes);
  if (lanes == 1 && code == dlpack_float && bits == 32) return ElementType::float32;
  if (lanes == 1 && code == dlpack_float && bits == 16) return ElementType::float16;
  if (lanes == 1 && code == dlpack_bfloat && bits == 16) return ElementType::bfloat16;
  return Status::error(StatusCode::invalid_argument,
                       "%s.dtype is code %" PRId64 ", %" PRId64 " bits, %" PRId64
                       " lanes, expected float32 (2, 32, 1), float16 (2, 16, 1) or bfloat16 (4, 16, 1)",
                       name, code, bits, lanes);
}

template <DlpackTensor T>
Result<AxesShape> dlpack_shape(const char* name, const T& t) {
  const auto ndim = static_cast<std::int64_t>(t.ndim);
  if (ndim != 3 && ndim != 4) {
    return Status::error(StatusCode::invalid_argument, "%s.ndim is %" PRId64 ", expected 3 or 4", name, ndim);
  }
  if (t.shape == nullptr) {
    return Status::error(StatusCode::invalid_argument, "%s.shape is null, expected %" PRId64 " sizes", name,
                         ndim);
  }
  AxesShape s;
  const std::int64_t first = 4 - ndim;
  std::int64_t packed = 1;  // stride of a tensor without gaps
  bool overflows = false;
  for (std::int64_t i = 3; i >= first; --i) {
    s.size[i] = t.shape[i - first];
    if (s.size[i] < 0) {
      return Status::error(StatusCode::invalid_argument,
                           "%s.shape[%" PRId64 "] is %" PRId64 ", expected 0 or more", name, i - first,
                           s.size[i]);
    }
    s.stride[i] = t.strides != nullptr ? t.strides[i - first] : packed;
    overflows = overflows || __builtin_mul_overflow(packed, s.size[i] > 1 ? s.size[i] : 1, &packed);
  }
  if (overflows) {
    return Status::error(StatusCode::invalid_argument, "%s.shape has a product that overflows", name);
  }
  if (s.size[3] > 1 && s.stride[3] != 1) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.strides[%" PRId64 "] is %" PRId64
                         ", expected 1: the elements of a row side by side",
                         name, ndim - 1, s.stride[3]);
  }
  return s;
}

/// The address of the first element.
template <DlpackTensor T>
Result<char*> dlpack_data(const char* name, const T& t, ElementType type) {
  const auto device = static_cast<std::int64_t>(t.device.device_type);
  if (device != dlpack_cpu && device != dlpack_cuda_host && device != dlpack_rocm_host) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.device.device_type is %" PRId64 ", expected memory of the host (1, 3 or 11)",
                         name, device);
  }
  char* const data = static_cast<char*>(t.data);
  if (data == nullptr) return data;
  const auto offset = static_cast<std::uint64_t>(t.byte_offset);
  std::uintptr_t address = 0;
  if (__builtin_add_overflow(reinterpret_cast<std::uintptr_t>(data), offset, &address) ||
      address % static_cast<std::uintptr_t>(element_size(type)) != 0) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.byte_offset is %" PRIu64 ", expected one that leads to an aligned %s", name,
                         offset, element_name(type));
  }
  return data + offset;
}

template <class View, DlpackTensor T>
Result<View> dlpack_view(const char* name, const T& t, DlpackAxes axes) {
  const Result<ElementType> type = dlpack_element(name, t);
  if (!type.ok()) return type.status();
  const Result<AxesShape> shape = dlpack_shape(name, t);
  if (!shape.ok()) return shape.status();
  const Result<char*> data = dlpack_data(name, t, *type);
  if (!data.ok()) return data.status();
  return view_of_axes<View>(name, *data, *type, *shape, axes);
}

}  // namespace detail

/// A DLPack tensor as an input. 3 or 4 dimensions in the order of `axes`, of float32, float16 or bfloat16 in
/// host memory; strides may be null (no gaps), negative, or 0 to broadcast; that of the last dimension is 1.
/// `name` is what a refusal calls the tensor.
template <DlpackTensor T>
Result<InputView> dlpack_input(const T& tensor, const char* name,
                               DlpackAxes axes = DlpackAxes::token_head_dim) {
  return detail::dlpack_view<InputView>(name, tensor, axes);
}

/// The same as an output: every element has its own address. DLTensor does not say whether its memory may be
/// written: that is the caller's to know.
template <DlpackTensor T>
Result<OutputView> dlpack_output(const T& tensor, const char* name,
                                 DlpackAxes axes = DlpackAxes::token_head_dim) {
  return detail::dlpack_view<OutputView>(name, tensor, axes);
}

}  // namespace rehyat
