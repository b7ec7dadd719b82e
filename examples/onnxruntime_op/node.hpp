#pragma once
// What a node rehyat::HybridAttention says about itself: its attributes, and the weights of phi.

#include <cinttypes>
#include <cstdint>
#include <cstring>
#include <vector>

#include "rehyat/attention.hpp"
#include "rehyat/packed_weights.hpp"
#include "runtime.hpp"

namespace rehyat_onnx {

using rehyat::FeatureMap;

inline constexpr std::size_t first_weight = 3, inputs_per_layer = 4;

/// Reads a node once, when its kernel is created.
class Node {
 public:
  std::int64_t heads = 0, kv_heads = 0;
  rehyat::HybridAttention settings = {};  ///< all but the tensors; views the packed weights

  Status read(const OrtApi& api, const OrtKernelInfo* info) {
    REHYAT_RETURN_IF_ERROR(read_attributes(api, info));
    std::size_t inputs = 0;
    REHYAT_RETURN_IF_ERROR(take(api, api.KernelInfo_GetInputCount(info, &inputs)));
    if (inputs <= first_weight) return {};  // phi is its output activation alone
    if ((inputs - first_weight) % inputs_per_layer != 0) {
      return Status::error(
          StatusCode::invalid_argument,
          "the node has %zu inputs, expected query, key, value and, for each layer, phi_q weight, "
          "phi_q bias, phi_k weight, phi_k bias",
          inputs);
    }
    for (std::size_t input = first_weight; input < inputs; input += inputs_per_layer) {
      REHYAT_RETURN_IF_ERROR(read_layer(api, info, input, heads, settings.phi_q, q_));
      REHYAT_RETURN_IF_ERROR(read_layer(api, info, input + 2, kv_heads, settings.phi_k, k_));
    }
    REHYAT_RETURN_IF_ERROR(pack(settings.phi_q, q_));
    return pack(settings.phi_k, k_);
  }

 private:
  /// A side's first and last width so far, and its weights in the order of the kernels.
  struct Side {
    std::int64_t head_dim = 0, width = 0;
    std::vector<char> packed = {};
  };

  template <class E>
  struct Choice {
    const char* name;
    E value;
  };

  Status read_attributes(const OrtApi& api, const OrtKernelInfo* info) {
    using rehyat::Stabilizer, rehyat::Direction, rehyat::named_activations;
    static constexpr Choice<Stabilizer> stabilizers[] = {{"row_max", Stabilizer::row_max},
                                                         {"none", Stabilizer::none}};
    static constexpr Choice<Direction> directions[] = {{"causal", Direction::causal},
                                                       {"bidirectional", Direction::bidirectional}};
    rehyat::Chunking& chunking = settings.chunking;
    REHYAT_RETURN_IF_ERROR(required(api, info, "num_heads", heads));
    REHYAT_RETURN_IF_ERROR(required(api, info, "tokens_per_frame", chunking.tokens_per_frame));
    REHYAT_RETURN_IF_ERROR(required(api, info, "chunk_frames", chunking.chunk_frames));
    REHYAT_RETURN_IF_ERROR(required(api, info, "overlap_frames", chunking.overlap_frames));
    kv_heads = heads;
    optional(api, info, "kv_num_heads", kv_heads);
    for (const auto& [name, value] : {Choice<std::int64_t>{"num_heads", heads}, {"kv_num_heads", kv_heads}}) {
      REHYAT_RETURN_IF_ERROR(at_least_1(name, value));
    }
    float scale = 0;
    if (take(api, api.KernelInfoGetAttribute_float(info, "scale", &scale)).ok()) settings.scale = scale;
    REHYAT_RETURN_IF_ERROR(choose(api, info, "direction", "causal", directions, settings.direction));
    REHYAT_RETURN_IF_ERROR(choose(api, info, "stabilizer", "row_max", stabilizers, settings.stabilizer));

    FeatureMap& phi = settings.phi_q;
    phi.kind = FeatureMap::Kind::elementwise;
    std::int64_t degree = 1;
    optional(api, info, "degree", degree);
    phi.degree = static_cast<int>(degree);
    REHYAT_RETURN_IF_ERROR(choose(api, info, "activation", "gelu", named_activations, phi.activation));
    REHYAT_RETURN_IF_ERROR(
        choose(api, info, "output_activation", nullptr, named_activations, phi.output_activation));
    settings.phi_k = phi;
    return {};
  }

