#pragma once
// Preconditions, in the order and words of the library's own operators.

#include "rehyat/detail/check.hpp"
#include "rehyat/train/parameters.hpp"

namespace rehyat::train::detail {

/// The map with pointers where its weights are, to check that there are any: they are not Real's.
template <class Real>
FeatureMap checkable(const Phi<Real>& phi) {
  FeatureMap map = phi.map;
  for (int i = 0; i < max_feature_layers; ++i) {
    map.layers[i].weight = reinterpret_cast<const float*>(phi.weight[i]);
  }
  return map;
}

template <class Real>
Status check_phi(const HybridAttention<Real>& p) {
  REHYAT_RETURN_IF_ERROR(rehyat::detail::check_feature_maps(checkable(p.phi_q), checkable(p.phi_k), p.q.heads,
                                                            p.k.heads, p.q.dim));
  for (const Phi<Real>* phi : {&p.phi_q, &p.phi_k}) {
    if (phi->map.kind == FeatureMap::Kind::polynomial && phi->map.layout != WeightLayout::rows) {
      return rehyat::detail::refuse("phi.map.layout (0: rows)", static_cast<std::int64_t>(phi->map.layout),
                                    "0");
    }
  }
  return {};
}

/// Everything but outputs and workspace.
template <class Real>
Status check(const HybridAttention<Real>& p) {
  using namespace rehyat::detail;
  REHYAT_RETURN_IF_ERROR(check_qkv(p.q, p.k, p.v, true));
  REHYAT_RETURN_IF_ERROR(check_chunking(p.chunking));
  REHYAT_RETURN_IF_ERROR(
      check_divides("chunking.tokens_per_frame", p.chunking.tokens_per_frame, "q.tokens", p.q.tokens));
  REHYAT_RETURN_IF_ERROR(
      check_counts("frames", p.frames, p.q.batch, p.q.tokens / p.chunking.tokens_per_frame));
  const float scale = static_cast<float>(p.scale.value_or(1));  // 1 is accepted, as is none
  REHYAT_RETURN_IF_ERROR(check_normalisation(p.stabilizer, scale, static_cast<float>(p.denominator_epsilon),
                                             static_cast<float>(p.denominator_floor)));
  REHYAT_RETURN_IF_ERROR(check_phi(p));
  REHYAT_RETURN_IF_ERROR(check_given(p.given, p.phi_q.map, {p.q.batch, p.q.tokens, p.q.heads, p.q.dim},
                                     {p.q.batch, p.k.tokens, p.k.heads, p.q.dim}, true));
  REHYAT_RETURN_IF_ERROR(check_qkv_data(p.q, p.k, p.v));
  return check_given_data(p.given, p.phi_q.map, true);
}

/// Weights of a side: wanted all, or none.
template <class Real>
Status check_phi_gradient(const char* name, const Phi<Real>& phi, const PhiGradient<Real>& d) {
  if (!d.wanted()) return {};
  if (phi.map.kind != FeatureMap::Kind::polynomial) {
    return Status::error(StatusCode::invalid_argument,
                         "%s.weight is set, expected null: the map has no weights", name);
  }
  for (int i = 0; i < phi.map.num_layers; ++i) {
    if (d.weight[i] != nullptr && (d.bias[i] != nullptr) == (phi.bias[i] != nullptr)) continue;
    return Status::error(StatusCode::invalid_argument,
                         "%s lacks the gradient of layer %d's weight, or its bias does not go with the map's",
                         name, i);
  }
  return {};
}

template <class Real>
Status check(const HybridAttention<Real>& p, const HybridGradients<Real>& d) {
  using rehyat::detail::check_optional_output;
  const rehyat::detail::Shape q{p.q.batch, p.q.tokens, p.q.heads, p.q.dim};
  const std::int64_t features = p.phi_q.map.given_dim;
  const rehyat::detail::Shape q_features{q.batch, q.tokens, p.q.heads, features},
      k_features{q.batch, q.tokens, p.k.heads, features};
  REHYAT_RETURN_IF_ERROR(check_optional_output("gradients.q", d.q, q));
  REHYAT_RETURN_IF_ERROR(check_optional_output("gradients.k", d.k, {q.batch, q.tokens, p.k.heads, q.dim}));
  REHYAT_RETURN_IF_ERROR(check_optional_output("gradients.v", d.v, {q.batch, q.tokens, p.k.heads, p.v.dim}));
  REHYAT_RETURN_IF_ERROR(check_phi_gradient("gradients.phi_q", p.phi_q, d.phi_q));
  REHYAT_RETURN_IF_ERROR(check_phi_gradient("gradients.phi_k", p.phi_k, d.phi_k));
  const bool given = p.phi_q.map.kind == FeatureMap::Kind::given;
  const bool apart = given && p.given.q_denominator.data != nullptr;
  const auto check_features = [&](const char* name, const TensorView<Real>& view, const auto& shape,
                                  bool exists) -> Status {
    if (exists || view.data == nullptr) return check_optional_output(name, view, shape);
    return Status::error(StatusCode::invalid_argument,
                         "%s.data is set, expected null: no such features are given", name);
  };
  REHYAT_RETURN_IF_ERROR(check_features("gradients.given.q", d.given.q, q_features, given));
  REHYAT_RETURN_IF_ERROR(check_features("gradients.given.k", d.given.k, k_features, given));
  REHYAT_RETURN_IF_ERROR(
      check_features("gradients.given.q_denominator", d.given.q_denominator, q_features, apart));
  return check_features("gradients.given.k_denominator", d.given.k_denominator, k_features, apart);
}

}  // namespace rehyat::train::detail
