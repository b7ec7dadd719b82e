#pragma once
// Saving and restoring the states of the C API, as bytes.

#include <cstddef>
#include <cstdint>
#include <span>

#include "rehyat/c_api/convert.hpp"
#include "rehyat/c_api/recurrent.hpp"
#include "rehyat/io/state_file.hpp"
#include "rehyat/rehyat.h"

namespace rehyat::c_api {

/// `restore` of the bytes of a file, whose pointer may be null only where there are none.
template <class Restore>
rehyat_status restore_from(rehyat_recurrent_state* state, const void* file, std::size_t size,
                           Restore restore) {
  return with_state(state, [&](RecurrentState& s) -> Status {
    if (file == nullptr && size > 0) return detail::refuse_null("file");
    return restore(s, std::span(static_cast<const std::byte*>(file), size));
  });
}

}  // namespace rehyat::c_api

extern "C" rehyat_status rehyat_recurrent_save_size(const rehyat_recurrent_state* state, size_t* bytes) {
  return rehyat::c_api::with_state(state, [&](const auto& s) {
    return rehyat::c_api::store<size_t>("bytes", bytes, rehyat::state_file_size(s));
  });
}

extern "C" rehyat_status rehyat_recurrent_save_entry_size(const rehyat_recurrent_state* state,
                                                          size_t* bytes) {
  return rehyat::c_api::with_state(state, [&](const auto& s) {
    return rehyat::c_api::store<size_t>("bytes", bytes, rehyat::entry_file_size(s));
  });
}

extern "C" rehyat_status rehyat_recurrent_save(const rehyat_recurrent_state* state, void* file,
                                               size_t file_size) {
  return rehyat::c_api::with_state(state, [&](const auto& s) {
    return rehyat::save_state(s, std::span(static_cast<std::byte*>(file), file_size));
  });
}

extern "C" rehyat_status rehyat_recurrent_save_entry(const rehyat_recurrent_state* state, int64_t entry,
                                                     void* file, size_t file_size) {
  return rehyat::c_api::with_state(state, [&](const auto& s) {
    return rehyat::save_entry(s, entry, std::span(static_cast<std::byte*>(file), file_size));
  });
}

extern "C" rehyat_status rehyat_recurrent_restore(rehyat_recurrent_state* state, const void* file,
                                                  size_t file_size) {
  return rehyat::c_api::restore_from(state, file, file_size, [](auto& s, std::span<const std::byte> bytes) {
    return rehyat::restore_state(s, bytes);
  });
}

extern "C" rehyat_status rehyat_recurrent_restore_entry(rehyat_recurrent_state* state, int64_t to,
                                                        const void* file, size_t file_size, int64_t from) {
  return rehyat::c_api::restore_from(state, file, file_size, [&](auto& s, std::span<const std::byte> bytes) {
    return rehyat::restore_entry(s, to, bytes, from);
  });
}
