#pragma once
// What the header of a safetensors file may declare: any tensors, or those of phi_q and phi_k alone.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rehyat/feature_map.hpp"
#include "rehyat/io/half.hpp"

namespace rehyat::detail {

/// Where a tensor lies: data_offsets are bytes behind the header.
struct StoredTensor {
  static constexpr int max_rank = 3;

  bool present = false;
  StoredType type = StoredType::float32;
  std::int64_t shape[max_rank] = {};
  int rank = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::span<const std::int64_t> extents() const { return {shape, static_cast<std::size_t>(rank)}; }
};

struct NamedTensor {
  std::string name;
  const StoredTensor* tensor = nullptr;
};

/// What a file may hold, and where the reader of its header puts it.
class StoredTensors {
 public:
  /// The place of a tensor, or null where there can be none of that name.
  virtual StoredTensor* place_of(const std::string& name) = 0;
  /// The place of a metadata entry, or null where it is of no interest.
  virtual std::optional<std::string>* metadata_of(const std::string& key) = 0;
  /// What place_of() takes, for messages.
  virtual std::string expected_names() const = 0;
  /// Those that are present.
  virtual std::vector<NamedTensor> present() const = 0;

 protected:
  ~StoredTensors() = default;
};

/// Any tensors and metadata, by name.
struct AnyTensors final : StoredTensors {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::optional<std::string>> metadata;

  StoredTensor* place_of(const std::string& name) override { return &tensors[name]; }
  std::optional<std::string>* metadata_of(const std::string& key) override { return &metadata[key]; }
  std::string expected_names() const override { return "any name"; }
  std::vector<NamedTensor> present() const override {
    std::vector<NamedTensor> all;
    for (const auto& [name, tensor] : tensors) all.push_back({name, &tensor});
    return all;
  }
};

/// Tensors are numbered side (phi_q, phi_k), then layer, then weight, bias.
inline constexpr int num_phi_tensors = 2 * max_feature_layers * 2;
constexpr int phi_tensor_index(int side, int layer, bool bias) {
  return (side * max_feature_layers + layer) * 2 + (bias ? 1 : 0);
}

/// "phi_q.0.weight"
inline std::string phi_tensor_name(int index) {
  const int layer = index / 2 % max_feature_layers, side = index / 2 / max_feature_layers;
  return std::string(side == 0 ? "phi_q." : "phi_k.") + std::to_string(layer) +
         (index % 2 == 0 ? ".weight" : ".bias");
}

inline constexpr int num_phi_metadata = 3;
inline constexpr std::string_view phi_metadata_keys[num_phi_metadata] = {"degree", "activation",
                                                                         "output_activation"};

/// The tensors of phi_q and phi_k, and no others.
struct StoredFeatureMaps final : StoredTensors {
  StoredTensor tensors[num_phi_tensors];
  std::optional<std::string> metadata[num_phi_metadata];  ///< by phi_metadata_keys

  StoredTensor* place_of(const std::string& name) override {
    for (int i = 0; i < num_phi_tensors; ++i) {
      if (phi_tensor_name(i) == name) return &tensors[i];
    }
    return nullptr;
  }
  std::optional<std::string>* metadata_of(const std::string& key) override {
    const auto* known = std::find(std::begin(phi_metadata_keys), std::end(phi_metadata_keys), key);
    return known == std::end(phi_metadata_keys) ? nullptr : &metadata[known - std::begin(phi_metadata_keys)];
  }
  std::string expected_names() const override {
    return "phi_q or phi_k, .0 to ." + std::to_string(max_feature_layers - 1) + ", .weight or .bias";
  }
  std::vector<NamedTensor> present() const override {
    std::vector<NamedTensor> all;
    for (int i = 0; i < num_phi_tensors; ++i) {
      if (tensors[i].present) all.push_back({phi_tensor_name(i), &tensors[i]});
    }
    return all;
  }
};

}  // namespace rehyat::detail
