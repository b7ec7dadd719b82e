#pragma once
// Every precondition of the operators, checked before anything is computed. A message names the argument, its
// value and what was expected.

#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <span>

#include "rehyat/detail/check_views.hpp"
#include "rehyat/detail/problem.hpp"
#include "rehyat/status.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::detail {

inline Status check_slots(int slots) {
  if (slots >= 1) return {};
  return refuse("slots", slots, "at least 1");
}

inline Status check_workspace(const Workspace& w, std::size_t needed, int slots) {
  if (w.size >= needed && (w.data != nullptr || needed == 0)) return {};
  if (w.data == nullptr) return refuse_null("workspace.data");
  return Status::error(StatusCode::workspace_too_small,
                       "workspace.size is %zu, expected at least %zu bytes for %d slots", w.size, needed,
                       slots);
}

/// Memory of the caller's that is not a workspace.
inline Status check_memory(const char* name, const Workspace& memory, std::size_t needed) {
  if (memory.data != nullptr && memory.size >= needed) return {};
  if (memory.data == nullptr) {
    return Status::error(StatusCode::invalid_argument, "%s.data is null, expected %zu bytes", name, needed);
  }
  return Status::error(StatusCode::workspace_too_small, "%s.size is %zu, expected at least %zu bytes", name,
                       memory.size, needed);
}

inline Status check_chunking(const Chunking& c) {
  REHYAT_RETURN_IF_ERROR(check_at_least("chunking.tokens_per_frame", c.tokens_per_frame, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("chunking.chunk_frames", c.chunk_frames, 1));
  return check_at_least("chunking.overlap_frames", c.overlap_frames, 0);
}

inline Status check_counts(const char* name, std::span<const std::int64_t> counts, std::int64_t batch,
                           std::int64_t most) {
  if (counts.empty()) return {};
  if (static_cast<std::int64_t>(counts.size()) != batch) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.size() is %zu, expected q.batch (%" PRId64 ") or none", name, counts.size(),
                         batch);
  }
  for (std::size_t b = 0; b < counts.size(); ++b) {
    if (counts[b] < 0 || counts[b] > most) {
      return Status::error(StatusCode::invalid_argument, "%s[%zu] is %" PRId64 ", expected 0 to %" PRId64,
                           name, b, counts[b], most);
    }
  }
  return {};
}

/// One feature map for `heads` heads of `head_dim` elements.
inline Status check_feature_map(const char* name, const FeatureMap& map, std::int64_t heads,
                                std::int64_t head_dim) {
  using Kind = FeatureMap::Kind;
  const auto error = [&](const char* member, std::int64_t value, const char* expected) {
    return Status::error(StatusCode::invalid_argument, "%s.%s is %" PRId64 ", expected %s", name, member,
                         value, expected);
  };
  if (map.kind == Kind::unset) {
    return Status::error(StatusCode::invalid_argument,
                         "%s is unset, expected a feature map (linear keys need one)", name);
  }
  if (map.kind == Kind::given) {
    if (map.given_dim < 1 || map.given_dim > max_feature_dim)
      return error("given_dim", map.given_dim, "1 to 16384");
    return {};
  }
  if (map.kind == Kind::elementwise) return {};
  if (map.num_layers < 1 || map.num_layers > max_feature_layers)
    return error("num_layers", map.num_layers, "1 to 3");
  if (map.degree < 1 || map.degree > max_feature_degree) return error("degree", map.degree, "1 to 4");
  if (map.heads != heads) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.heads is %" PRId64 ", expected the heads of its side (%" PRId64 ")", name,
                         map.heads, heads);
  }
  for (int i = 0; i < map.num_layers; ++i) {
    const DenseLayer& layer = map.layers[i];
    if (layer.weight == nullptr) return error("layers[].weight of layer", i, "not null");
    if (layer.out_dim < 1 || layer.out_dim > max_feature_dim)
      return error("layers[].out_dim", layer.out_dim, "1 to 16384");
  }
  if (map.feature_dim(head_dim) % map.degree != 0) {
    return error("feature_dim", map.feature_dim(head_dim), "a multiple of its degree");
  }
  return {};
}

