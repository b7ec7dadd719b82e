#pragma once
// Chunked hybrid attention in double, straight from its definition over sets of keys. Two algebraic forms
// that test each other:
//   by_weights: every weight w_ij on its own, y_i = sum_j w_ij v_j / sum_j w_ij;
//   by_sums:    the linear keys summed first, A = sum_j phi_k(k_j) v_j^T and z = sum_j phi_k(k_j), then read.
// Written to be read, not to be fast.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "case.hpp"
#include "features.hpp"

namespace rehyat::reference {

/// x * exp(-c) without forming exp of a positive number on its own.
inline double times_exp_minus(double x, double c) {
  return std::copysign(std::exp(std::log(std::abs(x)) - c), x);
}

/// Keeps the largest finite magnitude: one infinite channel must not decide the shift of all.
inline void raise_to_magnitude(double& largest, double x) {
  if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
}

/// c_i of a row with softmax keys; `largest_linear` is the size of its linear branch. A row without a finite
/// score keeps its maximum, so that it becomes NaN.
inline double shift_of(Stabilizer stabilizer, double row_max, double largest_linear) {
  if (stabilizer == Stabilizer::row_max || !std::isfinite(row_max)) return row_max;
  return std::max(row_max, std::log(largest_linear));
}

/// The features of both sides; the denominator's own where the caller gave them.
struct AllFeatures {
  Array<double> q, k;
  Array<double> q_denominator, k_denominator;

  explicit AllFeatures(const Inputs& in, const Model& model)
      : q(features(in.q, model.phi_q, in.given_q)),
        k(features(in.k, model.phi_k, in.given_k)),
        q_denominator(in.given_q_denominator.empty() ? q : in.given_q_denominator),
        k_denominator(in.given_k_denominator.empty() ? k : in.given_k_denominator) {}
};

/// One query of by_weights: weights over its softmax and its linear keys, then two weighted means' sums.
inline void attend_by_weights(const Case& c, const AllFeatures& phi, const KeySets& sets, Index i, Index h,
                              Output& out) {
  const Inputs& in = c.inputs;
  const Index g = h / (in.q.heads / in.k.heads);
  const double scale = c.model.score_scale(in.q.dim);
  const auto dot = [&](const Array<double>& a, const Array<double>& b, Index j) {
    return head_matrix(a, h).row(i).dot(head_matrix(b, g).row(j));
  };
  std::vector<double> scores, linear, linear_denominator;
  double row_max = -std::numeric_limits<double>::infinity();
  for (const Index j : sets.softmax) {
    scores.push_back(scale * dot(in.q, in.k, j));
    row_max = scores.back() > row_max || std::isnan(scores.back()) ? scores.back() : row_max;
  }
  double largest = 0;
  for (const Index j : sets.linear) {
    linear.push_back(dot(phi.q, phi.k, j));
    linear_denominator.push_back(dot(phi.q_denominator, phi.k_denominator, j));
    raise_to_magnitude(largest, linear.back());
    raise_to_magnitude(largest, linear_denominator.back());
  }
  const double shift = scores.empty() ? 0 : shift_of(c.model.stabilizer, row_max, largest);
  const bool shifted = c.model.stabilizer == Stabilizer::none && !scores.empty();

  Vector numerator = Vector::Zero(in.v.dim);
  double denominator = 0, row_sum = 0, linear_sum = 0;
  for (std::size_t n = 0; n < scores.size(); ++n) {
    const double weight = std::exp(scores[n] - shift);
    numerator += weight * head_matrix(in.v, g).row(sets.softmax[n]).transpose();
    denominator += weight;
    row_sum += std::exp(scores[n] - row_max);
  }
  for (std::size_t n = 0; n < linear.size(); ++n) {
    const double weight = shifted ? times_exp_minus(linear[n], shift) : linear[n];
    numerator += weight * head_matrix(in.v, g).row(sets.linear[n]).transpose();
    denominator += shifted ? times_exp_minus(linear_denominator[n], shift) : linear_denominator[n];
    linear_sum += linear_denominator[n];
  }
  Eigen::Map<Vector>(out.y.row(i, h), in.v.dim) = numerator / c.model.guarded(denominator);
  out.row_max.at(i, h) = row_max;
  out.row_sum.at(i, h) = row_sum;
  out.linear_denominator.at(i, h) = linear_sum;
  out.denominator.at(i, h) = denominator;
  out.shift.at(i, h) = shift;
}

/// The first form: all weights.
inline Output by_weights(const Case& c) {
  const AllFeatures phi(c.inputs, c.model);
  Output out(c.inputs.q.tokens, c.inputs.q.heads, c.inputs.v.dim);
  for (const KeySets& sets : c.chunks) {
    for (const Index i : sets.queries) {
      for (Index h = 0; h < c.inputs.q.heads; ++h) attend_by_weights(c, phi, sets, i, h, out);
    }
  }
  return out;
}

/// A [F, Dv] and z [F] of one kv head over some keys; nothing where there are none.
struct Sums {
  Matrix A;
  Vector z;

  bool empty() const { return A.size() == 0; }

