#pragma once
// What must hold of a state file before anything is taken from it.

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>

#include "rehyat/io/state_format.hpp"
#include "rehyat/status.hpp"

namespace rehyat::detail {

/// A refusal of what a file holds.
[[gnu::format(printf, 1, 2)]] inline Status refuse_state(const char* format, ...) {
  char text[224];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return Status::error(StatusCode::invalid_file, "%s", text);
}

/// The bytes of a magic number, for messages.
class MagicText {
 public:
  explicit MagicText(std::span<const std::byte> bytes) {
    char* end = text_;
    for (const std::byte byte : bytes) {
      end += std::snprintf(end, 4, "%s%02x", end == text_ ? "" : " ", static_cast<unsigned>(byte));
    }
  }
  const char* c_str() const { return text_; }

 private:
  char text_[3 * sizeof state_magic + 1] = {};
};

/// That `file` is as it was written, by a version that this one can read; nothing about what it describes.
inline Status check_state_is_whole(std::span<const std::byte> file, std::uint32_t newest_version) {
  const std::size_t shown = std::min(file.size(), sizeof state_magic);
  if (shown == 0 || std::memcmp(file.data(), state_magic, shown) != 0) {
    return refuse_state("magic is '%s', expected '%s': no state file", MagicText(file.first(shown)).c_str(),
                        MagicText(std::as_bytes(std::span(state_magic))).c_str());
  }
  constexpr std::size_t least = state_header_size + state_checksum_size;
  if (file.size() < least) {
    return refuse_state("size is %zu bytes, expected at least %zu: truncated", file.size(), least);
  }
  const StatePrefix prefix = load<StatePrefix>(file, 0);
  if (prefix.byte_order != state_byte_order) {
    return refuse_state("byte order mark is 0x%08" PRIx32 ", expected 0x%08" PRIx32, prefix.byte_order,
                        state_byte_order);
  }
  if (prefix.format_version < 1 || prefix.format_version > newest_version) {
    return refuse_state("format version is %" PRIu32 ", expected 1 to %" PRIu32 "%s", prefix.format_version,
                        newest_version,
                        prefix.format_version > newest_version ? ": written by a newer release" : "");
  }
  if (prefix.length != file.size()) {
    return refuse_state("size is %zu bytes, expected the %" PRIu64 " that it declares: %s", file.size(),
                        prefix.length, file.size() < prefix.length ? "truncated" : "trailing bytes");
  }
  const std::uint64_t checksum = load<std::uint64_t>(file, file.size() - state_checksum_size);
  const std::uint64_t expected = state_checksum(file);
  if (checksum == expected) return {};
  return refuse_state("checksum is %016" PRIx64 ", expected %016" PRIx64 ": damaged", checksum, expected);
}

/// That a whole file's header is that of a state with this config, and its length that of its entries.
inline Status check_state_header(std::span<const std::byte> file, const RecurrentConfig& c,
                                 std::size_t entry_size) {
  for (const StateField& field : state_fields(c)) {
    const std::uint64_t found =
        field.size() == 4 ? load<std::uint32_t>(file, field.offset) : load<std::uint64_t>(file, field.offset);
    if (found != field.bits) {
      return refuse_state("%s is %s, expected %s as the state has", field.name, field.text(found).data(),
                          field.text(field.bits).data());
    }
  }
  const std::int64_t entries = load<std::int64_t>(file, entries_offset);
  if (entries < 1) return refuse_state("entries is %" PRId64 ", expected at least 1", entries);
  std::size_t bytes = 0;
  if (!state_file_bytes(static_cast<std::uint64_t>(entries), entry_size, bytes)) {
    return refuse_state("entries is %" PRId64 ", expected fewer: its %zu bytes each overflow", entries,
                        entry_size);
  }
  if (bytes == file.size()) return {};
  return refuse_state("size is %zu bytes, expected %zu for %" PRId64 " entries of %zu", file.size(), bytes,
                      entries, entry_size);
}

/// That an entry of a file could have come about.
inline Status check_state_entry(std::span<const std::byte> entry, const StateMemory& memory,
                                const RecurrentConfig& c, std::int64_t index) {
  const EntryHeader header = load<EntryHeader>(entry, 0);
  if (header.frames_seen < 0 || header.frames_seen > max_frames_seen) {
    return refuse_state("frames_seen of entry %" PRId64 " is %" PRId64 ", expected 0 to %" PRId64, index,
                        header.frames_seen, max_frames_seen);
  }
  const std::int64_t expected = header.frames_seen % c.chunking.chunk_frames != 0;
  if (header.finished != expected) {
    return refuse_state("finished of entry %" PRId64 " is %" PRId64 ", expected %" PRId64 " after %" PRId64
                        " frames in chunks of %" PRId64,
                        index, header.finished, expected, header.frames_seen, c.chunking.chunk_frames);
  }
  std::size_t at = entry_header_size, wrong = 0;
  for_each_piece(
      memory, c, 0, header.frames_seen, [&](const std::byte*, std::size_t bytes) { at += bytes; },
      [&](std::size_t bytes) {
        for (const std::size_t end = at + bytes; at < end; ++at) {
          if (wrong == 0 && entry[at] != std::byte{0}) wrong = at;
        }
      });
  if (wrong == 0) return {};
  return refuse_state("byte %zu of entry %" PRId64 " is %u, expected 0: tail beyond %" PRId64 " frames",
                      wrong, index, static_cast<unsigned>(entry[wrong]), header.frames_seen);
}

}  // namespace rehyat::detail
