#pragma once
// NumPy's .npy files: float16, float32 or float64, C order, read into float32; float32 written.

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "rehyat/io/file.hpp"
#include "rehyat/io/half.hpp"
#include "rehyat/status.hpp"

namespace rehyat {

inline constexpr int max_npy_rank = 8;

/// An array in C order (the last index runs fastest).
struct NpyArray {
  std::int64_t shape[max_npy_rank] = {};
  int rank = 0;
  HeapArray<float>
      data;  ///< as many elements as the product of the shape: 1 at rank 0, none if an extent is 0

  std::span<const std::int64_t> extents() const { return {shape, static_cast<std::size_t>(rank)}; }
};

namespace detail {

struct NpyHeader {
  StoredType type = StoredType::float32;
  std::int64_t shape[max_npy_rank] = {};
  int rank = 0;

  std::span<const std::int64_t> extents() const { return {shape, static_cast<std::size_t>(rank)}; }
};

/// Reads the header's text: a Python dictionary of the three keys 'descr', 'fortran_order' and 'shape'.
class NpyHeaderParser {
 public:
  NpyHeaderParser(std::string_view text, const char* name) : text_(text), name_(name) {}

  Status parse(NpyHeader& header) {
    bool seen[3] = {};
    if (!take('{')) return expected("'{'");
    while (!take('}')) {
      std::string_view key;
      if (!take_string(key)) return expected("a quoted key");
      const std::size_t field = static_cast<std::size_t>(std::find(keys, keys + 3, key) - keys);
      if (field == 3) return file_error(name_, "unknown header key '%s'", Printable(key).c_str());
      if (std::exchange(seen[field], true))
        return file_error(name_, "the header key '%s' occurs twice", keys[field].data());
      if (!take(':')) return expected("':'");
      REHYAT_RETURN_IF_ERROR(field == 0   ? parse_type(header)
                             : field == 1 ? parse_order()
                                          : parse_shape(header));
      if (!take(',') && !next_is('}')) return expected("',' or '}'");
    }
    skip_space();
    if (position_ != text_.size()) return expected("nothing but padding");
    for (int field = 0; field < 3; ++field) {
      if (!seen[field]) return file_error(name_, "the header lacks the key '%s'", keys[field].data());
    }
    return {};
  }

 private:
  static constexpr std::string_view keys[3] = {"descr", "fortran_order", "shape"};

  Status expected(const char* what) const {
    return file_error(name_, "bad .npy header: expected %s at its byte %zu", what, position_);
  }

  Status parse_type(NpyHeader& header) {
    std::string_view type;
    if (!take_string(type))
      return file_error(name_, "the dtype is not a plain type; expected '<f2', '<f4' or '<f8'");
    if (type == "<f2") {
      header.type = StoredType::float16;
    } else if (type == "<f4") {
      header.type = StoredType::float32;
    } else if (type == "<f8") {
      header.type = StoredType::float64;
    } else {
      return file_error(name_, "dtype '%s'%s; expected little-endian '<f2', '<f4' or '<f8'",
                        Printable(type).c_str(), type.starts_with('>') ? " is big-endian" : "");
    }
    return {};
  }

  Status parse_order() {
    if (take_word("False")) return {};
    if (take_word("True")) return file_error(name_, "the array is in Fortran order; expected C order");
    return expected("True or False");
  }

  Status parse_shape(NpyHeader& header) {
    if (!take('(')) return expected("'('");
    bool comma = true;
    while (!take(')')) {
      if (!comma) return expected("',' or ')'");
      if (header.rank == max_npy_rank) return file_error(name_, "has more than %d dimensions", max_npy_rank);
      if (!take_extent(header.shape[header.rank])) return expected("an extent of at most 2^63 - 1");
      ++header.rank;
      comma = take(',');
    }
    // (3) is a number in Python; the tuple is (3,)
    return header.rank == 1 && !comma ? expected("a tuple as shape") : Status();
  }

  void skip_space() { position_ = std::min(text_.find_first_not_of(" \t\r\n", position_), text_.size()); }
  bool next_is(char c) {
    skip_space();
    return position_ < text_.size() && text_[position_] == c;
  }
  bool take(char c) {
    const bool found = next_is(c);
    position_ += found;
    return found;
  }
  bool take_word(std::string_view word) {
    skip_space();
    const bool found = text_.substr(position_).starts_with(word);
    position_ += found ? word.size() : 0;
    return found;
  }
  bool take_string(std::string_view& content) {
    const char quote = next_is('"') ? '"' : '\'';
    if (!next_is(quote)) return false;
    const std::size_t end = text_.find(quote, position_ + 1);
    if (end == std::string_view::npos) return false;
    content = text_.substr(position_ + 1, end - position_ - 1);
    position_ = end + 1;
    return true;
  }
  bool take_extent(std::int64_t& value) {
    skip_space();
    const std::size_t begin = position_;
    for (value = 0; position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9';
         ++position_) {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, text_[position_] - '0', &value)) {
        return false;
      }
    }
    return position_ > begin;
  }

  std::string_view text_;
  const char* name_;
  std::size_t position_ = 0;
};

