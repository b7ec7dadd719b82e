#pragma once
// A model's safetensors file: any tensors, by name, and the feature maps of its layers. Needs nlohmann-json.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "rehyat/io/file.hpp"
#include "rehyat/io/half.hpp"
#include "rehyat/io/safetensors.hpp"
#include "rehyat/io/safetensors_layout.hpp"
#include "rehyat/status.hpp"

namespace rehyat {

/// The checked contents of a safetensors file: tensors of F32, F16, BF16 or F64 and at most 3 dimensions, and
/// string metadata. Moving it is cheap.
class TensorFile {
 public:
  /// Reads and checks a file. StatusCode::invalid_file refuses whatever is malformed.
  static Result<TensorFile> read(const char* path) {
    Result<HeapArray<std::byte>> bytes = detail::read_file(path);
    if (!bytes.ok()) return bytes.status();
    TensorFile file;
    file.name_ = path;
    file.bytes_ = std::move(*bytes);
    REHYAT_RETURN_IF_ERROR(detail::parse_tensor_header(file.bytes_.span(), path, file.entries_, file.data_));
    return file;
  }

  /// The extents of a tensor; none where the file lacks it, or it is a scalar.
  std::span<const std::int64_t> shape(const std::string& name) const {
    const detail::StoredTensor* const tensor = find(name);
    return tensor == nullptr ? std::span<const std::int64_t>() : tensor->extents();
  }

  /// The value of a metadata entry, or null.
  const std::string* metadata(const std::string& key) const {
    const auto found = entries_.metadata.find(key);
    return found == entries_.metadata.end() || !found->second ? nullptr : &*found->second;
  }

  /// Converts a tensor, which must have this shape, into `out`, which has room for it.
  Status read_tensor(const std::string& name, std::span<const std::int64_t> shape, float* out) const {
    const detail::StoredTensor* const tensor = find(name);
    if (tensor == nullptr) return detail::file_error(name_.c_str(), "lacks tensor %s", name.c_str());
    const std::span<const std::int64_t> extents = tensor->extents();
    if (!std::equal(extents.begin(), extents.end(), shape.begin(), shape.end())) {
      return detail::file_error(name_.c_str(), "tensor %s has shape %s; expected %s", name.c_str(),
                                detail::ShapeText(extents).c_str(), detail::ShapeText(shape).c_str());
    }
    convert_to_float(tensor->type, data_.data() + tensor->begin,
                     (tensor->end - tensor->begin) / stored_size(tensor->type), out);
    return {};
  }

  /// phi_q and phi_k of one of several layers: the tensors that read_feature_maps() takes, their names behind
  /// `prefix` ("layer2."); degree and activations are the file's. What else is in the file does not matter.
  Result<FeatureMapWeights> feature_maps(const std::string& prefix, const FeatureMapHeads& expected) const {
    REHYAT_RETURN_IF_ERROR(detail::check_heads(expected));
    detail::StoredFeatureMaps stored;
    for (const auto& [name, tensor] : entries_.tensors) {
      if (!name.starts_with(prefix + "phi_")) continue;
      detail::StoredTensor* const place = stored.place_of(name.substr(prefix.size()));
      if (place == nullptr) {
        return detail::file_error(name_.c_str(), "unknown tensor '%s'; expected %s behind %s",
                                  detail::Printable(name).c_str(), stored.expected_names().c_str(),
                                  prefix.c_str());
      }
      *place = tensor;
    }
    for (int key = 0; key < detail::num_phi_metadata; ++key) {
      const std::string* const value = metadata(std::string(detail::phi_metadata_keys[key]));
      if (value != nullptr) stored.metadata[key] = *value;
    }
    return detail::make_feature_maps(stored, data_, expected, (name_ + " (" + prefix + ")").c_str());
  }

 private:
  const detail::StoredTensor* find(const std::string& name) const {
    const auto found = entries_.tensors.find(name);
    return found == entries_.tensors.end() ? nullptr : &found->second;
  }

  std::string name_;
  HeapArray<std::byte> bytes_;
  std::span<const std::byte> data_;
  detail::AnyTensors entries_;
};

}  // namespace rehyat
