#pragma once
// The memory of one call: every input and output in strided memory of its own, all of which is looked at
// afterwards.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "agreement.hpp"
#include "byte_reader.hpp"
#include "reference/case_of.hpp"
#include "rehyat/packed_weights.hpp"
#include "strided_memory.hpp"
#include "support/element_tensor.hpp"

namespace rehyat::fuzz {

/// Calls visit(view) for every input of operator parameters or of a chunk.
template <class P, class F>
void for_each_input(P& p, F visit) {
  visit(p.q), visit(p.k), visit(p.v);
  if constexpr (requires { p.given; }) {
    visit(p.given.q), visit(p.given.k), visit(p.given.q_denominator), visit(p.given.k_denominator);
  }
}

/// The same for every output.
template <class P, class F>
void for_each_output(P& p, F visit) {
  visit(p.out), visit(p.statistics.row_max), visit(p.statistics.row_sum),
      visit(p.statistics.linear_denominator);
}

inline ElementType choose_element(ByteReader& bytes) {
  return bytes.pick(
      {ElementType::float32, ElementType::float32, ElementType::bfloat16, ElementType::float16});
}

/// Element types of the inputs, in the order of for_each_input.
struct InputTypes {
  std::array<ElementType, 7> of = {};

  static InputTypes choose(ByteReader& bytes) {
    InputTypes types;
    for (ElementType& type : types.of) type = choose_element(bytes);
    return types;
  }
};

/// A packed view of float32.
inline InputView packed_view(const std::vector<float>& values, const InputView& shape) {
  return TensorView<const float>::token_major(values.data(), shape.batch, shape.tokens, shape.heads,
                                              shape.dim);
}

/// The tokens of each batch entry that a call writes.
struct ValidTokens {
  std::vector<std::int64_t> counts;

  template <class P>
  static ValidTokens of(const P& p) {
    const detail::Problem problem = detail::problem_of(p);
    ValidTokens valid;
    for (std::int64_t b = 0; b < p.q.batch; ++b)
      valid.counts.push_back(problem.units_of_queries(b) * problem.unit());
    return valid;
  }
  bool operator()(std::int64_t b, std::int64_t token) const {
    return token < counts[static_cast<std::size_t>(b)];
  }
};

class OperatorMemory {
 public:
  DenominatorReport report = {};

  /// Parameters with the same inputs as `packed`, elsewhere and of other types, and with outputs. `packed` is
  /// given the values that the views show, in memory that lives here: rounded and, unless all elements are to
  /// be `distinct`, with strides that make some of them share an address.
  template <class P>
  P lay_out(ByteReader& bytes, P& packed, const InputTypes& types, bool distinct) {
    P p = packed;
    std::size_t i = 0;
    for_each_input(packed, [&](InputView& view) {
      if (view.data != nullptr) lay_out_input(bytes, view, types.of[i], distinct);
      strided_[i++] = view.data == nullptr ? view : inputs_.back().view();
    });
    i = 0;
    for_each_input(p, [&](InputView& view) { view = strided_[i++]; });
    lay_out_outputs(bytes, p);
    return p;
  }

  /// Weights in panels, on some inputs.
  template <class P>
  void repack(ByteReader& bytes, P& p) {
    if constexpr (requires { p.phi_q; }) {
      if (p.phi_q.kind != FeatureMap::Kind::polynomial || !bytes.coin()) return;
      const std::size_t shift = static_cast<std::size_t>(bytes.integer(0, 3));
      for (FeatureMap* map : {&p.phi_q, &p.phi_k}) {
        const Result<std::size_t> size = packed_weights_size(*map, p.q.dim);
        EXPECT_TRUE(size.ok()) << size.status().message();
        const Result<FeatureMap> packed =
            pack_weights(*map, p.q.dim, weights_.emplace_back(*size, shift).workspace());
        EXPECT_TRUE(packed.ok()) << packed.status().message();
        *map = *packed;
      }
    }
  }

  /// Counts in memory that ends with the last.
  std::span<const std::int64_t> exact(std::span<const std::int64_t> counts) {
    return counts_.emplace_back(counts.begin(), counts.end());
  }

  /// Whether all views of `p` stay within what was laid out here.
  template <class P>
  bool holds(P& p) const {
    bool held = true;
    const auto look = [&](const auto& view) {
      const auto has_it = [&](const StridedTensor& t) { return t.holds(view); };
      held = held && (view.data == nullptr || Reach(view).empty() ||
                      std::any_of(inputs_.begin(), inputs_.end(), has_it) ||
                      std::any_of(outputs_.begin(), outputs_.end(), has_it));
    };
    for_each_input(p, look);
    for_each_output(p, look);
    return held;
  }

