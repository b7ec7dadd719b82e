#pragma once
// What is trained, and where its gradients go.

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include "rehyat/parameters.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/train/feature_map.hpp"

namespace rehyat::train {

/// As rehyat::GivenFeatures, in Real.
template <std::floating_point Real>
struct GivenFeatures {
  TensorView<const Real> q = {}, k = {}, q_denominator = {}, k_denominator = {};
};

/// As rehyat::HybridAttention, in Real: same fields, defaults, shapes, strides and refusals.
template <std::floating_point Real>
struct HybridAttention {
  TensorView<const Real> q = {}, k = {}, v = {};
  Chunking chunking = {};
  Direction direction = Direction::causal;
  Phi<Real> phi_q = {}, phi_k = {};
  GivenFeatures<Real> given = {};
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<Real> scale = std::nullopt;
  std::span<const std::int64_t> frames = {};
  Real denominator_epsilon = 0;
  Real denominator_floor = 0;
};

/// Where gradients go. What has no data (phi: no first weight) is not wanted, and not computed where nothing
/// else needs it: training phi alone costs no softmax backward. Tensors have the shapes of what they are the
/// gradient of, any outer strides, and every element an address of its own.
template <std::floating_point Real>
struct HybridGradients {
  TensorView<Real> q = {}, k = {}, v = {};
  PhiGradient<Real> phi_q = {}, phi_k = {};
  struct Given {
    TensorView<Real> q = {}, k = {}, q_denominator = {}, k_denominator = {};
  } given = {};
};

}  // namespace rehyat::train
