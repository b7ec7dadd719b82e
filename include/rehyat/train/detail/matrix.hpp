#pragma once
// Blocks of tokens as matrices: Eigen over the workspace, and the way between them and the caller's tensors.

#include <Eigen/Core>
#include <cstdint>

#include "rehyat/config.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/workspace.hpp"

#ifdef EIGEN_HAS_OPENMP
#error \
    "define EIGEN_DONT_PARALLELIZE before Eigen is included: with OpenMP its products would start threads inside rehyat's tasks"
#endif

namespace rehyat::train::detail {

using rehyat::detail::Arena;

/// A packed matrix in the workspace, or in the caller's weights. A row is a token.
template <class Real>
using Matrix = Eigen::Map<Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
template <class Real>
using ConstMatrix = Eigen::Map<const Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
template <class Real>
using RowVector = Eigen::Map<Eigen::Matrix<Real, 1, Eigen::Dynamic>>;
template <class Real>
using ConstRowVector = Eigen::Map<const Eigen::Matrix<Real, 1, Eigen::Dynamic>>;

template <class Real>
ConstMatrix<Real> read_only(const Matrix<Real>& m) {
  return {m.data(), m.rows(), m.cols()};
}

/// What the sum of a product starts from: zero, or row i at data + i * stride.
template <class Real>
struct Start {
  const Real* data = nullptr;
  std::int64_t stride = 0;
};
template <class Real>
Start<Real> start_at(const Matrix<Real>& m) {
  return {m.data(), m.cols()};
}

/// Queries and keys in a block: four blocks of 128 doubles and the scores between them fit a cache of 512
/// KiB.
inline constexpr std::int64_t block_tokens = 64;

/// An array in the workspace, aligned to a cache line: where Eigen's loops peel depends on addresses, and
/// bits must not.
template <class Real, class... Counts>
Real* take(Arena& arena, Counts... counts) {
  return reinterpret_cast<Real*>(
      arena.floats(static_cast<std::int64_t>(sizeof(Real) / sizeof(float)), counts...));
}

/// to += left * right, in pieces: both operands' packed copies, at most 96 KiB each, then lie on the stack,
/// where Eigen would allocate them for larger ones. 192 floats or 96 doubles are a multiple of the 3
/// registers that Eigen's kernel takes at a time, and packing a piece is little beside the 192 products of
/// each element.
template <class Real, class Left, class Right>
void add_product(Matrix<Real> to, const Left& left, const Right& right) {
  constexpr std::int64_t most_rows = 768 / static_cast<std::int64_t>(sizeof(Real)), most_columns = most_rows,
                         most_depth = 128;
  const auto least = [](std::int64_t a, std::int64_t b) { return a < b ? a : b; };
  for (std::int64_t i = 0; i < to.rows(); i += most_rows) {
    const std::int64_t rows = least(most_rows, to.rows() - i);
    for (std::int64_t j = 0; j < to.cols(); j += most_columns) {
      const std::int64_t columns = least(most_columns, to.cols() - j);
      for (std::int64_t k = 0; k < left.cols(); k += most_depth) {
        const std::int64_t depth = least(most_depth, left.cols() - k);
        to.block(i, j, rows, columns).noalias() +=
            left.block(i, k, rows, depth) * right.block(k, j, depth, columns);
      }
    }
  }
}

/// Consecutive tokens of one head of one batch entry.
struct Tokens {
  std::int64_t batch_entry, head, begin, count;
};

/// Copies a block of tokens to `memory`.
template <class Real>
Matrix<Real> load(const TensorView<const Real>& view, const Tokens& at, Real* memory) {
  Matrix<Real> block(memory, at.count, view.dim);
  for (std::int64_t i = 0; i < at.count; ++i) {
    block.row(i) = ConstRowVector<Real>(view.row(at.batch_entry, at.begin + i, at.head), view.dim);
  }
  return block;
}

/// view = block; a view without data wants nothing.
template <class Real>
void store(const Matrix<Real>& block, const TensorView<Real>& view, const Tokens& at) {
  for (std::int64_t i = 0; view.data != nullptr && i < at.count; ++i) {
    RowVector<Real>(view.row(at.batch_entry, at.begin + i, at.head), view.dim) = block.row(i);
  }
}

/// view += block; a view without data wants nothing.
template <class Real>
void add(const Matrix<Real>& block, const TensorView<Real>& view, const Tokens& at) {
  for (std::int64_t i = 0; view.data != nullptr && i < at.count; ++i) {
    RowVector<Real>(view.row(at.batch_entry, at.begin + i, at.head), view.dim) += block.row(i);
  }
}

/// view = 0; a view without data wants nothing.
template <class Real>
void set_zero(const TensorView<Real>& view, const Tokens& at) {
  for (std::int64_t i = 0; view.data != nullptr && i < at.count; ++i) {
    RowVector<Real>(view.row(at.batch_entry, at.begin + i, at.head), view.dim).setZero();
  }
}

}  // namespace rehyat::train::detail
