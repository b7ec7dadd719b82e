#pragma once
// Floating-point operations of the operators, 2 a multiply-add: what GFLOP/s figures of this project divide
// by.

#include <cstdint>

#include "rehyat/attention.hpp"

namespace rehyat {

/// Operations by kind, over all heads and batch entries. Activations, exponentials and z are not counted.
struct OperationCount {
  double softmax = 0;  ///< 2 (D + Dv) a query and softmax key
  double feature_map =
      0;              ///< 2 in * out a layer and token: queries that have linear keys, keys that are absorbed
  double read = 0;    ///< 2 F Dv a query that has linear keys
  double absorb = 0;  ///< 2 F Dv a key that is absorbed
  double total() const { return softmax + feature_map + read + absorb; }
};

namespace detail {

/// Multiply-adds of a feature map for one token and head.
inline double feature_map_work(const FeatureMap& map, std::int64_t head_dim) {
  double work = 0, in = static_cast<double>(head_dim);
  for (int i = 0; map.kind == FeatureMap::Kind::polynomial && i < map.num_layers; ++i) {
    work += in * static_cast<double>(map.layers[i].out_dim);
    in = static_cast<double>(map.layers[i].out_dim);
  }
  return work;
}

/// Pairs and tokens of one batch entry that the counts are products of.
struct TokenCounts {
  double softmax_pairs = 0, reading_queries = 0, absorbed_keys = 0;
};

inline TokenCounts token_counts(const Problem& p, std::int64_t b) {
  const double queries = static_cast<double>(p.units_of_queries(b) * p.unit());
  const std::int64_t keys = p.units_of_keys(b) * p.unit();
  if (p.schedule == Schedule::softmax) return {.softmax_pairs = queries * static_cast<double>(keys)};
  if (p.schedule == Schedule::uniform) {
    const std::int64_t softmax = ceil_div(keys, p.rate);
    return {.softmax_pairs = queries * static_cast<double>(softmax),
            .reading_queries = keys > softmax ? queries : 0,
            .absorbed_keys = static_cast<double>(keys - softmax)};
  }
  if (p.schedule == Schedule::linear) return {0, queries, static_cast<double>(keys)};
  TokenCounts n;
  const std::int64_t frames = p.units_of_queries(b);
  const double m = static_cast<double>(p.chunking.tokens_per_frame);
  const std::int64_t chunks = chunk_count(frames, p.chunking);
  for (std::int64_t t = 0; t < chunks; ++t) {
    const ChunkSets sets = hybrid_sets(frames, t, p.chunking, p.direction);
    n.softmax_pairs +=
        static_cast<double>(sets.queries.size()) * static_cast<double>(sets.softmax.size()) * m * m;
    if (!sets.linear_before.empty() || !sets.linear_after.empty())
      n.reading_queries += static_cast<double>(sets.queries.size()) * m;
  }
  // causal: up to the last chunk's softmax set. Bidirectional: up to there, or from the end of the first
  // chunk's, which together may leave out a middle that every chunk has in its softmax set
  const std::int64_t prefix = chunks > 0 ? softmax_begin(chunks - 1, p.chunking) : 0;
  std::int64_t absorbed = prefix;
  if (p.direction == Direction::bidirectional && chunks > 1) {
    const std::int64_t suffix_begin = p.chunking.chunk_frames;
    absorbed = suffix_begin <= prefix ? frames : prefix + (frames - suffix_begin);
  }
  n.absorbed_keys = static_cast<double>(absorbed) * m;
  return n;
}

inline OperationCount operation_count(const Problem& problem) {
  OperationCount count;
  if (problem.framed() && !check_chunking(problem.chunking).ok()) return count;
  if (problem.schedule == Schedule::uniform && problem.rate < 1) return count;
  const Problem p = clamped(problem);
  const double heads = static_cast<double>(p.q.heads), kv_heads = static_cast<double>(p.k.heads);
  const double value_dim = static_cast<double>(p.v.dim), score_dim = static_cast<double>(p.q.dim);
  const double features = static_cast<double>(p.phi_q.feature_dim(p.q.dim));
  for (std::int64_t b = 0; b < p.q.batch; ++b) {
    const TokenCounts n = token_counts(p, b);
    count.softmax += 2 * (score_dim + value_dim) * n.softmax_pairs * heads;
    count.feature_map += 2 * feature_map_work(p.phi_q, p.q.dim) * n.reading_queries * heads +
                         2 * feature_map_work(p.phi_k, p.q.dim) * n.absorbed_keys * kv_heads;
    count.read += 2 * features * value_dim * n.reading_queries * heads;
    count.absorb += 2 * features * value_dim * n.absorbed_keys * kv_heads;
  }
  return count;
}

}  // namespace detail

/// Operations of a one-shot operator by the definition (the counts are spelt out in README). Shapes, chunking
/// and rate count, memory and strides do not. A chunking or rate that cannot be is no work; other parameters
/// that workspace_size() refuses give nothing meaningful.
template <class P>
OperationCount operation_count(const P& parameters) {
  return detail::operation_count(detail::problem_of(parameters));
}

}  // namespace rehyat
