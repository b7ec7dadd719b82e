#pragma once
// From options and inputs to the library's parameters.

#include "inputs.hpp"
#include "options.hpp"
#include "rehyat/rehyat.hpp"

namespace rehyat::cli {

/// One name for the operators, chosen by their parameters.
inline Status run_operator(const HybridAttention& p, Workspace w, ExecutorRef e, const Kernels& k) {
  return hybrid_attention(p, w, e, k);
}
inline Status run_operator(const SoftmaxAttention& p, Workspace w, ExecutorRef e, const Kernels& k) {
  return softmax_attention(p, w, e, k);
}
inline Status run_operator(const LinearAttention& p, Workspace w, ExecutorRef e, const Kernels& k) {
  return linear_attention(p, w, e, k);
}
inline Status run_operator(const UniformAttention& p, Workspace w, ExecutorRef e, const Kernels& k) {
  return uniform_attention(p, w, e, k);
}

/// Calls `use` with the parameters of the operator that the options name.
template <class Use>
auto with_operator(const AttendOptions& o, const Inputs& in, TensorView<float> out, DenominatorReport* report,
                   Use use) {
  const auto set_common = [&](auto& p) {
    p.q = in.q.view();
    p.k = in.k.view();
    p.v = in.v.view();
    p.out = out;
    p.report = report;
    if constexpr (requires { p.scale; }) p.scale = o.scale;
    if constexpr (requires { p.arithmetic; }) p.arithmetic = o.arithmetic.value_or(Arithmetic::float32);
    if constexpr (requires { p.stabilizer; }) p.stabilizer = o.stabilizer.value_or(Stabilizer::row_max);
    if constexpr (requires { p.phi_q; }) {
      p.phi_q = in.map_q;
      p.phi_k = in.map_k;
      p.given = in.given();
      p.denominator_epsilon = o.denominator_epsilon.value_or(0.0f);
      p.denominator_floor = o.denominator_floor.value_or(0.0f);
    }
    if constexpr (requires { p.chunking; }) {
      p.chunking = o.chunking(in.geometry.tokens_per_frame);
      p.direction = o.direction.value_or(Direction::causal);
    }
    if constexpr (requires { p.rate; }) p.rate = o.rate.value();
  };
  const auto call = [&](auto p) {
    set_common(p);
    return use(p);
  };
  switch (o.schedule) {
    case Schedule::softmax:
      return call(SoftmaxAttention{});
    case Schedule::linear:
      return call(LinearAttention{});
    case Schedule::uniform:
      return call(UniformAttention{});
    case Schedule::hybrid:
      break;
  }
  return call(HybridAttention{});
}

/// The recurrence that computes the same; only where options.has_recurrence().
inline RecurrentConfig recurrent_config(const AttendOptions& o, const Inputs& in) {
  const Geometry& g = in.geometry;
  return {.schedule = o.schedule == Schedule::linear ? RecurrentSchedule::linear : RecurrentSchedule::hybrid,
          .batch = 1,
          .heads = g.heads,
          .kv_heads = g.kv_heads,
          .head_dim = g.head_dim,
          .value_dim = g.value_dim,
          .chunking = o.chunking(g.tokens_per_frame),
          .tail_type = o.storage,
          .phi_q = in.map_q,
          .phi_k = in.map_k,
          .separate_denominator = in.phi_k_den.has_value(),
          .stabilizer = o.stabilizer.value_or(Stabilizer::row_max),
          .scale = o.scale,
          .arithmetic = o.arithmetic.value_or(Arithmetic::float32),
          .denominator_epsilon = o.denominator_epsilon.value_or(0.0f),
          .denominator_floor = o.denominator_floor.value_or(0.0f)};
}

}  // namespace rehyat::cli
