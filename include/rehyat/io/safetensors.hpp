#pragma once
// The weights of polynomial feature maps in a safetensors file: float32 tensors phi_q.0.weight [heads,
// hidden, D], phi_q.0.bias [heads, hidden], phi_q.1.weight [heads, F, hidden], ..., the same for phi_k with
// its kv heads, and the string metadata degree, activation, output_activation. Needs nlohmann-json.

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rehyat/feature_map.hpp"
#include "rehyat/io/file.hpp"
#include "rehyat/io/half.hpp"
#include "rehyat/io/safetensors_layout.hpp"
#include "rehyat/status.hpp"

namespace rehyat {

/// Feature maps and the memory they view. Moving it keeps the views; it cannot be copied.
struct FeatureMapWeights {
  HeapArray<float> weights;
  FeatureMap phi_q;
  FeatureMap phi_k;
};

/// The model that the weights must fit.
struct FeatureMapHeads {
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
};

namespace detail {

inline Status parse_activation(int key, const StoredFeatureMaps& stored, const char* file,
                               Activation& activation) {
  for (const NamedActivation& known : named_activations) {
    if (known.name != *stored.metadata[key]) continue;
    activation = known.value;
    return {};
  }
  return file_error(file, "metadata %s is '%s'; expected identity, relu, gelu, silu, softplus or elu1",
                    phi_metadata_keys[key].data(), Printable(*stored.metadata[key]).c_str());
}

/// Sets what phi_q and phi_k share.
inline Status read_metadata(const StoredFeatureMaps& stored, const char* file, FeatureMap& map) {
  for (int key = 0; key < num_phi_metadata; ++key) {
    if (!stored.metadata[key]) return file_error(file, "lacks metadata %s", phi_metadata_keys[key].data());
  }
  const std::string& degree = *stored.metadata[0];
  if (degree.size() != 1 || degree[0] < '1' || degree[0] > '0' + max_feature_degree) {
    return file_error(file, "metadata degree is '%s'; expected 1 to %d", Printable(degree).c_str(),
                      max_feature_degree);
  }
  map.kind = FeatureMap::Kind::polynomial;
  map.degree = degree[0] - '0';
  REHYAT_RETURN_IF_ERROR(parse_activation(1, stored, file, map.activation));
  return parse_activation(2, stored, file, map.output_activation);
}

/// The out_dim of a weight [heads, out_dim, in_dim] or, as Conv1d stores the same bytes, [heads * out_dim,
/// in_dim, 1]; 0 if it is neither.
inline std::int64_t weight_out_dim(const StoredTensor& weight, std::int64_t heads, std::int64_t in_dim) {
  const std::int64_t* const s = weight.shape;
  if (weight.rank != 3) return 0;
  if (s[0] == heads && s[2] == in_dim) return s[1];
  return s[0] % heads == 0 && s[1] == in_dim && s[2] == 1 ? s[0] / heads : 0;
}

inline bool is_bias_shape(const StoredTensor& bias, std::int64_t heads, std::int64_t out_dim) {
  const std::int64_t* const s = bias.shape;
  return bias.rank == 2 ? s[0] == heads && s[1] == out_dim
                        : bias.rank == 1 && s[0] % heads == 0 && s[0] / heads == out_dim;
}

/// Sets the widths of one side's layers.
inline Status read_layers(const StoredFeatureMaps& stored, int side, std::int64_t heads,
                          std::int64_t head_dim, const char* file, FeatureMap& map) {
  map.heads = heads;
  std::int64_t in_dim = head_dim;
  for (int layer = 0; layer < max_feature_layers; ++layer) {
    const int weight_index = phi_tensor_index(side, layer, false),
              bias_index = phi_tensor_index(side, layer, true);
    const StoredTensor &weight = stored.tensors[weight_index], &bias = stored.tensors[bias_index];
    if (!weight.present) {
      if (layer == 0 || bias.present)
        return file_error(file, "lacks tensor %s", phi_tensor_name(weight_index).c_str());
      continue;
    }
    if (map.num_layers != layer) {
      return file_error(file, "has tensor %s but lacks %s", phi_tensor_name(weight_index).c_str(),
                        phi_tensor_name(weight_index - 2).c_str());
    }
    const std::int64_t out_dim = weight_out_dim(weight, heads, in_dim);
    if (out_dim < 1 || out_dim > max_feature_dim) {
      return file_error(file,
                        "tensor %s has shape %s; expected [%" PRId64 ", n, %" PRId64 "] or [%" PRId64
                        " * n, %" PRId64 ", 1] with n from 1 to %" PRId64,
                        phi_tensor_name(weight_index).c_str(), ShapeText(weight.extents()).c_str(), heads,
                        in_dim, heads, in_dim, max_feature_dim);
    }
    if (bias.present && !is_bias_shape(bias, heads, out_dim)) {
      return file_error(file, "tensor %s has shape %s; expected [%" PRId64 ", %" PRId64 "] or [%" PRId64 "]",
                        phi_tensor_name(bias_index).c_str(), ShapeText(bias.extents()).c_str(), heads,
                        out_dim, heads * out_dim);
    }
    map.layers[layer].out_dim = out_dim;
    map.num_layers = layer + 1;
    in_dim = out_dim;
  }
  if (in_dim % map.degree != 0) {
    return file_error(file, "tensor %s gives %" PRId64 " features; expected a multiple of the degree %d",
                      phi_tensor_name(phi_tensor_index(side, map.num_layers - 1, false)).c_str(), in_dim,
                      map.degree);
  }
  return {};
}

/// Converts the tensors into one allocation and points the layers at it.
inline Status load_weights(const StoredFeatureMaps& stored, std::span<const std::byte> data, const char* file,
                           FeatureMapWeights& maps) {
  const auto count_of = [](const StoredTensor& t) { return (t.end - t.begin) / stored_size(t.type); };
  std::int64_t total = 0;
  for (const StoredTensor& t : stored.tensors) total += count_of(t);
  if (!maps.weights.allocate(static_cast<std::size_t>(total))) {
    return file_error(file, "no memory for its %" PRId64 " weights", total);
  }
  float* next = maps.weights.data();
  for (int side = 0; side < 2; ++side) {
    FeatureMap& map = side == 0 ? maps.phi_q : maps.phi_k;
    for (int layer = 0; layer < map.num_layers; ++layer) {
      for (const bool is_bias : {false, true}) {
        const StoredTensor& t = stored.tensors[phi_tensor_index(side, layer, is_bias)];
        if (!t.present) continue;
        (is_bias ? map.layers[layer].bias : map.layers[layer].weight) = next;
        convert_to_float(t.type, data.data() + t.begin, count_of(t), next);
        next += count_of(t);
      }
    }
  }
  return {};
}

inline Status check_heads(const FeatureMapHeads& expected) {
  if (expected.query_heads < 1 || expected.kv_heads < 1 || expected.head_dim < 1) {
    return Status::error(StatusCode::invalid_argument,
                         "query_heads %" PRId64 ", kv_heads %" PRId64 ", head_dim %" PRId64
                         "; expected positive numbers",
                         expected.query_heads, expected.kv_heads, expected.head_dim);
  }
  return {};
}

/// Feature maps of the tensors that were found.
inline Result<FeatureMapWeights> make_feature_maps(const StoredFeatureMaps& stored,
                                                   std::span<const std::byte> data,
                                                   const FeatureMapHeads& expected, const char* name) {
  FeatureMapWeights maps;
  REHYAT_RETURN_IF_ERROR(read_metadata(stored, name, maps.phi_q));
  maps.phi_k = maps.phi_q;
  REHYAT_RETURN_IF_ERROR(read_layers(stored, 0, expected.query_heads, expected.head_dim, name, maps.phi_q));
  REHYAT_RETURN_IF_ERROR(read_layers(stored, 1, expected.kv_heads, expected.head_dim, name, maps.phi_k));
  const std::int64_t q_features = maps.phi_q.feature_dim(expected.head_dim);
  const std::int64_t k_features = maps.phi_k.feature_dim(expected.head_dim);
  if (q_features != k_features) {
    return file_error(name,
                      "phi_q gives %" PRId64 " features and phi_k %" PRId64 "; expected the same number",
                      q_features, k_features);
  }
  REHYAT_RETURN_IF_ERROR(load_weights(stored, data, name, maps));
  return maps;
}

/// Refuses what the file cannot hold, or a reader would refuse.
inline Status check_writable(const FeatureMap& phi_q, const FeatureMap& phi_k, std::int64_t head_dim) {
  const auto refuse = [](const char* why) { return Status::error(StatusCode::invalid_argument, "%s", why); };
  for (const FeatureMap* map : {&phi_q, &phi_k}) {
    if (map->kind != FeatureMap::Kind::polynomial)
      return refuse("only polynomial feature maps can be written");
    if (map->layout != WeightLayout::rows) return refuse("packed weights cannot be written");
    if (map->num_layers < 1 || map->num_layers > max_feature_layers)
      return refuse("num_layers must be 1 to 3");
    if (map->degree < 1 || map->degree > max_feature_degree) return refuse("degree must be 1 to 4");
    if (map->heads < 1 || head_dim < 1) return refuse("heads and head_dim must be positive");
    for (const DenseLayer& layer : std::span(map->layers, static_cast<std::size_t>(map->num_layers))) {
      if (layer.weight == nullptr) return refuse("a layer has no weight");
      if (layer.out_dim < 1 || layer.out_dim > max_feature_dim) return refuse("out_dim must be 1 to 16384");
    }
    if (map->feature_dim(head_dim) % map->degree != 0)
      return refuse("the last out_dim must be a multiple of degree");
  }
  if (phi_q.degree != phi_k.degree || phi_q.activation != phi_k.activation ||
      phi_q.output_activation != phi_k.output_activation ||
      phi_q.feature_dim(head_dim) != phi_k.feature_dim(head_dim)) {
    return refuse("phi_q and phi_k must agree in degree, activations and number of features");
  }
  return {};
}

/// Lays tensors out one after another: the header's entries, and the bytes they stand for.
struct PhiFileBuilder {
  std::string header;
  std::vector<std::span<const std::byte>> parts;
  std::int64_t size = 0;