inline Status check_feature_maps(const FeatureMap& phi_q, const FeatureMap& phi_k, std::int64_t heads,
                                 std::int64_t kv_heads, std::int64_t head_dim) {
  REHYAT_RETURN_IF_ERROR(check_feature_map("phi_q", phi_q, heads, head_dim));
  REHYAT_RETURN_IF_ERROR(check_feature_map("phi_k", phi_k, kv_heads, head_dim));
  const bool q_given = phi_q.kind == FeatureMap::Kind::given, k_given = phi_k.kind == FeatureMap::Kind::given;
  if (q_given != k_given) {
    return Status::error(StatusCode::invalid_argument,
                         "%s is given, expected given features on both sides or on neither",
                         q_given ? "phi_q" : "phi_k");
  }
  if (phi_q.feature_dim(head_dim) != phi_k.feature_dim(head_dim)) {
    return Status::error(StatusCode::invalid_argument,
                         "phi_k.feature_dim is %" PRId64 ", expected that of phi_q (%" PRId64 ")",
                         phi_k.feature_dim(head_dim), phi_q.feature_dim(head_dim));
  }
  return {};
}

/// The scalars of the joint normalisation.
inline Status check_normalisation(Stabilizer stabilizer, std::optional<float> scale, float epsilon,
                                  float floor) {
  const auto error = [](const char* name, float value, const char* expected) {
    return Status::error(StatusCode::invalid_argument, "%s is %g, expected %s", name,
                         static_cast<double>(value), expected);
  };
  if (scale && !std::isfinite(*scale)) return error("scale", *scale, "a finite number");
  if (scale && !std::isfinite(score_scale(scale, 1)))
    return error("scale", *scale, "one whose product with log2(e) is finite");
  if (!(epsilon >= 0) || !std::isfinite(epsilon))
    return error("denominator_epsilon", epsilon, "a finite number >= 0");
  if (!(floor >= 0) || !std::isfinite(floor))
    return error("denominator_floor", floor, "a finite number >= 0");
  if (stabilizer == Stabilizer::row_max) return {};
  if (epsilon != 0) return error("denominator_epsilon", epsilon, "0 with Stabilizer::none");
  if (floor != 0) return error("denominator_floor", floor, "0 with Stabilizer::none");
  return {};
}

/// An arithmetic mode against the kernels that are to run it.
inline Status check_arithmetic(Arithmetic arithmetic, const Kernels& kernels) {
  if (kernels_in(kernels, arithmetic) != nullptr) return {};
  return Status::error(
      StatusCode::unsupported_isa,
      "arithmetic is %s, expected one that the kernels in use (%s) have: none of its kind was "
      "built in, or this CPU does not run it",
      arithmetic_name(arithmetic), isa_name(kernels.isa));
}

inline Status check_statistics(const QueryStatistics& s, const InputView& q) {
  const Shape shape{q.batch, q.tokens, q.heads, 1};
  REHYAT_RETURN_IF_ERROR(check_optional_output("statistics.row_max", s.row_max, shape));
  REHYAT_RETURN_IF_ERROR(check_optional_output("statistics.row_sum", s.row_sum, shape));
  return check_optional_output("statistics.linear_denominator", s.linear_denominator, shape);
}

/// Given features against the tokens and heads of their side.
template <class Given>
Status check_given(const Given& given, const FeatureMap& phi, const Shape& q, const Shape& k,
                   bool with_queries) {
  if (phi.kind != FeatureMap::Kind::given) return {};
  const Shape q_shape{q.batch, q.tokens, q.heads, phi.given_dim},
      k_shape{k.batch, k.tokens, k.heads, phi.given_dim};
  REHYAT_RETURN_IF_ERROR(check_layout("given.k", given.k, k_shape));
  if (given.k_denominator.data != nullptr) {
    REHYAT_RETURN_IF_ERROR(check_layout("given.k_denominator", given.k_denominator, k_shape));
  }
  if (!with_queries) return {};
  REHYAT_RETURN_IF_ERROR(check_layout("given.q", given.q, q_shape));
  if (given.q_denominator.data != nullptr) {
    REHYAT_RETURN_IF_ERROR(check_layout("given.q_denominator", given.q_denominator, q_shape));
  }
  if ((given.q_denominator.data == nullptr) != (given.k_denominator.data == nullptr)) {
    return refuse_null(given.q_denominator.data == nullptr ? "given.q_denominator (its counterpart is set)"
                                                           : "given.k_denominator (its counterpart is set)");
  }
  return {};
}

/// Memory of given features whose layout has been checked.
template <class Given>
Status check_given_data(const Given& given, const FeatureMap& phi, bool with_queries) {
  if (phi.kind != FeatureMap::Kind::given) return {};
  REHYAT_RETURN_IF_ERROR(check_data("given.k", given.k));
  return with_queries ? check_data("given.q", given.q) : Status{};
}

