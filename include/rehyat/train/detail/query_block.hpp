#pragma once
// A block of queries of one head: softmax over key blocks with a running maximum, the joint normalisation,
// and the gradients of both, for which the scores are computed once more.

#include <algorithm>
#include <cmath>
#include <limits>

#include "rehyat/train/detail/features.hpp"

namespace rehyat::train::detail {

/// One value a query of the block.
template <class Real>
struct Rows {
  Real* row_max = nullptr;
  std::int64_t* first_max = nullptr;  ///< the first key that attains it
  Real* row_sum = nullptr;            ///< of exp(score - row_max)
  Real* shift = nullptr;              ///< c: softmax weights are exp(score - c)
  Real* linear_factor = nullptr;      ///< g: what the linear branch is multiplied with
  Real* inverse = nullptr;            ///< 1 / denominator
  Real* moves = nullptr;              ///< 1, or 0 where the floor holds the denominator
  Real* d_denominator = nullptr;
  Real* d_max = nullptr;

  explicit Rows(Arena& arena) {
    for (Real** row :
         {&row_max, &row_sum, &shift, &linear_factor, &inverse, &moves, &d_denominator, &d_max}) {
      *row = take<Real>(arena, block_tokens);
    }
    first_max = reinterpret_cast<std::int64_t*>(take<double>(arena, block_tokens));
  }
};

template <class Real>
class QueryBlock {
 public:
  QueryBlock(const HybridAttention<Real>& p, Arena& arena)
      : p_(&p),
        rows_(arena),
        scale_(p.scale ? *p.scale : 1 / std::sqrt(static_cast<Real>(p.q.dim))),
        query_(take<Real>(arena, block_tokens, p.q.dim)),
        scaled_query_(take<Real>(arena, block_tokens, p.q.dim)),
        d_query_(take<Real>(arena, block_tokens, p.q.dim)),
        key_(take<Real>(arena, block_tokens, p.q.dim)),
        d_key_(take<Real>(arena, block_tokens, p.q.dim)),
        value_(take<Real>(arena, block_tokens, p.v.dim)),
        d_value_(take<Real>(arena, block_tokens, p.v.dim)),
        out_(take<Real>(arena, block_tokens, p.v.dim)),
        linear_(take<Real>(arena, block_tokens, p.v.dim)),
        d_numerator_(take<Real>(arena, block_tokens, p.v.dim)),
        weight_(take<Real>(arena, block_tokens, block_tokens)),
        d_score_(take<Real>(arena, block_tokens, block_tokens)) {}

  const Rows<Real>& rows() const { return rows_; }
  Matrix<Real> query() const { return {query_, at_.count, p_->q.dim}; }
  Matrix<Real> d_query() const { return {d_query_, at_.count, p_->q.dim}; }
  Matrix<Real> out() const { return {out_, at_.count, p_->v.dim}; }
  /// The gradient with respect to the linear branch's numerator.
  Matrix<Real> d_linear() const { return {linear_, at_.count, p_->v.dim}; }

  void start(const Tokens& at) {
    at_ = at;
    load(p_->q, at, query_);
    scaled_query() = scale_ * query();
  }

  /// Row maxima, row sums and sum exp(score - row_max) v over all softmax keys, in tokens of kv head `g`.
  void attend(const Range& keys, std::int64_t g) {
    std::fill_n(rows_.row_max, at_.count, -std::numeric_limits<Real>::infinity());
    std::fill_n(rows_.row_sum, at_.count, Real(0));
    std::fill_n(rows_.first_max, at_.count, keys.begin);
    out().setZero();
    for_each_block(keys, g, [&](const Tokens& k) {
      const Matrix<Real> w = scores(k);
      for (std::int64_t i = 0; i < at_.count; ++i) raise_max(i, w, k.begin);
      add_product(out(), w, load(p_->v, k, value_));
    });
    for (std::int64_t i = 0; i < at_.count; ++i) {  // all scores -inf: 0 / 0 it is
      if (rows_.row_max[i] == -std::numeric_limits<Real>::infinity()) {
        rows_.row_sum[i] = std::numeric_limits<Real>::quiet_NaN();
      }
    }
  }

