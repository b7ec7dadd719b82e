#pragma once
// Operator parameters in words, for the message of a finding.

#include <cmath>
#include <sstream>
#include <string>

#include "operator_memory.hpp"

namespace rehyat::fuzz {

template <class View>
void describe(std::ostream& out, const char* name, const View& v) {
  if (v.data == nullptr) return;
  out << "\n  " << name << " [" << v.batch << ", " << v.tokens << ", " << v.heads << ", " << v.dim
      << "], strides " << v.batch_stride << ", " << v.token_stride << ", " << v.head_stride;
  if constexpr (requires { v.type; }) out << ", " << element_name(v.type);
}

/// The first few elements of an input that are not finite.
inline void describe_nonfinite(std::ostream& out, const InputView& v) {
  int left = v.data == nullptr ? 0 : 4;
  for_each_row(v, [&](std::int64_t b, std::int64_t t, std::int64_t h) {
    for (std::int64_t d = 0; d < v.dim && left > 0; ++d) {
      const double x = reference::element_at(v.row(b, t, h), v.type, d);
      if (std::isfinite(x)) continue;
      out << ", " << x << " at [" << b << ", " << t << ", " << h << ", " << d << "]";
      --left;
    }
  });
}

inline void describe(std::ostream& out, const char* name, const FeatureMap& map) {
  out << "\n  " << name << " of kind " << static_cast<int>(map.kind) << ", activations "
      << static_cast<int>(map.activation) << ", " << static_cast<int>(map.output_activation) << ", degree "
      << map.degree << ", given_dim " << map.given_dim << ", layout " << static_cast<int>(map.layout)
      << ", heads " << map.heads << ", widths";
  for (int i = 0; i < map.num_layers && i < max_feature_layers; ++i) out << " " << map.layers[i].out_dim;
}

/// `with_values`: of parameters whose views have memory.
template <class P>
std::string describe(const P& p, bool with_values) {
  std::ostringstream out;
  const char* const names[] = {
      "q", "k", "v", "given.q", "given.k", "given.q_denominator", "given.k_denominator"};
  const char* const* name = names;
  for_each_input(p, [&](const InputView& view) {
    describe(out, *name++, view);
    if (with_values) describe_nonfinite(out, view);
  });
  describe(out, "out", p.out);
  describe(out, "row_max", p.statistics.row_max), describe(out, "row_sum", p.statistics.row_sum);
  describe(out, "linear_denominator", p.statistics.linear_denominator);
  if constexpr (requires { p.chunking; }) {
    out << "\n  chunking " << p.chunking.tokens_per_frame << ", " << p.chunking.chunk_frames << ", "
        << p.chunking.overlap_frames << ", direction " << static_cast<int>(p.direction);
  }
  if constexpr (requires { p.rate; }) out << "\n  rate " << p.rate;
  if constexpr (requires { p.stabilizer; }) out << "\n  stabilizer " << static_cast<int>(p.stabilizer);
  if constexpr (requires { p.scale; }) out << "\n  scale " << p.scale.value_or(-1) << " (-1: by default)";
  if constexpr (requires { p.phi_q; }) {
    describe(out, "phi_q", p.phi_q), describe(out, "phi_k", p.phi_k);
    out << "\n  epsilon " << p.denominator_epsilon << ", floor " << p.denominator_floor;
  }
  const auto counts = [&](const char* name, std::span<const std::int64_t> values) {
    if (!values.empty()) out << "\n  " << name;
    for (const std::int64_t n : values) out << " " << n;
  };
  if constexpr (requires { p.frames; }) counts("frames", p.frames);
  if constexpr (requires { p.tokens; }) counts("tokens", p.tokens);
  if constexpr (requires { p.query_tokens; })
    counts("query_tokens", p.query_tokens), counts("key_tokens", p.key_tokens);
  return out.str();
}

}  // namespace rehyat::fuzz
