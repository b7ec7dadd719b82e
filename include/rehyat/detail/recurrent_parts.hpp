#pragma once
// States over parts of a clip: where one begins, and how sums become one.

#include <cinttypes>

#include "rehyat/detail/recurrent_state.hpp"

namespace rehyat {
namespace detail {

inline Status check_start(const RecurrentConfig& c, std::int64_t frames_seen, const RecurrentChunk& overlap) {
  if (frames_seen < 0 || frames_seen > max_frames_seen || frames_seen % c.chunking.chunk_frames != 0) {
    return Status::error(StatusCode::invalid_argument,
                         "frames_seen is %" PRId64 ", expected whole chunks of chunk_frames (%" PRId64
                         "), 0 to %" PRId64 " frames",
                         frames_seen, c.chunking.chunk_frames, max_frames_seen);
  }
  const std::int64_t frames =
      frames_seen < c.chunking.overlap_frames ? frames_seen : c.chunking.overlap_frames;
  const Shape k{c.batch, frames * c.chunking.tokens_per_frame, c.kv_heads, c.head_dim};
  REHYAT_RETURN_IF_ERROR(check_keys(c, overlap, k));
  REHYAT_RETURN_IF_ERROR(check_features(c, overlap, {}, k, false));
  if (overlap.frames.empty()) return {};
  return refuse("frames.size()", static_cast<std::int64_t>(overlap.frames.size()),
                "0: all entries begin at the same frame");
}

}  // namespace detail

inline Status RecurrentState::start_at(std::int64_t frames_seen, const RecurrentChunk& overlap,
                                       const Kernels& kernels) {
  REHYAT_RETURN_IF_ERROR(detail::check_start(config_, frames_seen, overlap));
  const detail::StateMemory memory(config_, data_);
  const detail::KeyViews keys{overlap.k, overlap.v, overlap.given.k, overlap.given.k_denominator};
  reset();
  for (std::int64_t b = 0; b < config_.batch; ++b) {
    memory.set_header(b, {.frames_seen = frames_seen, .finished = 0});
    for (std::int64_t g = 0; g < config_.kv_heads; ++g) {
      memory.shift_tail(b, g, 0, 0, keys, 0, overlap.k.tokens, kernels);
    }
  }
  return {};
}

inline std::span<float> RecurrentState::sums(std::int64_t batch_entry, std::int64_t kv_head) {
  if (batch_entry < 0 || batch_entry >= config_.batch || kv_head < 0 || kv_head >= config_.kv_heads)
    return {};
  const detail::StateSums<float> sums = detail::StateMemory(config_, data_).sums();
  return {sums.hi(batch_entry, kv_head), static_cast<std::size_t>(sums.head_stride())};
}

inline std::span<const float> RecurrentState::sums(std::int64_t batch_entry, std::int64_t kv_head) const {
  RecurrentState same = *this;
  return same.sums(batch_entry, kv_head);
}

inline Status add_sums(std::span<const float> from, std::span<float> to, const Kernels& kernels) {
  const auto size = static_cast<std::int64_t>(to.size()), half = size / 2;
  REHYAT_RETURN_IF_ERROR(
      detail::check_equal("from.size()", static_cast<std::int64_t>(from.size()), "to.size()", size));
  if (size == 0 || size % (2 * kernel::padded(1)) != 0)
    return detail::refuse("to.size()", size, "that of RecurrentState::sums()");
  kernels.fold({.hi_in = to.data(),
                .lo_in = to.data() + half,
                .hi = to.data(),
                .lo = to.data() + half,
                .parts = from.data(),  // hi and lo are two terms
                .part_stride = half,
                .num_parts = 2,
                .begin = 0,
                .end = half});
  return {};
}

}  // namespace rehyat
