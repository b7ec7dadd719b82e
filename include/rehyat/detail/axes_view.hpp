#pragma once
// Views of other libraries' tensors: from sizes and strides in their order of dimensions to ours.

#include <cstdint>
#include <type_traits>

#include "rehyat/detail/check_views.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat {

/// The order of a tensor's dimensions. The batch may be missing: then it is 1.
enum class TensorAxes : std::uint8_t {
  token_head_dim,  ///< [batch,] token, head, dim
  head_token_dim,  ///< [batch,] head, token, dim
};

namespace detail {

/// Sizes and strides of [batch, second, third, dim], the batch made up where there are three dimensions.
struct AxesShape {
  std::int64_t size[4] = {1, 0, 0, 0};
  std::int64_t stride[4] = {0, 0, 0, 1};
};

/// A view of a shape whose sizes are 0 or more and whose last stride is 1; checked as what it is to be.
template <class View, class Void>
Result<View> view_of_axes(const char* name, Void* data, ElementType type, const AxesShape& shape,
                          TensorAxes axes) {
  const int token = axes == TensorAxes::token_head_dim ? 1 : 2, head = 3 - token;
  View view;
  view.data = data, view.type = type;
  view.batch = shape.size[0], view.batch_stride = shape.stride[0];
  view.tokens = shape.size[token], view.token_stride = shape.stride[token];
  view.heads = shape.size[head], view.head_stride = shape.stride[head];
  view.dim = shape.size[3];
  const Shape itself{view.batch, view.tokens, view.heads, view.dim};
  const bool writes = std::is_same_v<View, OutputView>;
  const Status fits = writes ? check_output(name, view, itself) : check_input(name, view, itself);
  if (!fits.ok()) return fits;
  return view;
}

}  // namespace detail
}  // namespace rehyat
