#include "agreement.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "moved_case.hpp"
#include "reference/plain_float.hpp"
#include "reference/reference.hpp"
#include "support/random.hpp"

namespace rehyat::fuzz {
namespace {

using reference::Array;
using reference::Case;
using reference::Index;
using reference::KeySets;
using reference::Output;

constexpr double largest_input = 1e4, least_linear = 1e-12, largest_linear = 1e20;
constexpr double floor_of_error = 4e-6, ill_conditioned = 0.1;
constexpr int draws = 12;

bool has_nonfinite(const Array<double>& a, Index token, Index head) {
  return !a.empty() && !std::all_of(a.row(token, head), a.row(token, head) + a.dim,
                                    [](double x) { return std::isfinite(x); });
}

/// Whether a key reaches every channel of the rows that attend to it.
bool key_reaches(const Case& c, Index key, Index head, bool linear) {
  if (!linear || c.model.phi_k.kind != FeatureMap::Kind::given) return has_nonfinite(c.inputs.k, key, head);
  return has_nonfinite(c.inputs.given_k, key, head) || has_nonfinite(c.inputs.given_k_denominator, key, head);
}

bool query_reaches(const Case& c, const KeySets& sets, Index query, Index head) {
  const bool given = c.model.phi_q.kind == FeatureMap::Kind::given, linear = !sets.linear.empty();
  const bool reads_q = !sets.softmax.empty() || (linear && !given);
  return (reads_q && has_nonfinite(c.inputs.q, query, head)) ||
         (linear && given &&
          (has_nonfinite(c.inputs.given_q, query, head) ||
           has_nonfinite(c.inputs.given_q_denominator, query, head)));
}

/// What the keys of one chunk do to the channels of its rows.
std::vector<char> reach_of_keys(const Case& c, const KeySets& sets, Index kv_head) {
  const Array<double>& v = c.inputs.v;
  std::vector<char> channels(static_cast<std::size_t>(v.dim));
  for (const bool linear : {false, true}) {
    for (const Index key : linear ? sets.linear : sets.softmax) {
      const bool all = key_reaches(c, key, kv_head, linear);
      for (Index d = 0; d < v.dim; ++d) {
        if (all || !std::isfinite(v.row(key, kv_head)[d])) channels[static_cast<std::size_t>(d)] = 1;
      }
    }
  }
  return channels;
}

/// The reference's gelu cancels to 0 far left, where a feature is small but not 0.
bool uses_gelu(const FeatureMap& map) {
  if (map.kind == FeatureMap::Kind::elementwise) return map.output_activation == Activation::gelu;
  return map.kind == FeatureMap::Kind::polynomial &&
         (map.output_activation == Activation::gelu || map.activation == Activation::gelu);
}

double largest_finite(const Case& c) {
  double largest = 0;
  const reference::Inputs& in = c.inputs;
  for (const auto* a :
       {&in.q, &in.k, &in.v, &in.given_q, &in.given_k, &in.given_q_denominator, &in.given_k_denominator}) {
    for (const double x : a->values) largest = std::max(largest, std::isfinite(x) ? std::abs(x) : 0.0);
  }
  return largest;
}

/// Compares a batch entry's rows with the reference.
class Comparison {
 public:
  explicit Comparison(const Case& c)
      : case_(c),
        exact_(reference::by_sums(c)),
        plain_(reference::plain_float(c)),
        reached_(reached_by_nonfinite(c)) {}

  void expect_near(const char* name, const Array<double>& actual, Array<double> Output::*field) {
    if (actual.empty()) return;
    ASSERT_EQ(actual.values.size(), (exact_.*field).values.size()) << name;
    for (Index i = 0; i < actual.tokens; ++i) {
      for (Index h = 0; h < actual.heads; ++h) {
        if (has_promise(i, h, field)) expect_row_near(name, actual, field, i, h);
      }
    }
  }

  void expect_reached(const Array<double>& y) const {
    for (std::size_t e = 0; e < y.values.size(); ++e) {
      EXPECT_TRUE(reached_.values[e] == 0 || !std::isfinite(y.values[e]))
          << "element " << e << " of out is " << y.values[e] << ", but a NaN or infinity reaches it";
    }
  }

