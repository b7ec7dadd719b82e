#pragma once
// Feature maps and other settings of a model, as PyTorch holds them.

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Optional.h>

#include <string>
#include <vector>

#include "rehyat/feature_map.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/train/feature_map.hpp"

namespace rehyat_torch {

/// Tensor?[] of an operator's schema.
using TensorList = c10::List<c10::optional<at::Tensor>>;

/// Without the optional: what is absent becomes a tensor without elements.
inline std::vector<at::Tensor> present(const TensorList& list) {
  std::vector<at::Tensor> tensors;
  for (const c10::optional<at::Tensor>& t : list) tensors.push_back(t ? *t : at::empty({0}));
  return tensors;
}

/// What phi_q and phi_k share.
struct PhiSettings {
  std::string feature_map, activation, output_activation;
  int64_t degree = 1;
};

inline rehyat::Activation activation_of(const char* name, const std::string& value) {
  std::string known;
  for (const auto& candidate : rehyat::named_activations) {
    if (value == candidate.name) return candidate.value;
    known += std::string(known.empty() ? "" : ", ") + candidate.name;
  }
  TORCH_CHECK(false, "rehyat: ", name, " is '", value, "', expected one of ", known);
}

inline rehyat::Stabilizer stabilizer_of(const std::string& name) {
  TORCH_CHECK(name == "row_max" || name == "none", "rehyat: stabilizer is '", name,
              "', expected row_max or none");
  return name == "none" ? rehyat::Stabilizer::none : rehyat::Stabilizer::row_max;
}

/// One side's map over the weights of PyTorch's modules, in Real: converted, hence copied, only where they
/// have another type or gaps. The tensors of an elementwise or given map are not weights.
template <class Real>
class PhiSide {
 public:
  PhiSide(const char* name, const std::vector<at::Tensor>& tensors, const PhiSettings& settings,
          int64_t heads, int64_t head_dim) {
    rehyat::FeatureMap& map = phi.map;
    map.heads = heads;
    if (settings.feature_map == "given") {
      TORCH_CHECK(tensors.size() == 1 || tensors.size() == 2, "rehyat: ", name, " has ", tensors.size(),
                  " tensors, expected the features, then perhaps those of the denominator");
      map = rehyat::FeatureMap::given(tensors[0].dim() == 4 ? tensors[0].size(3) : 0);
      return;
    }
    if (settings.feature_map != "polynomial") {
      TORCH_CHECK(settings.feature_map == "elu1" || settings.feature_map == "relu" ||
                      settings.feature_map == "identity",
                  "rehyat: feature_map is '", settings.feature_map,
                  "', expected one of polynomial, elu1, relu, identity, given");
      TORCH_CHECK(tensors.empty(), "rehyat: ", name, " has ", tensors.size(), " tensors, expected none for ",
                  settings.feature_map);
      map = rehyat::FeatureMap::elementwise(activation_of("feature_map", settings.feature_map));
      return;
    }
    map.kind = rehyat::FeatureMap::Kind::polynomial;
    map.degree = static_cast<int>(settings.degree);
    map.activation = activation_of("activation", settings.activation);
    map.output_activation = activation_of("output_activation", settings.output_activation);
    take_layers(name, tensors, heads, head_dim);
  }

  /// For the kernels, which take float weights where the map has them.
  rehyat::FeatureMap map() const {
    rehyat::FeatureMap map = phi.map;
    for (int i = 0; i < map.num_layers; ++i)
      map.layers[i].weight = phi.weight[i], map.layers[i].bias = phi.bias[i];
    return map;
  }

  rehyat::train::Phi<Real> phi;

 private:
  /// weight, bias, weight, bias, ...: those of Conv1d(heads * in, heads * out, 1, groups=heads).
  void take_layers(const char* name, const std::vector<at::Tensor>& tensors, int64_t heads, int64_t in_dim) {
    constexpr std::size_t most = 2 * rehyat::max_feature_layers;
    TORCH_CHECK(!tensors.empty() && tensors.size() <= most && tensors.size() % 2 == 0, "rehyat: ", name,
                " has ", tensors.size(), " tensors, expected weight and bias (or None) of 1 to 3 layers");
    phi.map.num_layers = static_cast<int>(tensors.size() / 2);
    for (std::size_t i = 0; i < tensors.size(); i += 2) {
      const at::Tensor &weight = tensors[i], &bias = tensors[i + 1];
      const bool fits = weight.dim() >= 2 && weight.size(0) % heads == 0 && weight.size(1) == in_dim &&
                        weight.numel() == weight.size(0) * in_dim;
      TORCH_CHECK(fits, "rehyat: ", name, "[", i, "] has shape ", weight.sizes(), ", expected [", heads,
                  " * out, ", in_dim, ", 1], the weight of Conv1d(", heads, " * ", in_dim, ", ", heads,
                  " * out, 1, groups=", heads, ")");
      TORCH_CHECK(bias.numel() == 0 || bias.numel() == weight.size(0), "rehyat: ", name, "[", i + 1,
                  "] has shape ", bias.sizes(), ", expected [", weight.size(0), "] or None");
      phi.weight[i / 2] = keep(weight);
      phi.bias[i / 2] = bias.numel() == 0 ? nullptr : keep(bias);
      in_dim = phi.map.layers[i / 2].out_dim = weight.size(0) / heads;
    }
  }

  const Real* keep(const at::Tensor& t) {
    TORCH_CHECK(t.device().is_cpu(), "rehyat: a weight of phi is on ", t.device(), ", expected cpu");
    kept_.push_back(t.detach().to(c10::CppTypeToScalarType<Real>::value).contiguous());
    return kept_.back().template data_ptr<Real>();
  }

  std::vector<at::Tensor> kept_;
};

}  // namespace rehyat_torch