/// Finds the header's text and the data behind it.
inline Status split_npy(std::span<const std::byte> bytes, const char* name, std::string_view& text,
                        std::span<const std::byte>& data) {
  constexpr std::string_view magic = "\x93NUMPY";
  constexpr std::size_t length_position = 8;  // behind the magic and two version bytes
  if (bytes.size() < length_position || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
    return file_error(name, "is not a .npy file: it does not begin with \\x93NUMPY");
  }
  const unsigned major = std::to_integer<unsigned>(bytes[6]), minor = std::to_integer<unsigned>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    return file_error(name, ".npy version %u.%u; expected 1.0, 2.0 or 3.0", major, minor);
  }
  const std::size_t length_size = major == 1 ? 2 : 4;
  std::uint32_t length = 0;
  const std::size_t header_position = length_position + length_size;
  if (bytes.size() < header_position) {
    return file_error(name, "ends inside the .npy header's length");
  }
  std::memcpy(&length, bytes.data() + length_position, length_size);
  if (length > bytes.size() - header_position) {
    return file_error(name, "declares a header of %u bytes, but only %zu follow", length,
                      bytes.size() - header_position);
  }
  text = {reinterpret_cast<const char*>(bytes.data()) + header_position, length};
  data = bytes.subspan(header_position + length);
  return {};
}

/// Checks a whole file and finds its elements.
inline Status locate_npy(std::span<const std::byte> bytes, const char* name, NpyHeader& header,
                         std::span<const std::byte>& data) {
  std::string_view text;
  REHYAT_RETURN_IF_ERROR(split_npy(bytes, name, text, data));
  REHYAT_RETURN_IF_ERROR(NpyHeaderParser(text, name).parse(header));
  const char* const type = stored_type_name(header.type);
  std::int64_t size = 0;
  if (!checked_bytes(header.extents(), stored_size(header.type), size)) {
    return file_error(name, "shape %s of %s is larger than any file", ShapeText(header.extents()).c_str(),
                      type);
  }
  if (static_cast<std::uint64_t>(size) != data.size()) {
    return file_error(name, "holds %zu bytes of data; expected %" PRId64 " for shape %s of %s", data.size(),
                      size, ShapeText(header.extents()).c_str(), type);
  }
  return {};
}

/// The elements that locate_npy() found, as float.
inline Status convert_npy(const NpyHeader& header, std::span<const std::byte> data, const char* name,
                          HeapArray<float>& to) {
  const std::int64_t count = static_cast<std::int64_t>(data.size()) / stored_size(header.type);
  if (!to.allocate(static_cast<std::size_t>(count))) {
    return file_error(name, "no memory for its %" PRId64 " elements", count);
  }
  convert_to_float(header.type, data.data(), count, to.data());
  return {};
}

}  // namespace detail

/// Parses the bytes of a .npy file: versions 1.0 to 3.0, '<f2', '<f4' or '<f8' (rounded to nearest even), C
/// order, rank 0 to 8. `name` stands for the file in messages. Refuses with StatusCode::invalid_file whatever
/// is malformed, and data that is shorter or longer than declared; memory is allocated once the declared size
/// is known to be there.
inline Result<NpyArray> parse_npy(std::span<const std::byte> bytes, const char* name) {
  detail::NpyHeader header;
  std::span<const std::byte> data;
  REHYAT_RETURN_IF_ERROR(detail::locate_npy(bytes, name, header, data));
  NpyArray array;
  array.rank = header.rank;
  std::copy_n(header.shape, max_npy_rank, array.shape);
  REHYAT_RETURN_IF_ERROR(detail::convert_npy(header, data, name, array.data));
  return array;
}

/// Reads a .npy file; see parse_npy.
inline Result<NpyArray> read_npy(const char* path) {
  const Result<HeapArray<std::byte>> bytes = detail::read_file(path);
  if (!bytes.ok()) return bytes.status();
  return parse_npy(bytes->span(), path);
}

/// Writes `data`, in C order, as float32 .npy (version 1.0). The file appears whole or not at all: after an
/// error (StatusCode::invalid_file from the system, StatusCode::invalid_argument if `shape`, of rank 0 to 8,
/// does not have data.size() elements) `path` is what it was.
inline Status write_npy(const char* path, std::span<const std::int64_t> shape, std::span<const float> data) {
  std::int64_t size = 0;
  if (shape.size() > static_cast<std::size_t>(max_npy_rank)) {
    return Status::error(StatusCode::invalid_argument, "%s: shape has %zu dimensions; expected at most %d",
                         detail::Printable(path).c_str(), shape.size(), max_npy_rank);
  }
  if (!detail::checked_bytes(shape, sizeof(float), size) ||
      static_cast<std::uint64_t>(size) != data.size_bytes()) {
    return Status::error(StatusCode::invalid_argument, "%s: shape %s does not have the data's %zu elements",
                         detail::Printable(path).c_str(), detail::ShapeText(shape).c_str(), data.size());
  }
  std::string extents;
  for (const std::int64_t extent : shape) extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
  if (shape.size() == 1) extents += ",";

  constexpr std::size_t preamble = 10, alignment = 64;
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + extents + "), }";
  header.append(alignment - 1 - (preamble + header.size()) % alignment, ' ');
  header += '\n';
  const std::string start = {'\x93',
                             'N',
                             'U',
                             'M',
                             'P',
                             'Y',
                             1,
                             0,
                             static_cast<char>(header.size() & 0xFF),
                             static_cast<char>(header.size() >> 8)};
  const std::span<const std::byte> parts[] = {std::as_bytes(std::span(start)),
                                              std::as_bytes(std::span(header)), std::as_bytes(data)};
  return detail::write_file_atomically(path, parts);
}

}  // namespace rehyat