 private:
  bool skips(Index i, Index h, Index d, Array<double> Output::*field) const {
    return field == &Output::y && reached_.row(i, h)[d] != 0;
  }

  bool has_promise(Index i, Index h, Array<double> Output::*field) const {
    const bool all_reached =
        std::all_of(reached_.row(i, h), reached_.row(i, h) + reached_.dim, [](char r) { return r != 0; });
    const double linear = std::abs(exact_.linear_denominator.at(i, h));
    if (linear == 0 && (uses_gelu(case_.model.phi_q) || uses_gelu(case_.model.phi_k))) return false;
    if (all_reached || !(linear == 0 || (linear >= least_linear && linear <= largest_linear))) return false;
    for (Index d = 0; d < (exact_.*field).dim; ++d) {
      const double exact = (exact_.*field).row(i, h)[d], plain = (plain_.*field).row(i, h)[d];
      const bool no_keys = exact == plain && field == &Output::row_max;  // a maximum of -inf
      if (!skips(i, h, d, field) && !no_keys && !(std::isfinite(exact) && std::isfinite(plain))) return false;
    }
    return true;
  }

  /// Largest difference of two rows; infinity where only one is finite.
  double difference(const Array<double>& a, const Array<double>& b, Index i, Index h,
                    Array<double> Output::*field) const {
    double largest = 0;
    for (Index d = 0; d < a.dim; ++d) {
      const double x = a.row(i, h)[d], y = b.row(i, h)[d];
      if (skips(i, h, d, field) || x == y) continue;
      const double by = std::abs(x - y);
      largest = std::max(largest, std::isnan(by) ? std::numeric_limits<double>::infinity() : by);
    }
    return largest;
  }

  void expect_row_near(const char* name, const Array<double>& actual, Array<double> Output::*field, Index i,
                       Index h) {
    const Array<double>&exact = exact_.*field, &plain = plain_.*field;
    double scale = std::numeric_limits<float>::min();
    for (Index d = 0; d < exact.dim; ++d) {
      const double x = std::abs(exact.row(i, h)[d]);
      if (!skips(i, h, d, field) && std::isfinite(x)) scale = std::max(scale, x);
    }
    const double error = difference(actual, exact, i, h, field);
    double allowed = 2 * difference(plain, exact, i, h, field) + floor_of_error * scale;
    if (error <= allowed) return;  // nearly always, so what costs time is left to the rest
    const Terms terms = terms_of(i, h, field);
    double moved = floor_of_error * terms.size;
    for (const Output& m : moved_outputs()) moved = std::max(moved, difference(m.*field, exact, i, h, field));
    allowed += moved + terms.underflow;
    EXPECT_TRUE(error <= allowed || !(moved <= ill_conditioned * scale))
        << name << " of token " << i << ", head " << h << " is off by " << error << " (largest magnitude "
        << scale << "), allowed " << allowed;
  }

  /// What is known of an output, a linear denominator or a maximum besides its value.
  struct Terms {
    double size = 0;       ///< what would be in its place if no two of its terms cancelled
    double underflow = 0;  ///< what goes missing where numbers below 2^-126 are rounded or count as 0
  };

