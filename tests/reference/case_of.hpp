#pragma once
// From an operator's parameters to the reference's description of one batch entry.

#include "case.hpp"
#include "rehyat/attention.hpp"

namespace rehyat::reference {

inline Inputs inputs_of(const InputView& q, const InputView& k, const InputView& v,
                        const GivenFeatures& given, Index batch_entry, Index query_tokens, Index key_tokens) {
  return {.q = to_array(q, batch_entry, query_tokens),
          .k = to_array(k, batch_entry, key_tokens),
          .v = to_array(v, batch_entry, key_tokens),
          .given_q = to_array(given.q, batch_entry, query_tokens),
          .given_k = to_array(given.k, batch_entry, key_tokens),
          .given_q_denominator = to_array(given.q_denominator, batch_entry, query_tokens),
          .given_k_denominator = to_array(given.k_denominator, batch_entry, key_tokens)};
}

/// Valid counts of a batch entry: all of them unless the parameters say otherwise.
inline Index valid(std::span<const std::int64_t> counts, Index batch_entry, Index all) {
  return counts.empty() ? all : counts[static_cast<std::size_t>(batch_entry)];
}

/// What all operators with a linear branch call the same.
template <class P>
Model model_of(const P& p) {
  Model model{.phi_q = p.phi_q,
              .phi_k = p.phi_k,
              .denominator_epsilon = p.denominator_epsilon,
              .denominator_floor = p.denominator_floor};
  if constexpr (requires { p.stabilizer; }) {
    model.stabilizer = p.stabilizer;
    model.scale = p.scale;
  }
  return model;
}

inline Case case_of(const SoftmaxAttention& p, Index batch_entry = 0) {
  const Index queries = valid(p.query_tokens, batch_entry, p.q.tokens);
  const Index keys = valid(p.key_tokens, batch_entry, p.k.tokens);
  return {.inputs = inputs_of(p.q, p.k, p.v, {}, batch_entry, queries, keys),
          .model = {.scale = p.scale},
          .chunks = softmax_key_sets(queries, keys)};
}

inline Case case_of(const HybridAttention& p, Index batch_entry = 0) {
  const Index frames = valid(p.frames, batch_entry, p.q.tokens / p.chunking.tokens_per_frame);
  const Index tokens = frames * p.chunking.tokens_per_frame;
  return {.inputs = inputs_of(p.q, p.k, p.v, p.given, batch_entry, tokens, tokens),
          .model = model_of(p),
          .chunks = hybrid_key_sets(frames, p.chunking, p.direction)};
}

inline Case case_of(const LinearAttention& p, Index batch_entry = 0) {
  const Index frames = valid(p.frames, batch_entry, p.q.tokens / p.chunking.tokens_per_frame);
  const Index tokens = frames * p.chunking.tokens_per_frame;
  return {.inputs = inputs_of(p.q, p.k, p.v, p.given, batch_entry, tokens, tokens),
          .model = model_of(p),
          .chunks = linear_key_sets(frames, p.chunking, p.direction)};
}

inline Case case_of(const UniformAttention& p, Index batch_entry = 0) {
  const Index tokens = valid(p.tokens, batch_entry, p.q.tokens);
  return {.inputs = inputs_of(p.q, p.k, p.v, p.given, batch_entry, tokens, tokens),
          .model = model_of(p),
          .chunks = uniform_key_sets(tokens, p.rate)};
}

}  // namespace rehyat::reference
