#pragma once

/// @file rehyat/io/state_file.hpp
/// States of a recurrence in files and in byte spans: save_state(), restore_state(), and one batch entry of
/// them. A run that goes on after a restore gives the same bits as one that was never interrupted.
///
/// A file belongs to a configuration: geometry, chunking, normalisation and feature maps must be those of the
/// state that is restored, and are checked before it is touched. The file does not depend on the instruction
/// set, on the threads, or on whether weights are packed; the same state gives the same bytes.
///
/// The format, version 1. Numbers are little-endian, floating-point numbers IEEE 754, nothing is aligned.
///
///     offset  type     field
///          0  8 bytes  89 'r' 'e' 'h' 'y' 'a' 't' 0A
///          8  uint32   byte order mark 0x01020304: the bytes 04 03 02 01
///         12  uint32   format version
///         16  uint64   length of the file in bytes, all of it
///         24  int64    batch entries in this file, at least 1
///         32  uint32   tail_type: 0 float32, 1 bfloat16, 2 float16
///         36  uint32   schedule: 0 hybrid, 1 linear
///         40  int64    heads
///         48  int64    kv_heads, H below
///         56  int64    head_dim, D
///         64  int64    value_dim, Dv
///         72  int64    feature_dim, F
///         80  int64    tokens_per_frame, M
///         88  int64    chunk_frames, Tc
///         96  int64    overlap_frames, To
///        104  uint32   separate_denominator: 0 or 1
///        108  uint32   stabilizer: 0 row_max, 1 none
///        112  float64  scale of the scores; 1 / sqrt(D) where none was given
///        120  float32  denominator_epsilon
///        124  float32  denominator_floor
///        128  uint64   hash of phi_q: feature_map_hash() in feature_map_hash.hpp says of what
///        136  uint64   hash of phi_k
///        144           the entries, one after another
///       then  uint64   CRC-64/XZ (crc64.hpp) of everything before it
///
/// An entry:
///
///     int64                            frames_seen
///     int64                            finished: 1 after a chunk of less than Tc frames, when Tc does not
///                                      divide frames_seen; 0 otherwise
///     of each kv head, hi, then lo     float32 [F, Dv], the sum of phi_k(k) v^T; float32 [F], the sum of
///                                      phi_k(k). The value of a sum is hi + lo
///     k of the tail                    [H, To * M, D] of tail_type. The first min(frames_seen,
///                                      To) * M tokens of each head are those of the last frames, oldest
///                                      first; the others are zero bytes
///     v of the tail                    [H, To * M, Dv], likewise
///     features of the tail             float32 [H, To * M, F], likewise; only with FeatureMap::given
///     denominators' features           float32 [H, To * M, F], likewise; only with separate_denominator
///
/// Nothing else fits between or behind. A file is refused unless every byte of it is accounted for: readers
/// of later releases take this version, and refuse versions that are newer than themselves.

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "rehyat/detail/check.hpp"
#include "rehyat/io/file.hpp"
#include "rehyat/io/state_check.hpp"
#include "rehyat/io/state_format.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat {

/// The version that is written, and the newest that is read.
inline constexpr std::uint32_t state_file_version = 1;

