#pragma once
// Arithmetic::int8 by its definition, in double but for the rounding to bytes that it stands for.

#include <cmath>

#include "plain_int8_linear.hpp"
#include "reference.hpp"

namespace rehyat::reference {

inline constexpr Index int8_key_block = 128;
inline constexpr Index int8_centre_step = 7;

/// The softmax branch of one head's queries: for each, its maximum, the sum of its weights and its numerator.
struct Int8Softmax {
  Vector row_max, row_sum;
  Matrix numerator;

  Int8Softmax(Index queries, Index value_dim)
      : row_max(Vector::Constant(queries, -std::numeric_limits<double>::infinity())),
        row_sum(Vector::Zero(queries)),
        numerator(Matrix::Zero(queries, value_dim)) {}

  /// Keys and values of one range.
  void add(const Matrix& scaled_q, const Matrix& k, const Matrix& v) {
    if (k.rows() == 0) return;
    Eigen::RowVectorXd centre = Eigen::RowVectorXd::Zero(k.cols());
    for (Index j = 0; j < k.rows(); j += int8_centre_step) centre += k.row(j);
    centre /= static_cast<double>(ceil_div(k.rows(), int8_centre_step));
    const Matrix q = rows_as_int8(scaled_q);
    const Vector of_centre = scaled_q * centre.transpose();
    for (Index j = 0; j < k.rows(); j += int8_key_block) {
      const Index count = std::min(int8_key_block, k.rows() - j);
      const Matrix rest = rows_as_int8(k.middleRows(j, count).rowwise() - centre);
      add_block((q * rest.transpose()).colwise() + of_centre,
                rows_as_int8(v.middleRows(j, count).transpose()).transpose());
    }
  }

 private:
  void add_block(const Matrix& scores, const Matrix& v) {
    for (Index r = 0; r < scores.rows(); ++r) {
      const double block_max = scores.row(r).maxCoeff(), now = std::max(row_max(r), block_max);
      const double earlier = std::exp(row_max(r) - now), here = std::exp(block_max - now);
      const Eigen::RowVectorXd weights =
          scores.row(r).unaryExpr([&](double s) { return std::exp(s - block_max); });
      const Eigen::RowVectorXd bytes =
          weights.unaryExpr([](double w) { return std::nearbyint(255 * w) / 255; });
      row_sum(r) = earlier * row_sum(r) + here * weights.sum();
      numerator.row(r) = earlier * numerator.row(r) + here * (bytes * v);
      row_max(r) = now;
    }
  }
};

/// by_sums in int8, but for the update of the sums, whose blocks are not the schedule's. Ranges of keys are
/// cut before a chunk's first query.
inline Output plain_int8(const Case& c) {
  const Inputs& in = c.inputs;
  AllFeatures phi(in, c.model);
  const bool separate = !in.given_q_denominator.empty();  // then features are given
  phi.q = int8_features(in.q, c.model.phi_q, in.given_q);
  phi.k = int8_features(in.k, c.model.phi_k, in.given_k);
  if (!separate) phi.q_denominator = phi.q, phi.k_denominator = phi.k;
  const auto rows = [](const Array<double>& array, Index head, const std::vector<Index>& tokens) -> Matrix {
    if (array.empty()) return Matrix::Zero(static_cast<Index>(tokens.size()), array.dim);
    return head_matrix(array, head)(tokens, Eigen::all);
  };
  Output out(in.q.tokens, in.q.heads, in.v.dim);
  for (const KeySets& sets : c.chunks) {
    if (sets.queries.empty()) continue;
    const auto cut = std::lower_bound(sets.softmax.begin(), sets.softmax.end(), sets.queries.front());
    const std::vector<Index> tail(sets.softmax.begin(), cut), now(cut, sets.softmax.end());
    for (Index h = 0; h < in.q.heads; ++h) {
      const Index g = h / (in.q.heads / in.k.heads);
      const Matrix q = rows(in.q, h, sets.queries) * c.model.score_scale(in.q.dim);
      Int8Softmax softmax(q.rows(), in.v.dim);
      softmax.add(q, rows(in.k, g, tail), rows(in.v, g, tail));
      softmax.add(q, rows(in.k, g, now), rows(in.v, g, now));
      Sums sums;
      sums.absorb(rows(phi.k, g, sets.linear), rows(phi.k_denominator, g, sets.linear),
                  rows(in.v, g, sets.linear));
      const Matrix phi_q = rows(phi.q, h, sets.queries);
      Branches linear(q, Matrix::Zero(0, in.k.dim), Matrix::Zero(0, in.v.dim), 1, phi_q,
                      rows(phi.q_denominator, h, sets.queries), sums);
      if (!sums.empty()) linear.linear_numerator = int8_read(phi_q, sums.A);
      for (Index r = 0; r < q.rows(); ++r) {
        SoftmaxRow row{softmax.row_max(r), softmax.row_sum(r)};
        if (!sets.softmax.empty()) row.numerator = softmax.numerator.row(r);
        join(row, linear.linear_numerator.row(r), linear.linear_denominator(r), c.model,
             sets.queries[static_cast<std::size_t>(r)], h, out);
      }
    }
  }
  return out;
}

}  // namespace rehyat::reference