  Terms terms_of(Index i, Index h, Array<double> Output::*field) const {
    const reference::Inputs& in = case_.inputs;
    const Index g = h / (in.q.heads / in.k.heads);
    const KeySets& sets = *std::find_if(case_.chunks.begin(), case_.chunks.end(), [&](const KeySets& s) {
      return std::binary_search(s.queries.begin(), s.queries.end(), i);
    });
    const reference::AllFeatures phi(in, case_.model);
    const Sizes denominator(phi.q_denominator, phi.k_denominator, i, h, g, sets.linear);
    constexpr double least = std::numeric_limits<float>::min(),
                     step = std::numeric_limits<float>::denorm_min();
    if (field == &Output::linear_denominator) return {denominator.products, least * denominator.factors};
    if (field == &Output::row_max) return {0, step * rounded_in_score(g, sets.softmax)};
    if (field != &Output::y) return {};

    const Sizes numerator(phi.q, phi.k, i, h, g, sets.linear);
    double value = 0, y = 0;
    for (Index d = 0; d < in.v.dim; ++d) {
      if (skips(i, h, d, field)) continue;
      y = std::max(y, std::abs(exact_.y.row(i, h)[d]));
      for (const auto* keys : {&sets.softmax, &sets.linear}) {
        for (const Index j : *keys) value = std::max(value, std::abs(in.v.row(j, g)[d]));
      }
    }
    const bool joined = !sets.softmax.empty();
    const double shift = exact_.shift.at(i, h), count = static_cast<double>(sets.softmax.size());
    const double linear = joined && case_.model.stabilizer == Stabilizer::none ? std::exp(-shift) : 1;
    const double softmax = joined ? exact_.row_sum.at(i, h) * std::exp(exact_.row_max.at(i, h) - shift) : 0;
    const double divisor = std::abs(case_.model.guarded(exact_.denominator.at(i, h)));
    const double size =
        (value * numerator.products + y * denominator.products) * linear + (value + y) * softmax;
    const double factors = (numerator.factors + denominator.factors) * linear + count + 1;
    return {size / divisor, (least * (value + y) + step) * factors / divisor + step};
  }

  /// How often 2^-149 a score may be off where the scaled query or the products are subnormal.
  double rounded_in_score(Index g, const std::vector<Index>& keys) const {
    const Array<double>& k = case_.inputs.k;
    double largest = 0;
    for (const Index j : keys) {
      double size = 0;
      for (Index d = 0; d < k.dim; ++d) size += std::abs(k.row(j, g)[d]) + 1;
      largest = std::max(largest, size);
    }
    return largest;
  }

  /// Sums of magnitudes over some keys: |phi_q| . |phi_k|, and of every factor by itself.
  struct Sizes {
    double products = 0, factors = 0;

    Sizes(const Array<double>& q, const Array<double>& k, Index i, Index h, Index g,
          const std::vector<Index>& keys) {
      if (keys.empty()) return;
      const auto query = reference::head_matrix(q, h).row(i).cwiseAbs();
      for (const Index j : keys) {
        const auto key = reference::head_matrix(k, g).row(j).cwiseAbs();
        products += query.dot(key);
        factors += query.sum() + key.sum();
      }
    }
  };

  const std::vector<Output>& moved_outputs() {
    support::Random random(1);
    while (moved_.size() < draws) moved_.push_back(reference::by_sums(Moved(case_, random).get()));
    return moved_;
  }

  const Case& case_;
  Output exact_, plain_;
  Array<char> reached_;
  std::vector<Output> moved_;
};

}  // namespace

Array<char> reached_by_nonfinite(const Case& c) {
  const reference::Inputs& in = c.inputs;
  Array<char> reached(in.q.tokens, in.q.heads, in.v.dim);
  for (const KeySets& sets : c.chunks) {
    for (Index h = 0; h < in.q.heads; ++h) {
      const std::vector<char> channels = reach_of_keys(c, sets, h / (in.q.heads / in.k.heads));
      for (const Index i : sets.queries) {
        std::copy(channels.begin(), channels.end(), reached.row(i, h));
        if (query_reaches(c, sets, i, h)) std::fill_n(reached.row(i, h), in.v.dim, 1);
      }
    }
  }
  return reached;
}

void expect_agreement(const Case& c, const EntryOutput& actual) {
  if (c.inputs.q.tokens == 0) return;
  Comparison comparison(c);
  comparison.expect_reached(actual.y);
  if (largest_finite(c) > largest_input) return;
  comparison.expect_near("out", actual.y, &Output::y);
  comparison.expect_near("row_max", actual.row_max, &Output::row_max);
  comparison.expect_near("row_sum", actual.row_sum, &Output::row_sum);
  comparison.expect_near("linear_denominator", actual.linear_denominator, &Output::linear_denominator);
}

}  // namespace rehyat::fuzz
