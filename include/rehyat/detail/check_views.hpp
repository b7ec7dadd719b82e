#pragma once
// Checks of numbers and views.

#include <cinttypes>
#include <cstdint>
#include <initializer_list>

#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::detail {

inline constexpr std::int64_t max_dim = 512;

/// Of a tensor: bytes, tasks and blocks can be counted without overflow.
inline constexpr std::int64_t most_elements = INT64_MAX / 64;

/// Whether a tensor of these sizes, none of them 0, has no more than most_elements.
inline bool can_be_counted(std::initializer_list<std::int64_t> sizes) {
  std::int64_t elements = 1;
  for (const std::int64_t size : sizes) {
    if (__builtin_mul_overflow(elements, size, &elements) || elements > most_elements) return false;
  }
  return true;
}

inline Status refuse(const char* name, std::int64_t value, const char* expected) {
  return Status::error(StatusCode::invalid_argument, "%s is %" PRId64 ", expected %s", name, value, expected);
}

inline Status refuse_null(const char* name) {
  return Status::error(StatusCode::invalid_argument, "%s is null, expected memory", name);
}

inline Status check_at_least(const char* name, std::int64_t value, std::int64_t least) {
  if (value >= least) return {};
  return Status::error(StatusCode::invalid_argument, "%s is %" PRId64 ", expected at least %" PRId64, name,
                       value, least);
}

inline Status check_equal(const char* name, std::int64_t value, const char* other, std::int64_t expected) {
  if (value == expected) return {};
  return Status::error(StatusCode::invalid_argument, "%s is %" PRId64 ", expected %s (%" PRId64 ")", name,
                       value, other, expected);
}

/// `value` >= 1 must divide `total`.
inline Status check_divides(const char* name, std::int64_t value, const char* total_name,
                            std::int64_t total) {
  if (total % value == 0) return {};
  return Status::error(StatusCode::invalid_argument,
                       "%s is %" PRId64 ", expected a divisor of %s (%" PRId64 ")", name, value, total_name,
                       total);
}

inline Status check_dim(const char* name, std::int64_t dim) {
  if (dim >= 1 && dim <= max_dim) return {};
  return refuse(name, dim, "1 to 512");
}

struct Shape {
  std::int64_t batch, tokens, heads, dim;
  bool empty() const { return batch == 0 || tokens == 0 || heads == 0; }
};

/// Shape as expected, and every element's offset within what a pointer can reach. Memory need not be there
/// yet.
template <class View>
Status check_layout(const char* name, const View& view, const Shape& expected) {
  const auto member = [&](const char* what, std::int64_t value, std::int64_t wanted) -> Status {
    if (value == wanted) return {};
    return Status::error(StatusCode::invalid_argument, "%s.%s is %" PRId64 ", expected %" PRId64, name, what,
                         value, wanted);
  };
  REHYAT_RETURN_IF_ERROR(member("batch", view.batch, expected.batch));
  REHYAT_RETURN_IF_ERROR(member("tokens", view.tokens, expected.tokens));
  REHYAT_RETURN_IF_ERROR(member("heads", view.heads, expected.heads));
  REHYAT_RETURN_IF_ERROR(member("dim", view.dim, expected.dim));
  if (expected.empty()) return {};
  // with strides of 0 they could be anything
  if (!can_be_counted({view.dim, view.batch, view.tokens, view.heads})) {
    return Status::error(StatusCode::invalid_argument,
                         "%s is %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64
                         ", expected sizes whose product does not overflow",
                         name, view.batch, view.tokens, view.heads, view.dim);
  }
  std::int64_t reach = view.dim;
  const std::int64_t extents[3] = {view.batch, view.tokens, view.heads};
  const std::int64_t strides[3] = {view.batch_stride, view.token_stride, view.head_stride};
  for (int i = 0; i < 3; ++i) {
    std::int64_t span = 0;
    const bool overflow =
        strides[i] == INT64_MIN ||
        __builtin_mul_overflow(extents[i] - 1, strides[i] < 0 ? -strides[i] : strides[i], &span) ||
        __builtin_add_overflow(reach, span, &reach) || reach > INT64_MAX / 8;
    if (overflow) {
      return Status::error(StatusCode::invalid_argument,
                           "%s strides are %" PRId64 ", %" PRId64 ", %" PRId64
                           ", expected ones whose reach does not overflow",
                           name, strides[0], strides[1], strides[2]);
    }
  }
  return {};
}

/// As check_layout, and no two elements at one address: sorted by stride, each dimension steps over all
/// smaller ones.
template <class View>
Status check_output_layout(const char* name, const View& view, const Shape& expected) {
  REHYAT_RETURN_IF_ERROR(check_layout(name, view, expected));
  if (expected.empty()) return {};
  std::int64_t extents[3] = {view.batch, view.tokens, view.heads};
  std::int64_t strides[3] = {view.batch_stride, view.token_stride, view.head_stride};
  for (std::int64_t& s : strides) s = s < 0 ? -s : s;
  for (int i = 0; i < 2; ++i) {  // bubble sort of three
    for (int j = 0; j < 2 - i; ++j) {
      if (strides[j] <= strides[j + 1]) continue;
      const std::int64_t stride = strides[j], extent = extents[j];
      strides[j] = strides[j + 1], extents[j] = extents[j + 1];
      strides[j + 1] = stride, extents[j + 1] = extent;
    }
  }
  std::int64_t inner = view.dim;  // elements that one step must clear
  for (int i = 0; i < 3; ++i) {
    if (extents[i] == 1) continue;
    if (strides[i] < inner) {
      return Status::error(StatusCode::invalid_argument,
                           "%s strides are %" PRId64 ", %" PRId64 ", %" PRId64
                           ", expected ones that give every element its own address",
                           name, view.batch_stride, view.token_stride, view.head_stride);
    }
    inner += (extents[i] - 1) * strides[i];
  }
  return {};
}

/// A null view is not wanted; any other is checked as an output.
template <class View>
Status check_optional_output(const char* name, const View& view, const Shape& expected) {
  if (view.data == nullptr) return {};
  return check_output_layout(name, view, expected);
}

/// Memory behind a view whose layout has been checked.
template <class View>
Status check_data(const char* name, const View& view) {
  if (view.data != nullptr || Shape{view.batch, view.tokens, view.heads, view.dim}.empty()) return {};
  return Status::error(StatusCode::invalid_argument, "%s.data is null, expected memory", name);
}

template <class View>
Status check_input(const char* name, const View& view, const Shape& expected) {
  REHYAT_RETURN_IF_ERROR(check_layout(name, view, expected));
  return check_data(name, view);
}

template <class View>
Status check_output(const char* name, const View& view, const Shape& expected) {
  REHYAT_RETURN_IF_ERROR(check_output_layout(name, view, expected));
  return check_data(name, view);
}

}  // namespace rehyat::detail