namespace detail {

/// Some of a state's entries, one after another: all, or one.
struct EntryRange {
  std::int64_t begin, count;
};

inline std::size_t state_file_size(const RecurrentState& state, std::int64_t entries) {
  const StateMemory memory = StateAccess::memory(state);
  std::size_t size = 0;
  // it fits: the memory of the state, which is larger, is there
  [[maybe_unused]] const bool fits =
      state_file_bytes(static_cast<std::uint64_t>(entries), state_entry_size(memory, state.config()), size);
  return size;
}

inline Status check_entry(const char* name, std::int64_t entry, const RecurrentState& state) {
  if (entry >= 0 && entry < state.config().batch) return {};
  return refuse(name, entry, "0 to config.batch - 1");
}

inline Status save_entries(const RecurrentState& state, EntryRange entries, std::span<std::byte> file) {
  const std::size_t size = state_file_size(state, entries.count);
  REHYAT_RETURN_IF_ERROR(check_memory("file", {file.data(), file.size()}, size));
  const RecurrentConfig& config = state.config();
  const StateMemory memory = StateAccess::memory(state);
  file = file.first(size);

  std::size_t at = 0;
  const auto put = [&](const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(file.data() + at, from, bytes);
    at += bytes;
  };
  StatePrefix prefix = {
      .magic = {}, .byte_order = state_byte_order, .format_version = state_file_version, .length = size};
  std::memcpy(prefix.magic, state_magic, sizeof state_magic);
  put(&prefix, sizeof prefix);
  put(&entries.count, sizeof entries.count);
  for (const StateField& field : state_fields(config)) put(&field.bits, field.size());
  for (std::int64_t b = entries.begin; b < entries.begin + entries.count; ++b) {
    const EntryHeader header = memory.header(b);
    put(&header, sizeof header);
    for_each_piece(memory, config, b, header.frames_seen, put, [&](std::size_t bytes) {
      std::memset(file.data() + at, 0, bytes);
      at += bytes;
    });
  }
  const std::uint64_t checksum = state_checksum(file);
  put(&checksum, sizeof checksum);
  return {};
}

/// The bytes of one entry of a checked file.
inline std::span<const std::byte> entry_bytes(std::span<const std::byte> file, std::int64_t index,
                                              std::size_t entry_size) {
  return file.subspan(state_header_size + static_cast<std::size_t>(index) * entry_size, entry_size);
}

/// Everything about a file but the number of its entries.
inline Status check_state_file(const RecurrentState& state, std::span<const std::byte> file) {
  const StateMemory memory = StateAccess::memory(state);
  const std::size_t entry_size = state_entry_size(memory, state.config());
  REHYAT_RETURN_IF_ERROR(check_state_is_whole(file, state_file_version));
  REHYAT_RETURN_IF_ERROR(check_state_header(file, state.config(), entry_size));
  for (std::int64_t i = 0; i < load<std::int64_t>(file, entries_offset); ++i) {
    REHYAT_RETURN_IF_ERROR(check_state_entry(entry_bytes(file, i, entry_size), memory, state.config(), i));
  }
  return {};
}

/// Entry `from` of a checked file to batch entry `to`.
inline void take_entry(RecurrentState& state, std::int64_t to, std::span<const std::byte> file,
                       std::int64_t from) {
  const StateMemory memory = StateAccess::memory(state);
  const std::span<const std::byte> entry = entry_bytes(file, from, state_entry_size(memory, state.config()));
  const EntryHeader header = load<EntryHeader>(entry, 0);
  static_cast<void>(state.reset(to));  // whose index is in range; what the file does not fill becomes zero
  memory.set_header(to, header);
  const std::byte* next = entry.data() + entry_header_size;
  for_each_piece(
      memory, state.config(), to, header.frames_seen,
      [&](std::byte* piece, std::size_t bytes) {
        std::memcpy(piece, next, bytes);
        next += bytes;
      },
      [&](std::size_t bytes) { next += bytes; });
}

inline Status save_entries(const RecurrentState& state, EntryRange entries, const char* path) {
  if (path == nullptr) return refuse_null("path");
  HeapArray<std::byte> file;
  const std::size_t size = state_file_size(state, entries.count);
  if (!file.allocate(size)) return file_error(path, "no memory for %zu bytes of state", size);
  REHYAT_RETURN_IF_ERROR(save_entries(state, entries, file.span()));
  const std::span<const std::byte> whole = file.span();
  return write_file_atomically(path, {&whole, 1});
}

/// Reads a file and hands its bytes to `restore`, whose refusal gets the name in front.
template <class Restore>
Status restore_from_file(const char* path, Restore restore) {
  if (path == nullptr) return refuse_null("path");
  const Result<HeapArray<std::byte>> file = read_file(path);
  if (!file.ok()) return file.status();
  const Status status = restore(file->span());
  if (status.ok()) return status;
  return Status::error(status.code(), "%s: %s", Printable(path).c_str(), status.message());
}

}  // namespace detail

