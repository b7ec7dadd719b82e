#pragma once
// The recurrent state of the C API.

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "rehyat/c_api/convert.hpp"
#include "rehyat/c_api/executor.hpp"
#include "rehyat/c_api/operators.hpp"
#include "rehyat/recurrent.hpp"
#include "rehyat/rehyat.h"

/// Lies in front of the state's bytes, in the same memory.
struct rehyat_recurrent_state {
  rehyat::RecurrentState state;
};

namespace rehyat::c_api {

/// Bytes in front of a state's own, which are then aligned as well as the memory is.
inline constexpr std::size_t state_offset = (sizeof(rehyat_recurrent_state) + 63) / 64 * 64;
static_assert(alignof(rehyat_recurrent_state) <= 8 && std::is_trivially_destructible_v<RecurrentState>);

inline Result<std::size_t> state_size(const RecurrentConfig& config) {
  const Result<std::size_t> bytes = RecurrentState::size_bytes(config);
  if (!bytes.ok()) return bytes;
  return state_offset + *bytes;
}

inline Status create_state(const RecurrentConfig& config, void* data, std::size_t size,
                           rehyat_recurrent_state** state) {
  const Result<std::size_t> needed = state_size(config);
  REHYAT_RETURN_IF_ERROR(needed.status());
  const bool usable = data != nullptr && reinterpret_cast<std::uintptr_t>(data) % 8 == 0;
  if (usable && size < *needed) {
    return Status::error(StatusCode::invalid_argument, "size is %zu, expected at least %zu bytes", size,
                         *needed);
  }
  char* const bytes = data == nullptr ? nullptr : static_cast<char*>(data) + state_offset;
  const Result<RecurrentState> created = RecurrentState::create(config, bytes, *needed - state_offset);
  REHYAT_RETURN_IF_ERROR(created.status());
  *state = new (data) rehyat_recurrent_state{*created};
  return {};
}

/// For functions of a config.
template <class Body>
rehyat_status with_config(const rehyat_recurrent_config* config, Body body) {
  return call([&]() -> Status {
    const Result<RecurrentConfig> cpp = to_cpp<RecurrentConfig>("config", config);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    return body(*cpp);
  });
}

/// For functions of a state; `body` gets what is in it.
template <class State, class Body>
rehyat_status with_state(State* state, Body body) {
  return call([&]() -> Status {
    if (state == nullptr) return detail::refuse_null("state");
    return body(state->state);
  });
}

/// The same of a batch entry that must be there.
template <class Body>
rehyat_status with_entry(const rehyat_recurrent_state* state, std::int64_t batch_entry, Body body) {
  return with_state(state, [&](const RecurrentState& s) -> Status {
    if (batch_entry < 0 || batch_entry >= s.config().batch) {
      return detail::refuse("batch_entry", batch_entry, "0 to config.batch - 1");
    }
    return body(s);
  });
}

/// For peek, commit and step: `body` gets state, chunk and executor.
template <class State, class Body>
rehyat_status with_chunk(State* state, const rehyat_recurrent_chunk* chunk, const rehyat_executor* executor,
                         Body body) {
  return with_state(state, [&](auto& s) -> Status {
    Result<RecurrentChunk> cpp = to_cpp<RecurrentChunk>("chunk", chunk);
    REHYAT_RETURN_IF_ERROR(cpp.status());
    REHYAT_RETURN_IF_ERROR(check_executor(executor));
    if (chunk->frames != nullptr) cpp->frames = {chunk->frames, static_cast<std::size_t>(s.config().batch)};
    CallersExecutor callers(*executor);
    return body(s, *cpp, callers);
  });
}

}  // namespace rehyat::c_api

extern "C" rehyat_recurrent_config rehyat_recurrent_config_defaults(void) {
  return rehyat::c_api::to_c<rehyat_recurrent_config>(rehyat::RecurrentConfig{});
}

extern "C" rehyat_recurrent_chunk rehyat_recurrent_chunk_defaults(void) {
  return rehyat::c_api::to_c<rehyat_recurrent_chunk>(rehyat::RecurrentChunk{});
}