  static bool optional(const OrtApi& api, const OrtKernelInfo* info, const char* name, std::int64_t& value) {
    return take(api, api.KernelInfoGetAttribute_int64(info, name, &value)).ok();
  }

  static Status required(const OrtApi& api, const OrtKernelInfo* info, const char* name,
                         std::int64_t& value) {
    if (optional(api, info, name, value)) return {};
    return Status::error(StatusCode::invalid_argument, "attribute %s is missing, expected an integer", name);
  }

  static Status at_least_1(const char* name, std::int64_t value) {
    if (value >= 1) return {};
    return Status::error(StatusCode::invalid_argument, "attribute %s is %" PRId64 ", expected at least 1",
                         name, value);
  }

  /// A string attribute; `absent` is what it is taken for where it is missing, null if it must be there.
  template <class Named, std::size_t n, class E>
  static Status choose(const OrtApi& api, const OrtKernelInfo* info, const char* name, const char* absent,
                       const Named (&choices)[n], E& chosen) {
    char text[32] = {};
    std::size_t size = sizeof text;
    const bool found = take(api, api.KernelInfoGetAttribute_string(info, name, text, &size)).ok();
    const char* const wanted = found ? text : absent;
    std::string names;
    for (const Named& choice : choices) {
      if (wanted != nullptr && std::strcmp(choice.name, wanted) == 0) return chosen = choice.value, Status();
      names += names.empty() ? "" : ", ", names += choice.name;
    }
    return Status::error(StatusCode::invalid_argument, "attribute %s is %s, expected one of %s", name,
                         wanted == nullptr ? "missing" : wanted, names.c_str());
  }

  static Result<Tensor> initializer(const OrtApi& api, const OrtKernelInfo* info, std::size_t input) {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    REHYAT_RETURN_IF_ERROR(
        take(api, api.KernelInfoGetConstantInput_tensor(info, input, &is_constant, &value)));
    if (is_constant != 0 && value != nullptr) return Tensor::of(api, value);
    return Status::error(StatusCode::invalid_argument, "input %zu is computed, expected an initializer",
                         input);
  }

  /// Weight [num_heads * out, in, 1] and bias [num_heads * out] of a grouped Conv1d, at inputs `input` and
  /// the next.
  static Status read_layer(const OrtApi& api, const OrtKernelInfo* info, std::size_t input,
                           std::int64_t num_heads, FeatureMap& phi, Side& side) {
    const Result<Tensor> weight = initializer(api, info, input), bias = initializer(api, info, input + 1);
    if (!weight.ok()) return weight.status();
    if (!bias.ok()) return bias.status();
    REHYAT_RETURN_IF_ERROR(weight->expect_rank("a weight of phi", 3));
    REHYAT_RETURN_IF_ERROR(bias->expect_rank("a bias of phi", 1));
    if (phi.num_layers == rehyat::max_feature_layers) {
      return Status::error(StatusCode::invalid_argument, "phi has more than %d layers", phi.num_layers);
    }
    const std::int64_t rows = weight->shape[0], in = weight->shape[1];
    if (phi.num_layers == 0) side.head_dim = side.width = in;
    if (rows % num_heads != 0 || in != side.width || weight->shape[2] != 1 || bias->shape[0] != rows) {
      return Status::error(StatusCode::invalid_argument,
                           "inputs %zu and %zu are [%" PRId64 ", %" PRId64 ", %" PRId64 "] and [%" PRId64
                           "], expected [n, %" PRId64 ", 1] and [n], n a multiple of %" PRId64 " heads",
                           input, input + 1, rows, in, weight->shape[2], bias->shape[0], side.width,
                           num_heads);
    }
    phi.kind = FeatureMap::Kind::polynomial;
    phi.heads = num_heads;
    side.width = rows / num_heads;
    phi.layers[phi.num_layers++] = {.weight = static_cast<const float*>(weight->data),
                                    .bias = static_cast<const float*>(bias->data),
                                    .out_dim = side.width};
    return {};
  }

  /// The session may drop its initializers after this.
  static Status pack(FeatureMap& phi, Side& side) {
    const Result<std::size_t> size = rehyat::packed_weights_size(phi, side.head_dim);
    if (!size.ok()) return size.status();
    side.packed.resize(*size);
    const Result<FeatureMap> packed =
        rehyat::pack_weights(phi, side.head_dim, {side.packed.data(), side.packed.size()});
    if (!packed.ok()) return packed.status();
    phi = *packed;
    return {};
  }

  Side q_, k_;
};

}  // namespace rehyat_onnx
