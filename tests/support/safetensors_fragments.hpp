#pragma once
// A small safetensors file of feature maps in pieces that a test can change, and what holds for all that is
// read.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rehyat/feature_map.hpp"
#include "rehyat/io/safetensors.hpp"
#include "support/files.hpp"

namespace rehyat::test {

/// What the file is read for.
inline constexpr FeatureMapHeads fragment_heads = {.query_heads = 2, .kv_heads = 1, .head_dim = 3};

inline Result<FeatureMapWeights> parse_phi(std::string_view bytes,
                                           const FeatureMapHeads& expected = fragment_heads) {
  return parse_exact(bytes, [&](std::span<const std::byte> exact) {
    return parse_feature_maps(exact, expected, "phi.safetensors");
  });
}

inline std::string with_length(std::uint64_t length, const std::string& header, const std::string& data) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

/// A file as text fragments, each of which a test may replace. phi_q: 3 -> 4 -> 2, phi_k: 3 -> 2, degree 2.
struct PhiFragments {
  std::string metadata =
      R"("__metadata__":{"degree":"2","activation":"gelu","output_activation":"softplus"})";
  std::string q0 = R"("phi_q.0.weight":{"dtype":"F32","shape":[2,4,3],"data_offsets":[0,96]})";
  std::string q0_bias = R"("phi_q.0.bias":{"dtype":"F32","shape":[2,4],"data_offsets":[96,128]})";
  std::string q1 = R"("phi_q.1.weight":{"dtype":"F32","shape":[2,2,4],"data_offsets":[128,192]})";
  std::string k0 = R"("phi_k.0.weight":{"dtype":"F32","shape":[1,2,3],"data_offsets":[192,216]})";
  std::string k0_bias = R"("phi_k.0.bias":{"dtype":"F32","shape":[1,2],"data_offsets":[216,224]})";
  std::size_t data_size = 224;

  std::string file() const {
    std::string header = "{" + metadata;
    for (const std::string* tensor : {&q0, &q0_bias, &q1, &k0, &k0_bias}) {
      if (!tensor->empty()) header += "," + *tensor;
    }
    header += "}";
    std::vector<float> data;
    for (std::size_t i = 0; i < (data_size + 3) / 4; ++i) data.push_back(static_cast<float>(i));
    return with_length(header.size(), header, bytes_of(data).substr(0, data_size));
  }
};

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

/// Whatever was read must be usable: the layers view the loaded weights, one after another, and fill them.
inline void expect_consistent(const Result<FeatureMapWeights>& maps) {
  if (!maps.ok()) {
    EXPECT_EQ(maps.status().code(), StatusCode::invalid_file);
    EXPECT_NE(std::string_view(maps.status().message()).find("phi.safetensors: "), std::string_view::npos);
    return;
  }
  const float* next = maps->weights.data();
  for (const FeatureMap* map : {&maps->phi_q, &maps->phi_k}) {
    ASSERT_EQ(map->kind, FeatureMap::Kind::polynomial);
    ASSERT_EQ(map->heads, map == &maps->phi_q ? fragment_heads.query_heads : fragment_heads.kv_heads);
    ASSERT_TRUE(map->degree >= 1 && map->degree <= max_feature_degree);
    ASSERT_TRUE(map->num_layers >= 1 && map->num_layers <= max_feature_layers);
    std::int64_t in_dim = fragment_heads.head_dim;
    for (int i = 0; i < map->num_layers; ++i) {
      const DenseLayer& layer = map->layers[i];
      ASSERT_EQ(layer.weight, next);
      next += map->heads * layer.out_dim * in_dim;
      if (layer.bias != nullptr) {
        ASSERT_EQ(layer.bias, next);
        next += map->heads * layer.out_dim;
      }
      in_dim = layer.out_dim;
    }
    EXPECT_EQ(in_dim % map->degree, 0);
    EXPECT_EQ(in_dim, maps->phi_q.feature_dim(fragment_heads.head_dim));
  }
  EXPECT_EQ(next, maps->weights.data() + maps->weights.size());
}

}  // namespace rehyat::test