  /// Adds the linear branch, if there is one, and divides: out() is then the output.
  void join(const Sums<Real>* sums, const FeatureBlock<Real>& features) {
    Matrix<Real> linear(linear_, at_.count, p_->v.dim);
    linear.setZero();
    if (sums != nullptr) add_product(linear, features.numerator(), sums->A());
    for (std::int64_t i = 0; i < at_.count; ++i) {
      const Real linear_sum = sums != nullptr ? features.denominator().row(i).dot(sums->z()) : Real(0);
      choose_shift(i, linear_sum, linear);
      const Real factor = std::exp(rows_.row_max[i] - rows_.shift[i]), g = rows_.linear_factor[i];
      const Real sum = factor * rows_.row_sum[i] + g * linear_sum + p_->denominator_epsilon;
      const bool held = std::abs(sum) < p_->denominator_floor;
      rows_.moves[i] = held ? Real(0) : Real(1);
      rows_.inverse[i] = 1 / (held ? std::copysign(p_->denominator_floor, sum) : sum);
      out().row(i) = (factor * out().row(i) + g * linear.row(i)) * rows_.inverse[i];
    }
  }

  /// From d_out, the gradients with respect to numerators and denominators of both branches.
  void start_gradient(const TensorView<const Real>& d_out) {
    const Matrix<Real> d_numerator = load(d_out, at_, d_numerator_);
    for (std::int64_t i = 0; i < at_.count; ++i) {
      const Real along = d_numerator.row(i).dot(out().row(i));
      rows_.d_denominator[i] = -along * rows_.inverse[i] * rows_.moves[i];
      d_numerator_block().row(i) *= rows_.inverse[i];
      d_linear().row(i) = rows_.linear_factor[i] * d_numerator.row(i);
    }
    d_query().setZero();
  }

  /// Adds to d_query() and to the gradients of k and v what comes through the scores. `max_matters`: the
  /// output depends on the row maxima themselves.
  void softmax_gradient(const Range& keys, std::int64_t g, bool max_matters, const HybridGradients<Real>& d) {
    std::fill_n(rows_.d_max, at_.count, Real(0));
    for_each_block(keys, g, [&](const Tokens& k) { block_gradient(k, d); });
    for (std::int64_t i = 0; max_matters && i < at_.count; ++i) {
      const Tokens first{at_.batch_entry, g, rows_.first_max[i], 1};
      d_query().row(i) += rows_.d_max[i] * load(p_->k, first, key_).row(0);
      Matrix<Real> d_key(d_key_, 1, p_->q.dim);
      d_key.row(0) = rows_.d_max[i] * scaled_query().row(i);
      add(d_key, d.k, first);
    }
    d_query() *= scale_;
  }

  /// Adds to the gradients of the features what comes through the linear branch.
  void feature_gradient(const Sums<Real>& sums, const FeatureBlock<Real>& features) const {
    add_product(features.d_numerator(), d_linear(), sums.A().transpose());
    for (std::int64_t i = 0; i < at_.count; ++i) {
      features.d_denominator().row(i) += d_linear_sum(i) * sums.z();
    }
  }

  /// The gradient with respect to a query's linear denominator.
  Real d_linear_sum(std::int64_t i) const { return rows_.linear_factor[i] * rows_.d_denominator[i]; }

 private:
  Matrix<Real> scaled_query() const { return {scaled_query_, at_.count, p_->q.dim}; }
  Matrix<Real> d_numerator_block() const { return {d_numerator_, at_.count, p_->v.dim}; }

  template <class Visit>
  void for_each_block(const Range& keys, std::int64_t g, Visit visit) const {
    for (std::int64_t begin = keys.begin; begin < keys.end; begin += block_tokens) {
      visit(Tokens{at_.batch_entry, g, begin, std::min(block_tokens, keys.end - begin)});
    }
  }

