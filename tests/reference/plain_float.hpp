#pragma once
// What anyone would write first: float32, naive loops, no blocking, sums from left to right, the standard
// library's exp and erf. It is the yardstick of tolerances: a kernel may err at most twice as much.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "activation.hpp"
#include "case.hpp"

namespace rehyat::reference {

using Floats = std::vector<float>;

inline float plain_dot(const float* a, const float* b, Index n) {
  float sum = 0;
  for (Index i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// phi of one row of one head.
inline Floats plain_features(Floats x, const FeatureMap& map, Index head) {
  if (map.kind == FeatureMap::Kind::elementwise) {
    for (float& e : x) e = activate(map.output_activation, e);
    return x;
  }
  for (int i = 0; i < map.num_layers; ++i) {
    const DenseLayer& layer = map.layers[i];
    const Index in = static_cast<Index>(x.size());
    Floats y(static_cast<std::size_t>(layer.out_dim));
    for (Index o = 0; o < layer.out_dim; ++o) {
      const Index unit = head * layer.out_dim + o;
      const float sum =
          plain_dot(layer.weight + unit * in, x.data(), in) + (layer.bias ? layer.bias[unit] : 0.0f);
      y[static_cast<std::size_t>(o)] =
          activate(i + 1 < map.num_layers ? map.activation : map.output_activation, sum);
    }
    x = y;
  }
  const std::size_t part = x.size() / static_cast<std::size_t>(map.degree);
  for (std::size_t e = 0; e < x.size(); ++e) x[e] = power(x[e], static_cast<int>(e / part) + 1);
  return x;
}

/// phi of every token and head.
inline Array<float> plain_features(const Array<float>& x, const FeatureMap& map, const Array<float>& given) {
  if (map.kind == FeatureMap::Kind::given) return given;
  Array<float> result(x.tokens, x.heads, map.feature_dim(x.dim));
  for (Index t = 0; t < x.tokens && !result.empty(); ++t) {
    for (Index h = 0; h < x.heads; ++h) {
      const Floats f = plain_features(Floats(x.row(t, h), x.row(t, h) + x.dim), map, h);
      std::copy(f.begin(), f.end(), result.row(t, h));
    }
  }
  return result;
}

/// One clip in float32.
class PlainFloat {
 public:
  explicit PlainFloat(const Case& c)
      : case_(c),
        q_(c.inputs.q.cast<float>()),
        k_(c.inputs.k.cast<float>()),
        v_(c.inputs.v.cast<float>()),
        phi_q_(plain_features(q_, c.model.phi_q, c.inputs.given_q.cast<float>())),
        phi_k_(plain_features(k_, c.model.phi_k, c.inputs.given_k.cast<float>())),
        phi_q_denominator_(c.inputs.given_q_denominator.cast<float>()),
        phi_k_denominator_(c.inputs.given_k_denominator.cast<float>()),
        scale_(static_cast<float>(c.model.score_scale(c.inputs.q.dim))) {
    if (phi_q_denominator_.empty()) phi_q_denominator_ = phi_q_;
    if (phi_k_denominator_.empty()) phi_k_denominator_ = phi_k_;
  }

  Output run() const {
    Output out(q_.tokens, q_.heads, v_.dim);
    for (const KeySets& sets : case_.chunks) {
      for (Index h = 0; h < q_.heads; ++h) {
        const Index g = h / (q_.heads / k_.heads);
        Floats A(static_cast<std::size_t>(phi_k_.dim * v_.dim)),
            z(static_cast<std::size_t>(phi_k_denominator_.dim));
        for (const Index j : sets.linear) absorb(j, g, A, z);
        for (const Index i : sets.queries) attend(sets, i, h, g, A, z, out);
      }
    }
    return out;
  }

 private:
  void absorb(Index j, Index g, Floats& A, Floats& z) const {
    const float* f = phi_k_.row(j, g);
    for (Index e = 0; e < phi_k_.dim; ++e) {
      for (Index d = 0; d < v_.dim; ++d)
        A[static_cast<std::size_t>(e * v_.dim + d)] += f[e] * v_.row(j, g)[d];
    }
    for (Index e = 0; e < phi_k_denominator_.dim; ++e) {
      z[static_cast<std::size_t>(e)] += phi_k_denominator_.row(j, g)[e];
    }
  }

  /// phi_q . A and, as the last element, phi_q . z.
  Floats read(Index i, Index h, const Floats& A, const Floats& z) const {
    Floats linear(static_cast<std::size_t>(v_.dim) + 1);
    for (Index e = 0; e < phi_q_.dim; ++e) {
      for (Index d = 0; d < v_.dim; ++d) {
        linear[static_cast<std::size_t>(d)] +=
            phi_q_.row(i, h)[e] * A[static_cast<std::size_t>(e * v_.dim + d)];
      }
    }
    linear.back() = plain_dot(phi_q_denominator_.row(i, h), z.data(), phi_q_denominator_.dim);
    return linear;
  }

  /// Stabilizer::none: scales the linear branch by exp(-c) and returns c, joining the branches by exponents.
  static float shift_linear(Floats& linear, float row_max) {
    float largest = 0;
    for (const float x : linear) {
      if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
    }
    if (largest == 0 || !std::isfinite(row_max)) return row_max;
    int exponent = 0;
    std::frexp(largest, &exponent);
    const float natural_exponent = static_cast<float>(exponent) * std::numbers::ln2_v<float>;
    const float shift = std::max(row_max, natural_exponent);
    for (float& x : linear) x = std::ldexp(x, -exponent) * std::exp(natural_exponent - shift);
    return shift;
  }

  void attend(const KeySets& sets, Index i, Index h, Index g, const Floats& A, const Floats& z,
              Output& out) const {
    Floats scores;
    float row_max = -std::numeric_limits<float>::infinity();
    for (const Index j : sets.softmax) {
      scores.push_back(scale_ * plain_dot(q_.row(i, h), k_.row(j, g), q_.dim));
      row_max = scores.back() > row_max ? scores.back() : row_max;
    }
    Floats sums(static_cast<std::size_t>(v_.dim) + 1);
    if (!sets.linear.empty()) sums = read(i, h, A, z);
    out.linear_denominator.at(i, h) = sums.back();

    float shift = scores.empty() ? 0.0f : row_max;
    if (!scores.empty() && case_.model.stabilizer == Stabilizer::none) shift = shift_linear(sums, row_max);
    float row_sum = 0;
    for (std::size_t n = 0; n < scores.size(); ++n) {
      const float weight = std::exp(scores[n] - shift);
      const float* value = v_.row(sets.softmax[n], g);
      for (Index d = 0; d < v_.dim; ++d) sums[static_cast<std::size_t>(d)] += weight * value[d];
      sums.back() += weight;
      row_sum += std::exp(scores[n] - row_max);
    }
    const float denominator = case_.model.guarded(sums.back());
    for (Index d = 0; d < v_.dim; ++d) out.y.row(i, h)[d] = sums[static_cast<std::size_t>(d)] / denominator;
    out.row_max.at(i, h) = row_max;
    out.row_sum.at(i, h) = row_sum;
    out.denominator.at(i, h) = sums.back();
    out.shift.at(i, h) = shift;
  }

  const Case& case_;
  Array<float> q_, k_, v_;
  Array<float> phi_q_, phi_k_;
  Array<float> phi_q_denominator_, phi_k_denominator_;
  float scale_;
};

/// The plain float32 answer, its floats held as doubles.
inline Output plain_float(const Case& c) { return PlainFloat(c).run(); }

}  // namespace rehyat::reference
