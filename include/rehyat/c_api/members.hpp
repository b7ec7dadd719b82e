#pragma once
// Which member of a C struct is which of a C++ one: said once, for both directions of convert.hpp.

#include "rehyat/attention.hpp"
#include "rehyat/c_api/types.h"
#include "rehyat/recurrent.hpp"

namespace rehyat::c_api {

// `copy` has
//   copy(name, c, cpp)                a number, one of a list, a tensor, or a struct of members that is below
//   copy.begin(c)                     a struct with a struct_size
//   copy.optional(c, cpp)             a pointer to a number, and an optional
//   copy.counts(c, cpp, size)         a pointer to `size` numbers, and a span
// The report is no parameter: see operators.hpp.

template <class Copy>
void members(Copy& copy, rehyat_chunking& c, Chunking& cpp) {
  copy("tokens_per_frame", c.tokens_per_frame, cpp.tokens_per_frame);
  copy("chunk_frames", c.chunk_frames, cpp.chunk_frames);
  copy("overlap_frames", c.overlap_frames, cpp.overlap_frames);
}

template <class Copy>
void members(Copy& copy, rehyat_dense_layer& c, DenseLayer& cpp) {
  copy("weight", c.weight, cpp.weight);
  copy("bias", c.bias, cpp.bias);
  copy("out_dim", c.out_dim, cpp.out_dim);
}

template <class Copy>
void members(Copy& copy, rehyat_feature_map& c, FeatureMap& cpp) {
  copy.begin(c);
  copy("kind", c.kind, cpp.kind);
  copy("num_layers", c.num_layers, cpp.num_layers);
  copy("degree", c.degree, cpp.degree);
  copy("activation", c.activation, cpp.activation);
  copy("output_activation", c.output_activation, cpp.output_activation);
  copy("layout", c.layout, cpp.layout);
  for (int i = 0; i < max_feature_layers; ++i) copy("layers", c.layers[i], cpp.layers[i]);
  copy("heads", c.heads, cpp.heads);
  copy("given_dim", c.given_dim, cpp.given_dim);
}
static_assert(REHYAT_MAX_FEATURE_LAYERS == max_feature_layers);

template <class Copy>
void members(Copy& copy, rehyat_given_features& c, GivenFeatures& cpp) {
  copy("q", c.q, cpp.q);
  copy("k", c.k, cpp.k);
  copy("q_denominator", c.q_denominator, cpp.q_denominator);
  copy("k_denominator", c.k_denominator, cpp.k_denominator);
}

template <class Copy>
void members(Copy& copy, rehyat_query_statistics& c, QueryStatistics& cpp) {
  copy("row_max", c.row_max, cpp.row_max);
  copy("row_sum", c.row_sum, cpp.row_sum);
  copy("linear_denominator", c.linear_denominator, cpp.linear_denominator);
}

/// What every operator and every chunk has.
template <class Copy>
void common_members(Copy& copy, auto& c, auto& cpp) {
  copy.begin(c);
  copy("q", c.q, cpp.q);
  copy("k", c.k, cpp.k);
  copy("v", c.v, cpp.v);
  copy("out", c.out, cpp.out);
  copy("statistics", c.statistics, cpp.statistics);
}

/// What every operator with linear keys, and the recurrence, has.
template <class Copy>
void linear_members(Copy& copy, auto& c, auto& cpp) {
  copy("phi_q", c.phi_q, cpp.phi_q);
  copy("phi_k", c.phi_k, cpp.phi_k);
  copy("denominator_epsilon", c.denominator_epsilon, cpp.denominator_epsilon);
  copy("denominator_floor", c.denominator_floor, cpp.denominator_floor);
}

template <class Copy>
void members(Copy& copy, rehyat_softmax_parameters& c, SoftmaxAttention& cpp) {
  common_members(copy, c, cpp);
  copy.optional(c.scale, cpp.scale);
  copy("arithmetic", c.arithmetic, cpp.arithmetic);
  copy.counts(c.query_tokens, cpp.query_tokens, cpp.q.batch);
  copy.counts(c.key_tokens, cpp.key_tokens, cpp.q.batch);
}

template <class Copy>
void members(Copy& copy, rehyat_hybrid_parameters& c, HybridAttention& cpp) {
  common_members(copy, c, cpp);
  linear_members(copy, c, cpp);
  copy("given", c.given, cpp.given);
  copy("chunking", c.chunking, cpp.chunking);
  copy("direction", c.direction, cpp.direction);
  copy("stabilizer", c.stabilizer, cpp.stabilizer);
  copy.optional(c.scale, cpp.scale);
  copy("arithmetic", c.arithmetic, cpp.arithmetic);
  copy.counts(c.frames, cpp.frames, cpp.q.batch);
}

template <class Copy>
void members(Copy& copy, rehyat_linear_parameters& c, LinearAttention& cpp) {
  common_members(copy, c, cpp);
  linear_members(copy, c, cpp);
  copy("given", c.given, cpp.given);
  copy("chunking", c.chunking, cpp.chunking);
  copy("direction", c.direction, cpp.direction);
  copy.counts(c.frames, cpp.frames, cpp.q.batch);
}

template <class Copy>
void members(Copy& copy, rehyat_uniform_parameters& c, UniformAttention& cpp) {
  common_members(copy, c, cpp);
  linear_members(copy, c, cpp);
  copy("given", c.given, cpp.given);
  copy("rate", c.rate, cpp.rate);
  copy("stabilizer", c.stabilizer, cpp.stabilizer);
  copy.optional(c.scale, cpp.scale);
  copy("arithmetic", c.arithmetic, cpp.arithmetic);
  copy.counts(c.tokens, cpp.tokens, cpp.q.batch);
}

template <class Copy>
void members(Copy& copy, rehyat_recurrent_config& c, RecurrentConfig& cpp) {
  copy.begin(c);
  linear_members(copy, c, cpp);
  copy("schedule", c.schedule, cpp.schedule);
  copy("tail_type", c.tail_type, cpp.tail_type);
  copy("batch", c.batch, cpp.batch);
  copy("heads", c.heads, cpp.heads);
  copy("kv_heads", c.kv_heads, cpp.kv_heads);
  copy("head_dim", c.head_dim, cpp.head_dim);
  copy("value_dim", c.value_dim, cpp.value_dim);
  copy("chunking", c.chunking, cpp.chunking);
  copy("separate_denominator", c.separate_denominator, cpp.separate_denominator);
  copy("stabilizer", c.stabilizer, cpp.stabilizer);
  copy.optional(c.scale, cpp.scale);
  copy("arithmetic", c.arithmetic, cpp.arithmetic);
}

/// Its `frames` are as many as the state has batch entries: see recurrent.hpp.
template <class Copy>
void members(Copy& copy, rehyat_recurrent_chunk& c, RecurrentChunk& cpp) {
  common_members(copy, c, cpp);
  copy("given", c.given, cpp.given);
}

}  // namespace rehyat::c_api