  /// Scores of a key block; its keys are then in key_.
  Matrix<Real> scores(const Tokens& k) const {
    Matrix<Real> s(weight_, at_.count, k.count);
    s.setZero();
    add_product(s, scaled_query(), load(p_->k, k, key_).transpose());
    return s;
  }

  /// Scores of a row to weights relative to its maximum so far; what was summed before is brought to it.
  void raise_max(std::int64_t i, Matrix<Real> s, std::int64_t begin) {
    const Real before = rows_.row_max[i];
    Real largest = before;
    for (std::int64_t j = 0; j < s.cols(); ++j) {
      if (s(i, j) > largest || std::isnan(s(i, j))) {  // what is not greater does not replace the first
        largest = s(i, j);
        rows_.first_max[i] = begin + j;
      }
    }
    if (largest == -std::numeric_limits<Real>::infinity()) {  // -inf - -inf would be NaN
      s.row(i).setZero();
      return;
    }
    const Real factor = std::exp(before - largest);
    s.row(i) = (s.row(i).array() - largest).exp();
    rows_.row_max[i] = largest;
    rows_.row_sum[i] = rows_.row_sum[i] * factor + s.row(i).sum();
    out().row(i) *= factor;
  }

  /// c and g of a row: Stabilizer::none joins by exponents, so that the larger branch is near 1.
  void choose_shift(std::int64_t i, Real linear_sum, const Matrix<Real>& linear) {
    Real& shift = rows_.shift[i];
    shift = rows_.row_max[i];
    rows_.linear_factor[i] = 1;
    if (p_->stabilizer == Stabilizer::row_max) return;
    // g is at most the root of the largest Real, so that its products are finite: enough for the smallest
    // branch that is not zero. One of zeros stays out whatever g is; its gradient is cut there.
    const Real limit = std::log(std::numeric_limits<Real>::max()) / 2;
    Real largest = std::isfinite(linear_sum) ? std::abs(linear_sum) : Real(0);
    for (std::int64_t j = 0; j < linear.cols(); ++j) {
      if (std::isfinite(linear(i, j))) largest = std::max(largest, std::abs(linear(i, j)));
    }
    if (largest > 0 && std::isfinite(shift)) shift = std::max(shift, std::max(std::log(largest), -limit));
    rows_.linear_factor[i] = std::exp(std::min(-shift, limit));
  }

  void block_gradient(const Tokens& k, const HybridGradients<Real>& d) {
    Matrix<Real> w = scores(k);
    const Matrix<Real> key(key_, k.count, p_->q.dim), value = load(p_->v, k, value_);
    Matrix<Real> d_score(d_score_, at_.count, k.count);
    for (std::int64_t i = 0; i < at_.count; ++i) {
      w.row(i) = (w.row(i).array() - rows_.shift[i]).exp();
      d_score.row(i).setConstant(rows_.d_denominator[i]);
    }
    add_product(d_score, d_numerator_block(), value.transpose());
    d_score.array() *= w.array();
    for (std::int64_t i = 0; i < at_.count; ++i) rows_.d_max[i] -= d_score.row(i).sum();

    if (d.q.data != nullptr) add_product(d_query(), d_score, key);
    if (d.k.data != nullptr) {
      Matrix<Real> d_key(d_key_, k.count, p_->q.dim);
      d_key.setZero();
      add_product(d_key, d_score.transpose(), scaled_query());
      add(d_key, d.k, k);
    }
    if (d.v.data == nullptr) return;
    Matrix<Real> d_value(d_value_, k.count, p_->v.dim);
    d_value.setZero();
    add_product(d_value, w.transpose(), d_numerator_block());
    add(d_value, d.v, k);
  }

  const HybridAttention<Real>* p_;
  Tokens at_ = {};
  Rows<Real> rows_;
  Real scale_;
  Real *query_, *scaled_query_, *d_query_, *key_, *d_key_, *value_, *d_value_, *out_, *linear_, *d_numerator_;
  Real *weight_, *d_score_;
};

}  // namespace rehyat::train::detail
