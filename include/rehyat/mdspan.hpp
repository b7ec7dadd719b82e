#pragma once

/// @file rehyat/mdspan.hpp
/// Views of std::mdspan, where the standard library has it (C++23), and of any class with its members, such
/// as the reference implementation for C++20. Nothing is copied and nothing is owned.

#include <cinttypes>
#include <cstdint>
#include <type_traits>

#include "rehyat/detail/axes_view.hpp"
#include "rehyat/element.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat {

/// An mdspan of 3 or 4 dimensions whose elements are in memory as they are: its accessor gives references.
template <class T>
concept Mdspan = Element<typename T::element_type> &&(T::rank() == 3 || T::rank() == 4) &&
                 requires(const T& m) {
  static_cast<std::int64_t>(m.extent(0));
  static_cast<std::int64_t>(m.stride(0));
  static_cast<bool>(m.is_strided());
  requires std::is_same_v<typename T::reference, typename T::element_type&>;
  requires std::is_same_v<typename T::data_handle_type, typename T::element_type*>;
};

namespace detail {

template <class View, Mdspan T>
Result<View> mdspan_view(const char* name, const T& m, TensorAxes axes) {
  if (!m.is_strided()) {
    return Status::error(StatusCode::invalid_argument, "%s.is_strided() is false, expected true", name);
  }
  constexpr int rank = static_cast<int>(T::rank()), first = 4 - rank;
  AxesShape shape;
  for (int i = first; i < 4; ++i) {
    const auto dimension = static_cast<typename T::rank_type>(i - first);
    shape.size[i] = static_cast<std::int64_t>(m.extent(dimension));
    shape.stride[i] = static_cast<std::int64_t>(m.stride(dimension));
    if (shape.size[i] < 0) {
      return Status::error(StatusCode::invalid_argument,
                           "%s.extent(%d) is %" PRId64 ", expected what an int64 holds", name, i - first,
                           shape.size[i]);
    }
  }
  if (shape.size[3] > 1 && shape.stride[3] != 1) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.stride(%d) is %" PRId64 ", expected 1: the elements of a row side by side", name,
                         rank - 1, shape.stride[3]);
  }
  return view_of_axes<View>(name, m.data_handle(), element_type_of<typename T::element_type>, shape, axes);
}

}  // namespace detail

/// An mdspan as an input, its dimensions in the order of `axes`. layout_right has the last of them side by
/// side, as it must be; layout_stride may have any strides before it; layout_left is refused unless dim is 1.
/// `name` is what a refusal calls it.
template <Mdspan T>
Result<InputView> mdspan_input(const T& span, const char* name,
                               TensorAxes axes = TensorAxes::token_head_dim) {
  return detail::mdspan_view<InputView>(name, span, axes);
}

/// The same as an output: its elements are not const, every one has its own address.
template <Mdspan T>
requires(!std::is_const_v<typename T::element_type>) Result<OutputView> mdspan_output(
    const T& span, const char* name, TensorAxes axes = TensorAxes::token_head_dim) {
  return detail::mdspan_view<OutputView>(name, span, axes);
}

}  // namespace rehyat
