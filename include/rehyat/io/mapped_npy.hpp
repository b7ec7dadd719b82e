#pragma once
// A .npy file as a tensor where it lies: the system reads its pages when they are touched and may drop them
// again, so that a clip larger than memory can be viewed, and is not held twice. POSIX.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "rehyat/element.hpp"
#include "rehyat/io/file.hpp"
#include "rehyat/io/npy.hpp"
#include "rehyat/status.hpp"

namespace rehyat {

namespace detail {

struct Unmap {
  std::size_t size = 0;
  void operator()(const std::byte* pages) const { ::munmap(const_cast<std::byte*>(pages), size); }
};

/// The pages of a file, read only. Moving it keeps their address.
class FileMapping {
 public:
  /// Of a regular file. An empty one has no pages.
  Status map(const char* path) {
    const FileDescriptor file(open_to_read(path));
    const Result<std::size_t> size = regular_file_size(file, path);
    if (!size.ok()) return size.status();
    if (*size == 0) return {};
    void* const pages = ::mmap(nullptr, *size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (pages == MAP_FAILED) return system_error(path, "cannot be mapped");
    pages_ = {static_cast<const std::byte*>(pages), Unmap{*size}};
    return {};
  }

  std::span<const std::byte> bytes() const { return {pages_.get(), pages_.get_deleter().size}; }

 private:
  std::unique_ptr<const std::byte, Unmap> pages_;
};

}  // namespace detail

/// An array in C order whose elements are the file's own pages or, where no view could have those (float64,
/// elements that are not aligned for their type), a copy as float.
struct MappedNpy {
  std::int64_t shape[max_npy_rank] = {};
  int rank = 0;
  ElementType type = ElementType::float32;  ///< or float16
  const void* data = nullptr;
  detail::FileMapping pages;
  HeapArray<float> copy;

  std::span<const std::int64_t> extents() const { return {shape, static_cast<std::size_t>(rank)}; }
};

/// Maps a .npy file; takes and refuses what parse_npy does. The file must not be changed while the array
/// lives: one that becomes shorter ends the program (SIGBUS).
inline Result<MappedNpy> map_npy(const char* path) {
  MappedNpy array;
  REHYAT_RETURN_IF_ERROR(array.pages.map(path));
  detail::NpyHeader header;
  std::span<const std::byte> data;
  REHYAT_RETURN_IF_ERROR(detail::locate_npy(array.pages.bytes(), path, header, data));
  array.rank = header.rank;
  std::copy_n(header.shape, max_npy_rank, array.shape);
  const auto alignment = static_cast<std::uintptr_t>(stored_size(header.type));
  const bool aligned = reinterpret_cast<std::uintptr_t>(data.data()) % alignment == 0;
  if (aligned && (header.type == StoredType::float16 || header.type == StoredType::float32)) {
    const bool is_half = header.type == StoredType::float16;
    array.type = is_half ? ElementType::float16 : ElementType::float32;
    array.data = data.data();
    return array;
  }
  REHYAT_RETURN_IF_ERROR(detail::convert_npy(header, data, path, array.copy));
  array.data = array.copy.data();
  array.pages = {};
  return array;
}

}  // namespace rehyat