  bool inputs_unchanged() const {
    return std::all_of(inputs_.begin(), inputs_.end(), [](const StridedTensor& t) { return t.unchanged(); });
  }
  bool outputs_unchanged() const {
    return std::all_of(outputs_.begin(), outputs_.end(),
                       [](const StridedTensor& t) { return t.unchanged(); });
  }

  /// Whether nothing of the outputs changed but the valid rows of the views of `p`.
  template <class P, class F>
  bool outputs_unchanged_outside(P& p, const F& valid) const {
    return std::all_of(outputs_.begin(), outputs_.end(), [&](const StridedTensor& t) {
      bool unchanged = true, seen = false;
      for_each_output(p, [&](const auto& view) {
        if (view.data == nullptr || !t.holds(view)) return;
        unchanged = t.unchanged_outside(view, valid);
        seen = true;
      });
      return seen ? unchanged : t.unchanged();
    });
  }

 private:
  /// Copies a tensor of float32, which becomes a packed view of the copy.
  void lay_out_input(ByteReader& bytes, InputView& view, ElementType type, bool distinct) {
    std::vector<float>& values = packed_.emplace_back();
    for_each_row(view, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
      const float* const row = static_cast<const float*>(view.row(b, t, h));
      values.insert(values.end(), row, row + view.dim);
    });
    values.reserve(1);  // a tensor without elements has an address too
    inputs_.emplace_back(bytes, view, type, distinct).assign(values);
    view = packed_view(values, view);
  }

  template <class P>
  void lay_out_outputs(ByteReader& bytes, P& p) {
    const auto output = [&](std::int64_t dim, ElementType type) -> StridedTensor& {
      InputView shape;
      shape.batch = p.q.batch, shape.tokens = p.q.tokens, shape.heads = p.q.heads, shape.dim = dim;
      return outputs_.emplace_back(bytes, shape, type, true);
    };
    p.out = output(p.v.dim, choose_element(bytes)).output();
    const std::uint8_t wanted = bytes.byte();
    for (const auto [bit, view] : {std::pair(1, &p.statistics.row_max),
                                   {2, &p.statistics.row_sum},
                                   {4, &p.statistics.linear_denominator}}) {
      *view = (wanted & bit) != 0 ? output(1, ElementType::float32).statistic() : TensorView<float>{};
    }
    p.report = (wanted & 8) != 0 ? &report : nullptr;
  }

  std::array<InputView, 7> strided_;
  std::deque<std::vector<float>> packed_;
  std::deque<StridedTensor> inputs_, outputs_;
  std::deque<ExactBytes> weights_;
  std::deque<std::vector<std::int64_t>> counts_;
};

/// What a call wrote for batch entry `b`. Outputs narrower than float32 are left out: they are the others,
/// rounded.
template <class P>
EntryOutput entry_output(const P& p, std::int64_t b, std::int64_t tokens) {
  EntryOutput output = {
      .y = {},
      .row_max = reference::to_array(p.statistics.row_max, b, tokens),
      .row_sum = reference::to_array(p.statistics.row_sum, b, tokens),
      .linear_denominator = reference::to_array(p.statistics.linear_denominator, b, tokens)};
  if (const OutputView& o = p.out; o.type == ElementType::float32) {
    const TensorView<const float> out{static_cast<const float*>(o.data),
                                      o.batch,
                                      o.tokens,
                                      o.heads,
                                      o.dim,
                                      o.batch_stride,
                                      o.token_stride,
                                      o.head_stride};
    output.y = reference::to_array(out, b, tokens);
  }
  return output;
}

/// The same bits, or both NaN: which NaN is not promised.
inline bool same_number(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

/// Fails unless the valid rows of a view are those of `packed` tensors [batch, token, head, dim], rounded to
/// the view's type, to the bit. `first_token(b)`: where in them the view's tokens begin.
template <class View, class F, class G>
void expect_rows(const View& view, const std::vector<float>& packed, std::int64_t packed_tokens,
                 const F& valid, const G& first_token) {
  if (view.data == nullptr) return;
  ElementType type = ElementType::float32;
  if constexpr (requires { view.type; }) type = view.type;
  for_each_row(view, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
    if (!valid(b, t)) return;
    const std::int64_t row = (b * packed_tokens + first_token(b) + t) * view.heads + h;
    for (std::int64_t d = 0; d < view.dim; ++d) {
      const float wide = packed[static_cast<std::size_t>(row * view.dim + d)];
      const double actual = reference::element_at(view.row(b, t, h), type, d),
                   expected = static_cast<double>(support::rounded(wide, type));
      EXPECT_TRUE(same_number(actual, expected))
          << "[" << b << ", " << t << ", " << h << ", " << d << "] is " << actual << " as "
          << element_name(type) << ", expected " << expected;
    }
  });
}

}  // namespace rehyat::fuzz
