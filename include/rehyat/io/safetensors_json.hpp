#pragma once
// The header of a safetensors file that holds phi_q and phi_k: which tensors lie where. Everything in it is
// foreign.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "rehyat/feature_map.hpp"
#include "rehyat/io/file.hpp"
#include "rehyat/io/half.hpp"
#include "rehyat/status.hpp"

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

struct StoredFeatureMaps {
  StoredTensor tensors[num_phi_tensors];
  std::optional<std::string> metadata[num_phi_metadata];  ///< by phi_metadata_keys
};

/// Takes the header's JSON event by event, and refuses the first that has no place in it: nothing is stored
/// but what a StoredFeatureMaps holds, however deep or long the text is.
class PhiHeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  PhiHeaderReader(StoredFeatureMaps& maps, const char* file) : maps_(maps), file_(file) {}

  const Status& status() const { return status_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a fraction or too large a number");
  }
  bool binary(binary_t&) override { return unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::list) return unexpected("a number");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return unexpected("a number above 2^63 - 1");
    const bool is_shape = field_ == shape;
    if (list_size_ == (is_shape ? StoredTensor::max_rank : 2)) {
      return refuse(file_error(file_, "tensor %s: %s has more than %d numbers", name_.c_str(),
                               field_names[field_], list_size_));
    }
    (is_shape          ? tensor().shape[list_size_]
     : list_size_ == 0 ? tensor().begin
                       : tensor().end) = static_cast<std::int64_t>(value);
    ++list_size_;
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      if (entry_ < num_phi_metadata) maps_.metadata[entry_] = value;
      return true;
    }
    if (place_ != Place::tensor || field_ != dtype) return unexpected("a string");
    const auto* known =
        std::find_if(std::begin(dtypes), std::end(dtypes), [&](const auto& d) { return d.name == value; });
    if (known == std::end(dtypes)) {
      return refuse(file_error(file_, "tensor %s has dtype '%s'; expected F32, F16, BF16 or F64",
                               name_.c_str(), Printable(value).c_str()));
    }
    tensor().type = known->type;
    return true;
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::outside:
        place_ = Place::root;
        return true;
      case Place::root:
        place_ = name_ == metadata_name ? Place::metadata : Place::tensor;
        fields_seen_ = 0;
        return true;
      default:
        return unexpected("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::tensor && fields_seen_ != all_fields) {
      int missing = 0;
      while ((fields_seen_ >> missing & 1u) != 0) ++missing;
      return refuse(file_error(file_, "tensor %s lacks %s", name_.c_str(), field_names[missing]));
    }
    place_ = place_ == Place::root ? Place::outside : Place::root;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || field_ == dtype) return unexpected("a list");
    place_ = Place::list;
    list_size_ = 0;
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    if (field_ == shape) {
      tensor().rank = list_size_;
    } else if (list_size_ != 2) {
      return refuse(
          file_error(file_, "tensor %s: data_offsets has %d numbers; expected 2", name_.c_str(), list_size_));
    }
    return true;
  }

  bool key(string_t& key) override {
    switch (place_) {
      case Place::root:
        return open_entry(key);
      case Place::metadata:
        return open_metadata(key);
      default:
        return open_field(key);
    }
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return refuse(file_error(file_, "the header is not valid JSON at its byte %zu", position));
  }

 private:
  enum class Place { outside, root, metadata, tensor, list };
  enum Field { dtype, shape, data_offsets };
  struct Dtype {
    std::string_view name;
    StoredType type;
  };
  static constexpr Dtype dtypes[] = {{"F32", StoredType::float32},
                                     {"F16", StoredType::float16},
                                     {"BF16", StoredType::bfloat16},
                                     {"F64", StoredType::float64}};
  static constexpr const char* field_names[] = {"dtype", "shape", "data_offsets"};
  static constexpr unsigned all_fields = 0b111;
  static constexpr std::string_view metadata_name = "__metadata__";

  StoredTensor& tensor() { return maps_.tensors[entry_]; }

  bool refuse(const Status& status) {
    status_ = status;
    return false;
  }

  bool unexpected(const char* what) {
    const std::string name = Printable(name_).c_str();
    switch (place_) {
      case Place::outside:
        return refuse(file_error(file_, "the header is %s; expected a JSON object", what));
      case Place::root:
        return refuse(file_error(file_, "%s is %s; expected an object", name.c_str(), what));
      case Place::metadata:
        return refuse(file_error(file_, "metadata %s is %s; expected a string", name.c_str(), what));
      case Place::tensor:
        return refuse(file_error(file_, "tensor %s: %s is %s; expected %s", name.c_str(), field_names[field_],
                                 what, field_ == dtype ? "a string" : "a list"));
      case Place::list:
        break;
    }
    return refuse(file_error(file_, "tensor %s: %s holds %s; expected whole numbers from 0", name.c_str(),
                             field_names[field_], what));
  }

  bool open_entry(const std::string& key) {
    name_ = key;
    if (key == metadata_name) {
      if (std::exchange(has_metadata_, true)) return refuse(file_error(file_, "__metadata__ occurs twice"));
      return true;
    }
    for (entry_ = 0; entry_ < num_phi_tensors; ++entry_) {
      if (phi_tensor_name(entry_) != key) continue;
      if (std::exchange(tensor().present, true)) {
        return refuse(file_error(file_, "tensor %s occurs twice", key.c_str()));
      }
      return true;
    }
    return refuse(file_error(file_,
                             "unknown tensor '%s'; expected phi_q or phi_k, .0 to .%d, .weight or .bias",
                             Printable(key).c_str(), max_feature_layers - 1));
  }

  bool open_metadata(const std::string& key) {
    name_ = key;
    const auto* known = std::find(std::begin(phi_metadata_keys), std::end(phi_metadata_keys), key);
    entry_ = static_cast<int>(known - std::begin(phi_metadata_keys));
    if (entry_ < num_phi_metadata && std::exchange(metadata_seen_[entry_], true)) {
      return refuse(file_error(file_, "metadata %s occurs twice", key.c_str()));
    }
    return true;
  }

  bool open_field(const std::string& key) {
    const auto* known = std::find(std::begin(field_names), std::end(field_names), key);
    if (known == std::end(field_names)) {
      return refuse(
          file_error(file_, "tensor %s has an unknown field '%s'", name_.c_str(), Printable(key).c_str()));
    }
    field_ = static_cast<Field>(known - std::begin(field_names));
    const unsigned bit = 1u << field_;
    if ((std::exchange(fields_seen_, fields_seen_ | bit) & bit) != 0) {
      return refuse(file_error(file_, "tensor %s: %s occurs twice", name_.c_str(), *known));
    }
    return true;
  }

  StoredFeatureMaps& maps_;
  const char* file_;
  Status status_;
  Place place_ = Place::outside;
  std::string name_;  ///< of the tensor or the metadata being read
  int entry_ = 0;     ///< its number
  Field field_ = dtype;
  unsigned fields_seen_ = 0;
  int list_size_ = 0;
  bool has_metadata_ = false;
  bool metadata_seen_[num_phi_metadata] = {};
};

}  // namespace rehyat::detail