  /// Adds keys with numerator features `f`, denominator features `f_denominator` and values `v`, a key a row.
  void absorb(const Matrix& f, const Matrix& f_denominator, const Matrix& v) {
    if (f.rows() == 0) return;
    if (empty()) {
      A = Matrix::Zero(f.cols(), v.cols());
      z = Vector::Zero(f_denominator.cols());
    }
    A += f.transpose() * v;
    z += f_denominator.colwise().sum().transpose();
  }
};

/// One head's queries with all that the second form joins. A query a row, except `values`: a softmax key a
/// row.
struct Branches {
  Matrix scores;              ///< [n, |S|]
  Matrix values;              ///< [|S|, Dv]
  Matrix linear_numerator;    ///< [n, Dv]
  Vector linear_denominator;  ///< [n]

  Branches(const Matrix& q, const Matrix& k, const Matrix& v, double scale, const Matrix& fq,
           const Matrix& fq_denominator, const Sums& sums)
      : scores(scale * (q * k.transpose())),
        values(v),
        linear_numerator(Matrix::Zero(q.rows(), v.cols())),
        linear_denominator(Vector::Zero(q.rows())) {
    if (sums.empty()) return;
    linear_numerator = fq * sums.A;
    linear_denominator = fq_denominator * sums.z;
  }
};

/// The softmax branch of one query: of no keys if `numerator` is empty.
struct SoftmaxRow {
  double row_max = -std::numeric_limits<double>::infinity(), row_sum = 0;
  Eigen::RowVectorXd numerator = {};
};

inline SoftmaxRow softmax_row(const Branches& b, Index r) {
  SoftmaxRow row;
  if (b.scores.cols() == 0) return row;
  row.row_max = b.scores.row(r).maxCoeff<Eigen::PropagateNaN>();
  const Eigen::RowVectorXd weights =
      b.scores.row(r).unaryExpr([&](double s) { return std::exp(s - row.row_max); });
  row.row_sum = weights.sum();
  row.numerator = weights * b.values;
  return row;
}

/// Joint normalisation of query `i`, head `h`.
inline void join(const SoftmaxRow& softmax, Eigen::RowVectorXd numerator, double linear_denominator,
                 const Model& model, Index i, Index h, Output& out) {
  double shift = 0, denominator = linear_denominator;
  if (softmax.numerator.size() > 0) {
    double largest = 0;
    raise_to_magnitude(largest, denominator);
    for (const double x : numerator) raise_to_magnitude(largest, x);
    shift = shift_of(model.stabilizer, softmax.row_max, largest);
    if (model.stabilizer == Stabilizer::none) {
      numerator = numerator.unaryExpr([&](double x) { return times_exp_minus(x, shift); }).eval();
      denominator = times_exp_minus(denominator, shift);
    }
    const double softmax_factor = std::exp(softmax.row_max - shift);
    numerator += softmax_factor * softmax.numerator;
    denominator += softmax_factor * softmax.row_sum;
  }
  Eigen::Map<Eigen::RowVectorXd>(out.y.row(i, h), numerator.size()) = numerator / model.guarded(denominator);
  out.row_max.at(i, h) = softmax.row_max;
  out.row_sum.at(i, h) = softmax.row_sum;
  out.linear_denominator.at(i, h) = linear_denominator;
  out.denominator.at(i, h) = denominator;
  out.shift.at(i, h) = shift;
}

/// Row `r` of `b`, written as query `i`, head `h`.
inline void join(const Branches& b, Index r, const Model& model, Index i, Index h, Output& out) {
  join(softmax_row(b, r), b.linear_numerator.row(r), b.linear_denominator(r), model, i, h, out);
}

/// The second form: sums, then read.
inline Output by_sums(const Case& c) {
  const Inputs& in = c.inputs;
  const AllFeatures phi(in, c.model);
  const auto rows = [](const Array<double>& array, Index head, const std::vector<Index>& tokens) -> Matrix {
    if (array.empty()) return Matrix::Zero(static_cast<Index>(tokens.size()), array.dim);
    return head_matrix(array, head)(tokens, Eigen::all);
  };
  Output out(in.q.tokens, in.q.heads, in.v.dim);
  for (const KeySets& sets : c.chunks) {
    for (Index h = 0; h < in.q.heads; ++h) {
      const Index g = h / (in.q.heads / in.k.heads);
      Sums sums;
      sums.absorb(rows(phi.k, g, sets.linear), rows(phi.k_denominator, g, sets.linear),
                  rows(in.v, g, sets.linear));
      const Branches branches(rows(in.q, h, sets.queries), rows(in.k, g, sets.softmax),
                              rows(in.v, g, sets.softmax), c.model.score_scale(in.q.dim),
                              rows(phi.q, h, sets.queries), rows(phi.q_denominator, h, sets.queries), sums);
      for (std::size_t r = 0; r < sets.queries.size(); ++r) {
        join(branches, static_cast<Index>(r), c.model, sets.queries[r], h, out);
      }
    }
  }
  return out;
}

}  // namespace rehyat::reference
