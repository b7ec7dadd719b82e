#pragma once
// Place cells: features each of which answers to the tokens of one place in the frame, and to no others.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "rehyat/train/feature_map.hpp"

namespace rehyat::train::detail {

/// The places of a frame and their cells, in order: one each, or where they outnumber the features, one for
/// every run of neighbours.
struct Places {
  std::int64_t tokens_per_frame = 1, features = 1;

  std::int64_t cells() const { return std::min(tokens_per_frame, features); }
  std::int64_t cell_of(std::int64_t token) const {
    return token % tokens_per_frame * cells() / tokens_per_frame;
  }
};

/// Teaches one side's phi to tell places: each cell is asked of every token whether it is at one of the
/// cell's places, and answers with the logistic function of what the last layer gives, before its activation.
template <class Real, class Algebra = EigenAlgebra<Real>>
class PlaceTeacher {
 public:
  /// Tokens of a block.
  static constexpr std::int64_t rows = 192;

  /// `phi`'s weights must outlive it.
  PlaceTeacher(const Phi<Real>& phi, std::int64_t head_dim, Arena& arena, const Algebra& algebra = {})
      : phi_(with_softplus(phi)),
        features_(phi.map.feature_dim(head_dim)),
        block_(phi_, head_dim, rows, rows, arena, algebra),
        memory_(take<Real>(arena, rows, features_)) {}
  PlaceTeacher(const PlaceTeacher&) = delete;
  PlaceTeacher& operator=(const PlaceTeacher&) = delete;

  /// The sum, over tokens x [n, D] of `head` and the first `cells` outputs, of - log of what the right answer
  /// was given; its derivative is added to `gradient`. Token i is at a place of cell right[i].
  double teach(std::int64_t head, const ConstMatrix<Real>& x, std::span<const std::int64_t> right,
               std::int64_t cells, const PhiGradient<Real>& gradient) {
    // softplus is - log of 1 - the logistic function, which is its derivative
    Matrix<Real> losses(memory_, x.rows(), features_);
    block_.forward(head, x, losses);
    const ConstMatrix<Real> answers = block_.slopes(x.rows());
    double loss = static_cast<double>(losses.leftCols(cells).sum());
    for (std::int64_t i = 0; i < x.rows(); ++i) {
      const std::int64_t cell = right[static_cast<std::size_t>(i)];
      loss -= static_cast<double>(losses(i, cell) + std::log(answers(i, cell)));
    }
    Matrix<Real>& d = losses;
    d.leftCols(cells) = answers.leftCols(cells);
    d.rightCols(features_ - cells).setZero();
    for (std::int64_t i = 0; i < x.rows(); ++i) d(i, right[static_cast<std::size_t>(i)]) -= 1;
    block_.backward(head, x, d, {nullptr, 0, 0}, gradient);
    return loss;
  }

 private:
  /// The same layers, and after them softplus alone, whatever follows in `phi`.
  static Phi<Real> with_softplus(Phi<Real> phi) {
    phi.map.output_activation = Activation::softplus;
    phi.map.degree = 1;
    return phi;
  }

  Phi<Real> phi_;
  std::int64_t features_;
  PhiBlock<Real, Algebra> block_;
  Real* memory_;  ///< [rows, F]
};

}  // namespace rehyat::train::detail
