#pragma once
// C++ parameters as a caller of the C API would write them; on purpose not by the library's own conversions.

#include "rehyat/attention.hpp"
#include "rehyat/recurrent.hpp"
#include "rehyat/rehyat.h"

namespace rehyat::c_test {

template <class C, class View>
C tensor(const View& view, rehyat_element_type type) {
  C c = {};
  c.data = view.data;
  c.type = type;
  c.batch = view.batch, c.tokens = view.tokens, c.heads = view.heads, c.dim = view.dim;
  c.batch_stride = view.batch_stride, c.token_stride = view.token_stride, c.head_stride = view.head_stride;
  return c;
}

inline rehyat_const_tensor to_c(const InputView& view) {
  return tensor<rehyat_const_tensor>(view, static_cast<rehyat_element_type>(view.type));
}
inline rehyat_tensor to_c(const OutputView& view) {
  return tensor<rehyat_tensor>(view, static_cast<rehyat_element_type>(view.type));
}
inline rehyat_tensor to_c(const TensorView<float>& view) {
  return tensor<rehyat_tensor>(view, REHYAT_FLOAT32);
}

inline rehyat_feature_map to_c(const FeatureMap& map) {
  rehyat_feature_map c = rehyat_feature_map_defaults();
  c.kind = static_cast<rehyat_feature_map_kind>(map.kind);
  c.num_layers = map.num_layers;
  c.degree = map.degree;
  c.activation = static_cast<rehyat_activation>(map.activation);
  c.output_activation = static_cast<rehyat_activation>(map.output_activation);
  c.layout = static_cast<rehyat_weight_layout>(map.layout);
  for (int i = 0; i < max_feature_layers; ++i) {
    c.layers[i] = {map.layers[i].weight, map.layers[i].bias, map.layers[i].out_dim};
  }
  c.heads = map.heads;
  c.given_dim = map.given_dim;
  return c;
}

inline rehyat_chunking to_c(const Chunking& chunking) {
  return {chunking.tokens_per_frame, chunking.chunk_frames, chunking.overlap_frames};
}

/// A call's arguments: parameters, and what they point to.
template <class C>
struct Arguments {
  C c;
  rehyat_denominator_report report = {-12345.5f, -12345.5f, -1};
};

/// What all operators and chunks have.
template <class C, class P>
void set_tensors(Arguments<C>& a, const P& p) {
  a.c.q = to_c(p.q), a.c.k = to_c(p.k), a.c.v = to_c(p.v), a.c.out = to_c(p.out);
  a.c.statistics.row_max = to_c(p.statistics.row_max);
  a.c.statistics.row_sum = to_c(p.statistics.row_sum);
  a.c.statistics.linear_denominator = to_c(p.statistics.linear_denominator);
  a.c.report = p.report == nullptr ? nullptr : &a.report;
  if constexpr (requires { p.given; }) {
    a.c.given = {to_c(p.given.q), to_c(p.given.k), to_c(p.given.q_denominator), to_c(p.given.k_denominator)};
  }
}

/// What all that have linear keys have.
template <class C, class P>
void set_features(C& c, const P& p) {
  c.phi_q = to_c(p.phi_q), c.phi_k = to_c(p.phi_k);
  c.denominator_epsilon = p.denominator_epsilon;
  c.denominator_floor = p.denominator_floor;
}

inline const std::int64_t* to_c(std::span<const std::int64_t> counts) {
  return counts.empty() ? nullptr : counts.data();
}
inline const float* to_c(const std::optional<float>& scale) { return scale ? &*scale : nullptr; }

// `a.c.report` points into `a`, which is therefore filled in place. The parameters must outlive it.

inline void to_c(const SoftmaxAttention& p, Arguments<rehyat_softmax_parameters>& a) {
  a.c = rehyat_softmax_defaults();
  set_tensors(a, p);
  a.c.scale = to_c(p.scale);
  a.c.arithmetic = static_cast<rehyat_arithmetic>(p.arithmetic);
  a.c.query_tokens = to_c(p.query_tokens), a.c.key_tokens = to_c(p.key_tokens);
}
inline void to_c(const HybridAttention& p, Arguments<rehyat_hybrid_parameters>& a) {
  a.c = rehyat_hybrid_defaults();
  set_tensors(a, p);
  set_features(a.c, p);
  a.c.chunking = to_c(p.chunking);
  a.c.direction = static_cast<rehyat_direction>(p.direction);
  a.c.stabilizer = static_cast<rehyat_stabilizer>(p.stabilizer);
  a.c.scale = to_c(p.scale);
  a.c.arithmetic = static_cast<rehyat_arithmetic>(p.arithmetic);
  a.c.frames = to_c(p.frames);
}
inline void to_c(const LinearAttention& p, Arguments<rehyat_linear_parameters>& a) {
  a.c = rehyat_linear_defaults();
  set_tensors(a, p);
  set_features(a.c, p);
  a.c.chunking = to_c(p.chunking);
  a.c.direction = static_cast<rehyat_direction>(p.direction);
  a.c.frames = to_c(p.frames);
}
inline void to_c(const UniformAttention& p, Arguments<rehyat_uniform_parameters>& a) {
  a.c = rehyat_uniform_defaults();
  set_tensors(a, p);
  set_features(a.c, p);
  a.c.rate = p.rate;
  a.c.stabilizer = static_cast<rehyat_stabilizer>(p.stabilizer);
  a.c.scale = to_c(p.scale);
  a.c.arithmetic = static_cast<rehyat_arithmetic>(p.arithmetic);
  a.c.tokens = to_c(p.tokens);
}
inline void to_c(const RecurrentChunk& p, Arguments<rehyat_recurrent_chunk>& a) {
  a.c = rehyat_recurrent_chunk_defaults();
  set_tensors(a, p);
  a.c.frames = to_c(p.frames);
}

inline rehyat_recurrent_config to_c(const RecurrentConfig& p) {
  rehyat_recurrent_config c = rehyat_recurrent_config_defaults();
  set_features(c, p);
  c.schedule = static_cast<rehyat_recurrent_schedule>(p.schedule);
  c.tail_type = static_cast<rehyat_element_type>(p.tail_type);
  c.batch = p.batch, c.heads = p.heads, c.kv_heads = p.kv_heads;
  c.head_dim = p.head_dim, c.value_dim = p.value_dim;
  c.chunking = to_c(p.chunking);
  c.separate_denominator = p.separate_denominator ? 1 : 0;
  c.stabilizer = static_cast<rehyat_stabilizer>(p.stabilizer);
  c.scale = to_c(p.scale);
  c.arithmetic = static_cast<rehyat_arithmetic>(p.arithmetic);
  return c;
}

// The functions of each operator by overload.

/// Calls visit(workspace_size, attention, operation_count) with the C functions for C++ parameters.
template <class Visit>
auto with_functions(const SoftmaxAttention&, Visit visit) {
  return visit(rehyat_softmax_workspace_size, rehyat_softmax_attention, rehyat_softmax_operation_count);
}
template <class Visit>
auto with_functions(const HybridAttention&, Visit visit) {
  return visit(rehyat_hybrid_workspace_size, rehyat_hybrid_attention, rehyat_hybrid_operation_count);
}
template <class Visit>
auto with_functions(const LinearAttention&, Visit visit) {
  return visit(rehyat_linear_workspace_size, rehyat_linear_attention, rehyat_linear_operation_count);
}
template <class Visit>
auto with_functions(const UniformAttention&, Visit visit) {
  return visit(rehyat_uniform_workspace_size, rehyat_uniform_attention, rehyat_uniform_operation_count);
}

template <class P>
struct CStruct;
template <>
struct CStruct<SoftmaxAttention> {
  using type = rehyat_softmax_parameters;
};
template <>
struct CStruct<HybridAttention> {
  using type = rehyat_hybrid_parameters;
};
template <>
struct CStruct<LinearAttention> {
  using type = rehyat_linear_parameters;
};
template <>
struct CStruct<UniformAttention> {
  using type = rehyat_uniform_parameters;
};

}  // namespace rehyat::c_test