  /// False if the tensor would be larger than any file.
  bool add(int index, std::span<const std::int64_t> shape, const float* data) {
    std::int64_t bytes = 0, end = 0;
    if (!checked_bytes(shape, sizeof(float), bytes) || __builtin_add_overflow(size, bytes, &end))
      return false;
    header += ", \"" + phi_tensor_name(index) +
              "\": {\"dtype\": \"F32\", \"shape\": " + ShapeText(shape).c_str() + ", \"data_offsets\": [" +
              std::to_string(size) + ", " + std::to_string(end) + "]}";
    parts.push_back({reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(bytes)});
    size = end;
    return true;
  }
};

}  // namespace detail

/// Parses the bytes of a safetensors file of phi_q and phi_k (see the top of this header; Conv1d shapes
/// [heads * out, in, 1] and [heads * out], and F16, BF16 and F64, are taken too). `name` stands for the file
/// in messages. StatusCode::invalid_file refuses whatever is malformed or does not fit `expected`, and
/// StatusCode::invalid_argument an `expected` that is not positive.
inline Result<FeatureMapWeights> parse_feature_maps(std::span<const std::byte> bytes,
                                                    const FeatureMapHeads& expected, const char* name) {
  REHYAT_RETURN_IF_ERROR(detail::check_heads(expected));
  detail::StoredFeatureMaps stored;
  std::span<const std::byte> data;
  REHYAT_RETURN_IF_ERROR(detail::parse_tensor_header(bytes, name, stored, data));
  return detail::make_feature_maps(stored, data, expected, name);
}

/// Reads a safetensors file of phi_q and phi_k; see parse_feature_maps.
inline Result<FeatureMapWeights> read_feature_maps(const char* path, const FeatureMapHeads& expected) {
  const Result<HeapArray<std::byte>> bytes = detail::read_file(path);
  if (!bytes.ok()) return bytes.status();
  return parse_feature_maps(bytes->span(), expected, path);
}

/// Writes two polynomial feature maps, for queries and keys of `head_dim` elements, so that read_feature_maps
/// returns them bit for bit. They share the degree and the activations. The file appears whole or not at all:
/// after an error (StatusCode::invalid_argument for maps that cannot be written, StatusCode::invalid_file
/// from the system) `path` is what it was.
inline Status write_feature_maps(const char* path, const FeatureMap& phi_q, const FeatureMap& phi_k,
                                 std::int64_t head_dim) {
  REHYAT_RETURN_IF_ERROR(detail::check_writable(phi_q, phi_k, head_dim));
  detail::PhiFileBuilder file;
  file.parts.resize(2);  // the header and its length go in front
  bool fits = true;
  for (int side = 0; side < 2; ++side) {
    const FeatureMap& map = side == 0 ? phi_q : phi_k;
    std::int64_t in_dim = head_dim;
    for (int i = 0; i < map.num_layers; ++i) {
      const DenseLayer& layer = map.layers[i];
      const std::int64_t shape[] = {map.heads, layer.out_dim, in_dim};
      fits = fits && file.add(detail::phi_tensor_index(side, i, false), shape, layer.weight);
      if (layer.bias != nullptr) {
        fits =
            fits && file.add(detail::phi_tensor_index(side, i, true), std::span(shape).first(2), layer.bias);
      }
      in_dim = layer.out_dim;
    }
  }
  if (!fits) return Status::error(StatusCode::invalid_argument, "the weights are larger than any file");

  std::string header = "{\"__metadata__\": {\"degree\": \"" + std::to_string(phi_q.degree) +
                       "\", \"activation\": \"" + activation_name(phi_q.activation) +
                       "\", \"output_activation\": \"" + activation_name(phi_q.output_activation) + "\"}" +
                       file.header + "}";
  constexpr std::size_t alignment = 8;
  header.append((alignment - header.size() % alignment) % alignment, ' ');
  const std::uint64_t length = header.size();
  file.parts[0] = std::as_bytes(std::span(&length, 1));
  file.parts[1] = std::as_bytes(std::span(header));
  return detail::write_file_atomically(path, file.parts);
}

}  // namespace rehyat