extern "C" rehyat_status rehyat_recurrent_size(const rehyat_recurrent_config* config, size_t* bytes) {
  using namespace rehyat::c_api;
  return with_config(config, [&](const auto& c) { return store("bytes", bytes, state_size(c)); });
}

extern "C" rehyat_status rehyat_recurrent_create(const rehyat_recurrent_config* config, void* data,
                                                 size_t size, rehyat_recurrent_state** state) {
  using namespace rehyat::c_api;
  return with_config(config, [&](const auto& c) {
    if (state == nullptr) return rehyat::detail::refuse_null("state");
    return create_state(c, data, size, state);
  });
}

extern "C" rehyat_status rehyat_recurrent_workspace_size(const rehyat_recurrent_config* config, int32_t slots,
                                                         size_t* bytes) {
  using namespace rehyat::c_api;
  return with_config(config, [&](const auto& c) {
    return store("bytes", bytes, rehyat::RecurrentState::workspace_size(c, slots));
  });
}

extern "C" rehyat_status rehyat_recurrent_peek(const rehyat_recurrent_state* state,
                                               const rehyat_recurrent_chunk* chunk, void* workspace,
                                               size_t workspace_size, const rehyat_executor* executor) {
  return rehyat::c_api::with_chunk(state, chunk, executor, [&](const auto& s, auto& c, auto& callers) {
    return rehyat::c_api::with_report(*chunk, c, [&] {
      return s.peek(c, {workspace, workspace_size}, callers);
    });
  });
}

extern "C" rehyat_status rehyat_recurrent_commit(rehyat_recurrent_state* state,
                                                 const rehyat_recurrent_chunk* chunk, void* workspace,
                                                 size_t workspace_size, const rehyat_executor* executor) {
  return rehyat::c_api::with_chunk(state, chunk, executor, [&](auto& s, const auto& c, auto& callers) {
    return s.commit(c, {workspace, workspace_size}, callers);
  });
}

extern "C" rehyat_status rehyat_recurrent_step(rehyat_recurrent_state* state,
                                               const rehyat_recurrent_chunk* chunk, void* workspace,
                                               size_t workspace_size, const rehyat_executor* executor) {
  return rehyat::c_api::with_chunk(state, chunk, executor, [&](auto& s, auto& c, auto& callers) {
    return rehyat::c_api::with_report(*chunk, c, [&] {
      return s.step(c, {workspace, workspace_size}, callers);
    });
  });
}

extern "C" rehyat_status rehyat_recurrent_reset(rehyat_recurrent_state* state) {
  return rehyat::c_api::with_state(state, [](auto& s) {
    s.reset();
    return rehyat::Status();
  });
}

extern "C" rehyat_status rehyat_recurrent_reset_entry(rehyat_recurrent_state* state, int64_t batch_entry) {
  return rehyat::c_api::with_state(state, [&](auto& s) { return s.reset(batch_entry); });
}

extern "C" rehyat_status rehyat_recurrent_copy(rehyat_recurrent_state* state,
                                               const rehyat_recurrent_state* other) {
  return rehyat::c_api::with_state(state, [&](auto& s) {
    return other == nullptr ? rehyat::detail::refuse_null("other") : s.copy_from(other->state);
  });
}

extern "C" rehyat_status rehyat_recurrent_copy_entry(rehyat_recurrent_state* state, int64_t to,
                                                     const rehyat_recurrent_state* other, int64_t from) {
  return rehyat::c_api::with_state(state, [&](auto& s) {
    return other == nullptr ? rehyat::detail::refuse_null("other") : s.copy_entry(to, other->state, from);
  });
}

extern "C" rehyat_status rehyat_recurrent_frames_seen(const rehyat_recurrent_state* state,
                                                      int64_t batch_entry, int64_t* frames) {
  using namespace rehyat::c_api;
  return with_entry(state, batch_entry, [&](const auto& s) {
    return store<std::int64_t>("frames", frames, s.frames_seen(batch_entry));
  });
}

extern "C" rehyat_status rehyat_recurrent_finished(const rehyat_recurrent_state* state, int64_t batch_entry,
                                                   int32_t* finished) {
  using namespace rehyat::c_api;
  return with_entry(state, batch_entry, [&](const auto& s) {
    return store<std::int32_t>("finished", finished, s.finished(batch_entry) ? 1 : 0);
  });
}