/// Bytes that save_state() writes: fixed by the configuration, whatever the state has seen.
inline std::size_t state_file_size(const RecurrentState& state) {
  return detail::state_file_size(state, state.config().batch);
}

/// Bytes that save_entry() writes.
inline std::size_t entry_file_size(const RecurrentState& state) { return detail::state_file_size(state, 1); }

/// Writes all batch entries to the first state_file_size() bytes of `file`. Allocates nothing. Refused: a
/// smaller `file` (StatusCode::workspace_too_small), of which nothing is written then.
inline Status save_state(const RecurrentState& state, std::span<std::byte> file) {
  return detail::save_entries(state, {0, state.config().batch}, file);
}

/// The same to a file, which appears, or is replaced, whole or not at all: the bytes go to a temporary file
/// in the same directory, .rehyat-PID-N.tmp, which takes the name `path` once they are on the disk, and is
/// removed on any error. A process that is killed meanwhile leaves the old file or the new one; its temporary
/// file may then stay behind, and may be deleted. Errors of the system: StatusCode::invalid_file.
inline Status save_state(const RecurrentState& state, const char* path) {
  return detail::save_entries(state, {0, state.config().batch}, path);
}

/// Writes one batch entry: the file that a state of this entry alone would give.
inline Status save_entry(const RecurrentState& state, std::int64_t entry, std::span<std::byte> file) {
  REHYAT_RETURN_IF_ERROR(detail::check_entry("entry", entry, state));
  return detail::save_entries(state, {entry, 1}, file);
}
inline Status save_entry(const RecurrentState& state, std::int64_t entry, const char* path) {
  REHYAT_RETURN_IF_ERROR(detail::check_entry("entry", entry, state));
  return detail::save_entries(state, {entry, 1}, path);
}

/// Takes all batch entries from `file`, the bytes of one file that has as many. Allocates nothing. Refused
/// with StatusCode::invalid_file, naming the field, its value and what was expected: a file that is damaged,
/// cut or too long, of a newer version, of another configuration or feature map. The state is then what it
/// was, to the byte.
inline Status restore_state(RecurrentState& state, std::span<const std::byte> file) {
  REHYAT_RETURN_IF_ERROR(detail::check_state_file(state, file));
  const std::int64_t batch = state.config().batch;
  if (const auto entries = detail::load<std::int64_t>(file, detail::entries_offset); entries != batch) {
    return detail::refuse_state("entries is %" PRId64 ", expected %" PRId64 " as the state has", entries,
                                batch);
  }
  for (std::int64_t b = 0; b < batch; ++b) detail::take_entry(state, b, file, b);
  return {};
}
inline Status restore_state(RecurrentState& state, const char* path) {
  return detail::restore_from_file(
      path, [&](std::span<const std::byte> file) { return restore_state(state, file); });
}

/// Takes entry `from` of a file of any number of entries into batch entry `to`; the others stay as they are.
/// The whole file is checked, as by restore_state().
inline Status restore_entry(RecurrentState& state, std::int64_t to, std::span<const std::byte> file,
                            std::int64_t from = 0) {
  REHYAT_RETURN_IF_ERROR(detail::check_entry("to", to, state));
  REHYAT_RETURN_IF_ERROR(detail::check_state_file(state, file));
  const auto entries = detail::load<std::int64_t>(file, detail::entries_offset);
  if (from < 0 || from >= entries) {
    return Status::error(StatusCode::invalid_argument,
                         "from is %" PRId64 ", expected 0 to %" PRId64 ", the last entry of the file", from,
                         entries - 1);
  }
  detail::take_entry(state, to, file, from);
  return {};
}
inline Status restore_entry(RecurrentState& state, std::int64_t to, const char* path, std::int64_t from = 0) {
  return detail::restore_from_file(
      path, [&](std::span<const std::byte> file) { return restore_entry(state, to, file, from); });
}

}  // namespace rehyat
