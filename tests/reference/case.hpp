#pragma once
// What the reference computes from, and what it gives back.

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "array.hpp"
#include "key_sets.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/parameters.hpp"

namespace rehyat::reference {

/// The tensors of one batch entry: q [Nq, H, D], k [Nk, Hkv, D], v [Nk, Hkv, Dv]; given features where a
/// feature map asks for them, those of the denominator only where they differ.
struct Inputs {
  Array<double> q = {}, k = {}, v = {};
  Array<double> given_q = {}, given_k = {};
  Array<double> given_q_denominator = {}, given_k_denominator = {};

  /// Tokens [begin, end) of queries and keys.
  Inputs slice(Index begin, Index end) const {
    return {.q = q.slice(begin, end),
            .k = k.slice(begin, end),
            .v = v.slice(begin, end),
            .given_q = given_q.slice(begin, end),
            .given_k = given_k.slice(begin, end),
            .given_q_denominator = given_q_denominator.slice(begin, end),
            .given_k_denominator = given_k_denominator.slice(begin, end)};
  }
};

/// How two branches become one output.
struct Model {
  FeatureMap phi_q = {}, phi_k = {};
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<double> scale = std::nullopt;
  double denominator_epsilon = 0;
  double denominator_floor = 0;

  double score_scale(Index head_dim) const {
    return scale ? *scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
  }

  /// The denominator that is divided by.
  template <class T>
  T guarded(T denominator) const {
    const T sum = denominator + static_cast<T>(denominator_epsilon);
    const T floor = static_cast<T>(denominator_floor);
    return std::abs(sum) < floor ? std::copysign(floor, sum) : sum;
  }
};

struct Case {
  Inputs inputs;
  Model model;
  std::vector<KeySets> chunks;
};

/// y is [Nq, H, Dv], all else [Nq, H, 1].
struct Output {
  Array<double> y;
  Array<double> row_max;             ///< -inf where the softmax set is empty
  Array<double> row_sum;             ///< of exp(score - row_max)
  Array<double> linear_denominator;  ///< phi_q . z, unshifted
  Array<double> denominator;         ///< after the shift, before epsilon and floor
  Array<double> shift;               ///< the c_i that was used; 0 where the softmax set is empty

  Output() = default;
  Output(Index query_tokens, Index heads, Index value_dim)
      : y(query_tokens, heads, value_dim),
        row_max(query_tokens, heads, 1),
        row_sum(query_tokens, heads, 1),
        linear_denominator(query_tokens, heads, 1),
        denominator(query_tokens, heads, 1),
        shift(query_tokens, heads, 1) {}

  /// Appends the queries of a later chunk.
  void append(const Output& next) {
    for (auto field : {&Output::y, &Output::row_max, &Output::row_sum, &Output::linear_denominator,
                       &Output::denominator, &Output::shift}) {
      this->*field = concatenate(this->*field, next.*field);
    }
  }

  /// What a call would report. With Stabilizer::none the sizes depend on the shift, which implementations
  /// choose.
  DenominatorReport report() const {
    DenominatorReport r;
    for (const double d : denominator.values) {
      const float den = static_cast<float>(d);
      if (std::isnan(den)) {
        ++r.nan_count;
      } else {
        r.smallest = std::min(r.smallest, den);
        r.smallest_magnitude = std::min(r.smallest_magnitude, std::abs(den));
      }
    }
    return r;
  }
};

}  // namespace rehyat::reference
