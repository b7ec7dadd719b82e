#pragma once
// The layout of a safetensors file: header length, header, and tensors that fill the rest.

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rehyat/io/file.hpp"
#include "rehyat/io/half.hpp"
#include "rehyat/io/safetensors_json.hpp"
#include "rehyat/status.hpp"

namespace rehyat::detail {

/// Checks that the tensors fill the data exactly: each as long as its shape says, no gap, no overlap, no
/// rest.
inline Status check_layout(std::vector<NamedTensor> tensors, std::int64_t data_size, const char* file) {
  for (const auto& [name, tensor] : tensors) {
    const StoredTensor& t = *tensor;
    if (t.begin > t.end || t.end > data_size) {
      return file_error(file,
                        "tensor %s: data_offsets [%" PRId64 ", %" PRId64 "] do not lie in the %" PRId64
                        " bytes of data",
                        Printable(name).c_str(), t.begin, t.end, data_size);
    }
    std::int64_t size = 0;
    if (!checked_bytes(t.extents(), stored_size(t.type), size) || size != t.end - t.begin) {
      return file_error(file, "tensor %s has %" PRId64 " bytes, which is not the size of shape %s of %s",
                        Printable(name).c_str(), t.end - t.begin, ShapeText(t.extents()).c_str(),
                        stored_type_name(t.type));
    }
  }
  const auto place_of = [](const NamedTensor& t) { return std::pair(t.tensor->begin, t.tensor->end); };
  std::sort(tensors.begin(), tensors.end(),
            [&](const NamedTensor& a, const NamedTensor& b) { return place_of(a) < place_of(b); });
  std::int64_t filled = 0;
  for (const auto& [name, tensor] : tensors) {
    const StoredTensor& t = *tensor;
    if (t.begin != filled) {
      return file_error(file, "tensor %s begins at byte %" PRId64 " of the data, %s; expected %" PRId64,
                        Printable(name).c_str(), t.begin,
                        t.begin < filled ? "inside another tensor" : "leaving a gap", filled);
    }
    filled = t.end;
  }
  if (filled != data_size) {
    return file_error(file, "has %" PRId64 " bytes of data; its tensors end at %" PRId64, data_size, filled);
  }
  return {};
}

/// Reads and checks the header of the file `bytes`, and finds the data behind it.
inline Status parse_tensor_header(std::span<const std::byte> bytes, const char* file, StoredTensors& tensors,
                                  std::span<const std::byte>& data) {
  constexpr std::uint64_t max_length = 100'000'000;
  std::uint64_t length = 0;
  if (bytes.size() < sizeof length) {
    return file_error(file, "has %zu bytes; a safetensors file begins with the 8 of its header's length",
                      bytes.size());
  }
  std::memcpy(&length, bytes.data(), sizeof length);
  const std::size_t available = bytes.size() - sizeof length;
  if (length > max_length || length > available) {
    return file_error(
        file, "declares a header of %" PRIu64 " bytes; expected at most the %zu that follow, and 100 MB",
        length, available);
  }
  const char* const text = reinterpret_cast<const char*>(bytes.data() + sizeof length);
  // The parser takes a zero byte for the end of the text, so what follows it would go unseen.
  if (length == 0 || text[0] != '{' || std::memchr(text, 0, length) != nullptr) {
    return file_error(file, "the header is not a JSON object");
  }
  TensorHeaderReader reader(tensors, file);
  if (!nlohmann::json::sax_parse(text, text + length, &reader)) return reader.status();
  data = bytes.subspan(sizeof length + length);
  return check_layout(tensors.present(), static_cast<std::int64_t>(data.size()), file);
}

}  // namespace rehyat::detail
