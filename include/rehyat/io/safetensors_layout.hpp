#pragma once
// The layout of a safetensors file that holds phi_q and phi_k: header length, header, and tensors that fill
// the rest.

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
inline Status check_layout(const StoredFeatureMaps& maps, std::int64_t data_size, const char* file) {
  std::vector<int> order;
  for (int i = 0; i < num_phi_tensors; ++i) {
    const StoredTensor& t = maps.tensors[i];
    if (!t.present) continue;
    const std::string name = phi_tensor_name(i);
    if (t.begin > t.end || t.end > data_size) {
      return file_error(file,
                        "tensor %s: data_offsets [%" PRId64 ", %" PRId64 "] do not lie in the %" PRId64
                        " bytes of data",
                        name.c_str(), t.begin, t.end, data_size);
    }
    std::int64_t size = 0;
    if (!checked_bytes(t.extents(), stored_size(t.type), size) || size != t.end - t.begin) {
      return file_error(file, "tensor %s has %" PRId64 " bytes, which is not the size of shape %s of %s",
                        name.c_str(), t.end - t.begin, ShapeText(t.extents()).c_str(),
                        stored_type_name(t.type));
    }
    order.push_back(i);
  }
  const auto place_of = [&](int i) { return std::pair(maps.tensors[i].begin, maps.tensors[i].end); };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return place_of(a) < place_of(b); });
  std::int64_t filled = 0;
  for (const int i : order) {
    const StoredTensor& t = maps.tensors[i];
    if (t.begin != filled) {
      return file_error(file, "tensor %s begins at byte %" PRId64 " of the data, %s; expected %" PRId64,
                        phi_tensor_name(i).c_str(), t.begin,
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
inline Status parse_phi_header(std::span<const std::byte> bytes, const char* file, StoredFeatureMaps& maps,
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
  PhiHeaderReader reader(maps, file);
  if (!nlohmann::json::sax_parse(text, text + length, &reader)) return reader.status();
  data = bytes.subspan(sizeof length + length);
  return check_layout(maps, static_cast<std::int64_t>(data.size()), file);
}

}  // namespace rehyat::detail