/// Shapes and strides of q, k, v; `key_per_query`: there must be as many tokens of each.
template <class View>
Status check_qkv(const View& q, const View& k, const View& v, bool key_per_query) {
  REHYAT_RETURN_IF_ERROR(check_dim("q.dim", q.dim));
  REHYAT_RETURN_IF_ERROR(check_dim("v.dim", v.dim));
  REHYAT_RETURN_IF_ERROR(check_at_least("q.batch", q.batch, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("q.heads", q.heads, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("k.heads", k.heads, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("q.tokens", q.tokens, 0));
  REHYAT_RETURN_IF_ERROR(check_at_least("k.tokens", k.tokens, 0));
  REHYAT_RETURN_IF_ERROR(check_divides("k.heads", k.heads, "q.heads", q.heads));
  if (key_per_query) REHYAT_RETURN_IF_ERROR(check_equal("k.tokens", k.tokens, "q.tokens", q.tokens));
  REHYAT_RETURN_IF_ERROR(check_layout("q", q, {q.batch, q.tokens, q.heads, q.dim}));
  REHYAT_RETURN_IF_ERROR(check_layout("k", k, {q.batch, k.tokens, k.heads, q.dim}));
  return check_layout("v", v, {q.batch, k.tokens, k.heads, v.dim});
}

/// Memory of q, k, v whose layout has been checked.
template <class View>
Status check_qkv_data(const View& q, const View& k, const View& v) {
  REHYAT_RETURN_IF_ERROR(check_data("q", q));
  REHYAT_RETURN_IF_ERROR(check_data("k", k));
  return check_data("v", v);
}

/// All of a one-shot operator's preconditions that can be checked before there is memory.
inline Status check(const Problem& p) {
  REHYAT_RETURN_IF_ERROR(check_qkv(p.q, p.k, p.v, p.schedule != Schedule::softmax));
  REHYAT_RETURN_IF_ERROR(check_output_layout("out", p.out, {p.q.batch, p.q.tokens, p.q.heads, p.v.dim}));
  if (p.framed()) {
    REHYAT_RETURN_IF_ERROR(check_chunking(p.chunking));
    REHYAT_RETURN_IF_ERROR(
        check_divides("chunking.tokens_per_frame", p.chunking.tokens_per_frame, "q.tokens", p.q.tokens));
    if (p.schedule == Schedule::linear && p.chunking.overlap_frames != 0) {
      return refuse("chunking.overlap_frames", p.chunking.overlap_frames, "0 for linear attention");
    }
  }
  if (p.schedule == Schedule::uniform) REHYAT_RETURN_IF_ERROR(check_at_least("rate", p.rate, 1));
  const char* counts = p.framed() ? "frames" : p.schedule == Schedule::softmax ? "query_tokens" : "tokens";
  REHYAT_RETURN_IF_ERROR(check_counts(counts, p.query_counts, p.q.batch, p.q.tokens / p.unit()));
  if (p.schedule == Schedule::softmax) {
    REHYAT_RETURN_IF_ERROR(check_counts("key_tokens", p.key_counts, p.q.batch, p.k.tokens));
    for (std::int64_t b = 0; b < p.q.batch; ++b) {
      if (p.units_of_queries(b) > 0 && p.units_of_keys(b) < 1) {
        return refuse(p.key_counts.empty() ? "k.tokens" : "key_tokens", p.units_of_keys(b),
                      "at least 1 where there are queries");
      }
    }
  }
  REHYAT_RETURN_IF_ERROR(
      check_normalisation(p.stabilizer, p.scale, p.denominator_epsilon, p.denominator_floor));
  REHYAT_RETURN_IF_ERROR(check_statistics(p.statistics, p.q));
  if (!p.has_linear()) return {};
  REHYAT_RETURN_IF_ERROR(check_feature_maps(p.phi_q, p.phi_k, p.q.heads, p.k.heads, p.q.dim));
  return check_given(p.given, p.phi_q, {p.q.batch, p.q.tokens, p.q.heads, p.q.dim},
                     {p.q.batch, p.k.tokens, p.k.heads, p.q.dim}, true);
}

/// Memory behind the tensors of a checked problem.
inline Status check_data(const Problem& p) {
  REHYAT_RETURN_IF_ERROR(check_qkv_data(p.q, p.k, p.v));
  REHYAT_RETURN_IF_ERROR(check_data("out", p.out));
  return p.has_linear() ? check_given_data(p.given, p.phi_q, true) : Status{};
}

}  // namespace rehyat::detail
