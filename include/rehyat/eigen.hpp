#pragma once

/// @file rehyat/eigen.hpp
/// Views of Eigen's matrices and tensors, whatever has memory of its own: Matrix, Map, Ref, Block, Transpose,
/// Tensor, TensorMap. Eigen is not included: their members will do. Nothing is copied and nothing is owned:
/// the memory must outlive the view.

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "rehyat/detail/axes_view.hpp"
#include "rehyat/element.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"

namespace Eigen {
struct half;
struct bfloat16;
}  // namespace Eigen

namespace rehyat {

template <>
struct ElementTraits<Eigen::half> : StoredAs<ElementType::float16> {};
template <>
struct ElementTraits<Eigen::bfloat16> : StoredAs<ElementType::bfloat16> {};

namespace detail {

/// The elements of what data() points to.
template <class T>
using EigenElement = std::remove_pointer_t<decltype(std::declval<T&>().data())>;

/// Gone when the expression that made it ends, and its elements with it.
template <class T>
inline constexpr bool eigen_temporary = false;
template <class T>
requires(!std::is_reference_v<T> && requires {
  typename T::PlainObject;
}) inline constexpr bool eigen_temporary<T> = std::is_same_v<std::remove_cv_t<T>, typename T::PlainObject>;

}  // namespace detail

/// A matrix expression that lies in memory, as an argument of type T&&.
template <class T>
concept EigenMatrix = Element<detail::EigenElement<T>> && !detail::eigen_temporary<T> && requires(T & m) {
  static_cast<std::int64_t>(m.rows());
  static_cast<std::int64_t>(m.cols());
  static_cast<std::int64_t>(m.innerStride());
  static_cast<std::int64_t>(m.outerStride());
  static_cast<bool>(std::remove_reference_t<T>::IsRowMajor);
};

/// Tensor or TensorMap, as an argument of type T&&. They have no gaps.
template <class T>
concept EigenTensor = Element<detail::EigenElement<T>> && requires(T& t) {
  static_cast<std::int64_t>(t.dimensions()[0]);
  static_cast<int>(std::remove_reference_t<T>::NumDimensions);
  static_cast<int>(std::remove_reference_t<T>::Layout);
};

namespace detail {

/// Eigen's number: ColMajor is 0.
inline constexpr int eigen_row_major = 1;

template <class View, class T>
Result<View> eigen_matrix_view(const char* name, T& m, std::int64_t heads) {
  const auto rows = static_cast<std::int64_t>(m.rows()), columns = static_cast<std::int64_t>(m.cols());
  const auto inner = static_cast<std::int64_t>(m.innerStride()),
             outer = static_cast<std::int64_t>(m.outerStride());
  constexpr bool row_major = static_cast<bool>(std::remove_reference_t<T>::IsRowMajor);
  if (heads < 1 || columns % heads != 0) {
    return Status::error(StatusCode::invalid_argument,
                         "heads is %" PRId64 ", expected a divisor of %s.cols() (%" PRId64 ")", heads, name,
                         columns);
  }
  if (const std::int64_t stride = row_major ? inner : outer; columns > 1 && stride != 1) {
    return Status::error(
        StatusCode::invalid_argument,
        "%s has its columns %" PRId64
        " elements apart, expected 1: a row is a token (a column-major matrix of columns that "
        "are tokens is to be transposed)",
        name, stride);
  }
  const std::int64_t dim = columns / heads;
  const AxesShape shape{.size = {1, rows, heads, dim}, .stride = {0, row_major ? outer : inner, dim, 1}};
  return view_of_axes<View>(name, m.data(), element_type_of<EigenElement<T>>, shape,
                            TensorAxes::token_head_dim);
}

template <class View, class T>
Result<View> eigen_tensor_view(const char* name, T& t, TensorAxes axes) {
  constexpr int rank = static_cast<int>(std::remove_reference_t<T>::NumDimensions);
  constexpr bool row_major = static_cast<int>(std::remove_reference_t<T>::Layout) == eigen_row_major;
  static_assert(rank == 3 || rank == 4,
                "expected [batch,] token, head, dim, or that backwards if column-major");
  AxesShape shape;
  std::int64_t packed = 1;
  for (int i = 3; i >= 4 - rank; --i) {  // from the innermost dimension on
    const auto dimension = static_cast<std::size_t>(row_major ? i - (4 - rank) : 3 - i);
    shape.size[i] = static_cast<std::int64_t>(t.dimensions()[dimension]);
    shape.stride[i] = packed;
    packed *= shape.size[i] > 1 ? shape.size[i] : 1;  // it is in memory: its size does not overflow
  }
  return view_of_axes<View>(name, t.data(), element_type_of<EigenElement<T>>, shape, axes);
}

}  // namespace detail

/// A matrix of one batch entry as an input. A row is a token, its columns are [head, dim], side by side: row
/// major, or a column-major matrix of columns transposed: eigen_input(columns.transpose(), ...). Rows may be
/// any stride apart. Refused, naming it by `name`: columns that are not side by side, `heads` that do not
/// divide them.
template <EigenMatrix T>
Result<InputView> eigen_input(T&& matrix, const char* name, std::int64_t heads = 1) {
  return detail::eigen_matrix_view<InputView>(name, matrix, heads);
}

/// The same as an output: the elements are not const, every one has its own address.
template <EigenMatrix T>
requires(!std::is_const_v<detail::EigenElement<T>>) Result<OutputView> eigen_output(T&& matrix,
                                                                                    const char* name,
                                                                                    std::int64_t heads = 1) {
  return detail::eigen_matrix_view<OutputView>(name, matrix, heads);
}

/// A tensor of 3 or 4 dimensions as an input. Row-major, they are in the order of `axes`; column-major,
/// Eigen's default, in the opposite order, [dim, head, token, batch] or [dim, token, head, batch]: dim is
/// always the one whose elements lie side by side.
template <EigenTensor T>
Result<InputView> eigen_input(T&& tensor, const char* name, TensorAxes axes = TensorAxes::token_head_dim) {
  return detail::eigen_tensor_view<InputView>(name, tensor, axes);
}

/// The same as an output.
template <EigenTensor T>
requires(!std::is_const_v<detail::EigenElement<T>>) Result<OutputView> eigen_output(
    T&& tensor, const char* name, TensorAxes axes = TensorAxes::token_head_dim) {
  return detail::eigen_tensor_view<OutputView>(name, tensor, axes);
}

}  // namespace rehyat
