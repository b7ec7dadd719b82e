#pragma once
// The header of a safetensors file: which tensors lie where. Everything in it is foreign.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "rehyat/io/file.hpp"
#include "rehyat/io/half.hpp"
#include "rehyat/io/safetensors_entries.hpp"
#include "rehyat/status.hpp"

namespace rehyat::detail {

/// Takes the header's JSON event by event, and refuses the first that has no place in it: nothing is stored
/// but what the StoredTensors take, however deep or long the text is.
class TensorHeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  TensorHeaderReader(StoredTensors& tensors, const char* file) : tensors_(tensors), file_(file) {}

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
      return refuse(file_error(file_, "tensor %s: %s has more than %d numbers", Printable(name_).c_str(),
                               field_names[field_], list_size_));
    }
    (is_shape          ? tensor_->shape[list_size_]
     : list_size_ == 0 ? tensor_->begin
                       : tensor_->end) = static_cast<std::int64_t>(value);
    ++list_size_;
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      if (metadata_ != nullptr) *metadata_ = value;
      return true;
    }
    if (place_ != Place::tensor || field_ != dtype) return unexpected("a string");
    const auto* known =
        std::find_if(std::begin(dtypes), std::end(dtypes), [&](const auto& d) { return d.name == value; });
    if (known == std::end(dtypes)) {
      return refuse(file_error(file_, "tensor %s has dtype '%s'; expected F32, F16, BF16 or F64",
                               Printable(name_).c_str(), Printable(value).c_str()));
    }
    tensor_->type = known->type;
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
      return refuse(file_error(file_, "tensor %s lacks %s", Printable(name_).c_str(), field_names[missing]));
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
      tensor_->rank = list_size_;
    } else if (list_size_ != 2) {
      return refuse(file_error(file_, "tensor %s: data_offsets has %d numbers; expected 2",
                               Printable(name_).c_str(), list_size_));
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
    tensor_ = tensors_.place_of(key);
    if (tensor_ == nullptr) {
      return refuse(file_error(file_, "unknown tensor '%s'; expected %s", Printable(key).c_str(),
                               tensors_.expected_names().c_str()));
    }
    if (std::exchange(tensor_->present, true)) {
      return refuse(file_error(file_, "tensor %s occurs twice", Printable(key).c_str()));
    }
    return true;
  }

  bool open_metadata(const std::string& key) {
    name_ = key;
    metadata_ = tensors_.metadata_of(key);
    if (metadata_ != nullptr && metadata_->has_value()) {
      return refuse(file_error(file_, "metadata %s occurs twice", Printable(key).c_str()));
    }
    return true;
  }

  bool open_field(const std::string& key) {
    const auto* known = std::find(std::begin(field_names), std::end(field_names), key);
    if (known == std::end(field_names)) {
      return refuse(file_error(file_, "tensor %s has an unknown field '%s'", Printable(name_).c_str(),
                               Printable(key).c_str()));
    }
    field_ = static_cast<Field>(known - std::begin(field_names));
    const unsigned bit = 1u << field_;
    if ((std::exchange(fields_seen_, fields_seen_ | bit) & bit) != 0) {
      return refuse(file_error(file_, "tensor %s: %s occurs twice", Printable(name_).c_str(), *known));
    }
    return true;
  }

  StoredTensors& tensors_;
  const char* file_;
  Status status_;
  Place place_ = Place::outside;
  std::string name_;  ///< of the tensor or the metadata being read
  StoredTensor* tensor_ = nullptr;
  std::optional<std::string>* metadata_ = nullptr;
  Field field_ = dtype;
  unsigned fields_seen_ = 0;
  int list_size_ = 0;
  bool has_metadata_ = false;
};

}  // namespace rehyat::detail
