#pragma once
// RecurrentState: memory layout, and chunks as schedules over attend and absorb.

#include <cstring>

#include "rehyat/detail/check.hpp"
#include "rehyat/detail/tasks.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat {
namespace detail {

/// What is stored in front of each batch entry.
struct EntryHeader {
  std::int64_t frames_seen;
  std::int64_t finished;
};

/// Beyond any video; frames that come on top of it still can be counted.
inline constexpr std::int64_t max_frames_seen = std::int64_t{1} << 62;

/// Offsets inside the memory of one batch entry, in floats; the same for every instruction set.
struct StateLayout {
  static constexpr std::int64_t header = 16;  // floats; holds an EntryHeader
  kernel::Dims dims = {};
  std::int64_t tail_tokens = 0;
  std::int64_t sums = 0, k = 0, v = 0, features = 0, feature_denominators = 0;
  std::int64_t entry = 0;  ///< floats of one entry
  std::int64_t bytes = 0;  ///< of all entries
};

inline bool has_tail_features(const RecurrentConfig& c) { return c.phi_k.kind == FeatureMap::Kind::given; }

/// False if a product overflows.
inline bool lay_out(const RecurrentConfig& c, StateLayout& s) {
  s.dims = dims_of(c.head_dim, c.value_dim, &c.phi_q, &c.phi_k);
  bool fits = !__builtin_mul_overflow(c.chunking.overlap_frames, c.chunking.tokens_per_frame, &s.tail_tokens);
  std::int64_t used = StateLayout::header;
  const auto take = [&](std::int64_t rows, std::int64_t width, ElementType type = ElementType::float32) {
    const std::int64_t offset = used;
    std::int64_t elements = 0;
    fits = fits && !__builtin_mul_overflow(c.kv_heads, rows, &elements) &&
           !__builtin_mul_overflow(elements, width, &elements) && elements < INT64_MAX / 16;
    if (!fits) return offset;
    const std::int64_t floats =
        ceil_div(elements * element_size(type), static_cast<std::int64_t>(sizeof(float)));
    fits = !__builtin_add_overflow(used, kernel::padded(floats), &used);
    return offset;
  };
  s.sums = take(2, kernel::sums_size(s.dims));
  s.k = take(s.tail_tokens, c.head_dim, c.tail_type);
  s.v = take(s.tail_tokens, c.value_dim, c.tail_type);
  s.features = take(s.tail_tokens, has_tail_features(c) ? s.dims.feature_dim : 0);
  s.feature_denominators =
      take(s.tail_tokens, has_tail_features(c) && c.separate_denominator ? s.dims.feature_dim : 0);
  s.entry = used;
  return fits && !__builtin_mul_overflow(used, c.batch, &s.bytes) &&
         !__builtin_mul_overflow(s.bytes, static_cast<std::int64_t>(sizeof(float)), &s.bytes);
}

/// The longest chunk is one that an operator would accept: as many elements, at most, as check_input allows.
inline Status check_chunk_size(const RecurrentConfig& c) {
  const std::int64_t dim = c.head_dim > c.value_dim ? c.head_dim : c.value_dim;
  if (can_be_counted({dim, c.batch, c.heads, c.chunking.chunk_frames, c.chunking.tokens_per_frame}))
    return {};
  return Status::error(StatusCode::invalid_argument,
                       "a chunk's q is %" PRId64 " x %" PRId64 " * %" PRId64 " x %" PRId64 " x %" PRId64
                       ", expected sizes whose product does not overflow",
                       c.batch, c.chunking.chunk_frames, c.chunking.tokens_per_frame, c.heads, c.head_dim);
}

inline Status check(const RecurrentConfig& c) {
  REHYAT_RETURN_IF_ERROR(check_at_least("config.batch", c.batch, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("config.heads", c.heads, 1));
  REHYAT_RETURN_IF_ERROR(check_at_least("config.kv_heads", c.kv_heads, 1));
  REHYAT_RETURN_IF_ERROR(check_divides("config.kv_heads", c.kv_heads, "config.heads", c.heads));
  REHYAT_RETURN_IF_ERROR(check_dim("config.head_dim", c.head_dim));
  REHYAT_RETURN_IF_ERROR(check_dim("config.value_dim", c.value_dim));
  REHYAT_RETURN_IF_ERROR(check_chunking(c.chunking));
  if (c.schedule == RecurrentSchedule::linear && c.chunking.overlap_frames != 0) {
    return refuse("chunking.overlap_frames", c.chunking.overlap_frames, "0 for linear attention");
  }
  REHYAT_RETURN_IF_ERROR(check_feature_maps(c.phi_q, c.phi_k, c.heads, c.kv_heads, c.head_dim));
  if (c.schedule == RecurrentSchedule::linear && c.arithmetic != Arithmetic::float32) {
    return Status::error(StatusCode::invalid_argument,
                         "config.arithmetic is %s, expected float32 for linear attention alone",
                         arithmetic_name(c.arithmetic));
  }
  if (c.separate_denominator && c.phi_k.kind != FeatureMap::Kind::given) {
    return refuse("separate_denominator", 1, "0 unless the features are given");
  }
  REHYAT_RETURN_IF_ERROR(
      check_normalisation(c.stabilizer, c.scale, c.denominator_epsilon, c.denominator_floor));
  REHYAT_RETURN_IF_ERROR(check_chunk_size(c));
  StateLayout layout;
  if (!lay_out(c, layout)) {
    return refuse("chunking.overlap_frames", c.chunking.overlap_frames,
                  "a state whose size does not overflow");
  }
  return {};
}

/// Grids and memory of one call on a state.
struct RecurrentPlan {
  Call call = {};
  AttendGrid attend = {};
  AbsorbGrid absorb = {};
  float* parts = nullptr;        ///< [batch][kv head][part]
  StateSums<float> peeked = {};  ///< linear peek: the sums with the chunk, so that the state stays as it is
};

inline RecurrentPlan plan(const RecurrentConfig& c, const Kernels& kernels, int slots, Arena& arena) {
  RecurrentPlan r;
  r.call = {.kernels = kernels_in(kernels, c.arithmetic),
            .dims = dims_of(c.head_dim, c.value_dim, &c.phi_q, &c.phi_k),
            .batch = c.batch,
            .heads = c.heads,
            .kv_heads = c.kv_heads,
            .phi_q = &c.phi_q,
            .phi_k = &c.phi_k,
            .score_scale = score_scale(c.scale, c.head_dim),
            .stabilizer = c.stabilizer,
            .denominator_epsilon = c.denominator_epsilon,
            .denominator_floor = c.denominator_floor};
  const std::int64_t chunk_tokens = c.chunking.chunk_frames * c.chunking.tokens_per_frame;
  const bool hybrid = c.schedule == RecurrentSchedule::hybrid;
  r.attend = attend_grid(r.call, 1, chunk_tokens);
  r.absorb = absorb_grid(r.call, 1, chunk_tokens, hybrid ? 2 : 1, most_chunk_groups);
  place_slots(r.call, arena, slots, r.attend.blocks_per_group);
  r.parts = arena.floats(c.batch, c.kv_heads, r.absorb.parts, r.absorb.part_size);
  if (!hybrid) {
    const std::int64_t size = r.absorb.part_size;
    r.peeked = {.data = arena.floats(c.batch, c.kv_heads, 2 * size),
                .entry_stride = c.kv_heads * 2 * size,
                .size = size};
  }
  return r;
}

/// A state's memory seen through its layout.
class StateMemory {
 public:
  StateMemory(const RecurrentConfig& c, char* data) : config_(c), data_(reinterpret_cast<float*>(data)) {
    [[maybe_unused]] const bool fits = lay_out(c, layout_);
  }

  float* entry(std::int64_t b) const { return data_ + b * layout_.entry; }
  const StateLayout& layout() const { return layout_; }
  EntryHeader header(std::int64_t b) const {
    EntryHeader h;
    std::memcpy(&h, entry(b), sizeof h);
    return h;
  }
  void set_header(std::int64_t b, const EntryHeader& h) const { std::memcpy(entry(b), &h, sizeof h); }

  StateSums<float> sums() const {
    return {
        .data = data_ + layout_.sums, .entry_stride = layout_.entry, .size = kernel::sums_size(layout_.dims)};
  }

  /// The tail as views; its tokens are the first of tail_tokens.
  KeyViews tail() const {
    const std::int64_t f = layout_.dims.feature_dim;
    const bool features = has_tail_features(config_);
    return {view(layout_.k, config_.head_dim, config_.tail_type),
            view(layout_.v, config_.value_dim, config_.tail_type),
            features ? view(layout_.features, f, ElementType::float32) : InputView{},
            features && config_.separate_denominator
                ? view(layout_.feature_denominators, f, ElementType::float32)
                : InputView{}};
  }

  /// Moves tail tokens [from, from + kept) to the front and appends chunk tokens [begin, begin + added), for
  /// one head.
  void shift_tail(std::int64_t b, std::int64_t g, std::int64_t from, std::int64_t kept, const KeyViews& chunk,
                  std::int64_t begin, std::int64_t added, const Kernels& kernels) const {
    const KeyViews t = tail();
    const auto shift = [&](const InputView& to, const InputView& source) {
      if (to.data == nullptr) return;
      const std::int64_t row_bytes = to.dim * element_size(to.type);
      char* rows = reinterpret_cast<char*>(data_) +
                   (static_cast<const char*>(to.row(b, 0, g)) - reinterpret_cast<const char*>(data_));
      std::memmove(rows, rows + from * row_bytes, static_cast<std::size_t>(kept * row_bytes));
      if (added == 0) return;
      kernels.convert({.from = head_rows_at(source, b, begin, g),
                       .to = rows + kept * row_bytes,
                       .to_type = to.type,
                       .to_stride = to.dim,
                       .dim = to.dim,
                       .count = added});
    };
    shift(t.k, chunk.k);
    shift(t.v, chunk.v);
    shift(t.features, chunk.features);
    shift(t.feature_denominators, chunk.feature_denominators);
  }

 private:
  InputView view(std::int64_t offset, std::int64_t dim, ElementType type) const {
    const std::int64_t elements = static_cast<std::int64_t>(sizeof(float)) / element_size(type);
    InputView tail;
    tail.data = data_ + offset;
    tail.type = type;
    tail.batch = config_.batch;
    tail.tokens = layout_.tail_tokens;
    tail.heads = config_.kv_heads;
    tail.dim = dim;
    tail.batch_stride = layout_.entry * elements;
    tail.token_stride = dim;
    tail.head_stride = layout_.tail_tokens * dim;
    return tail;
  }

  const RecurrentConfig& config_;
  float* data_;
  StateLayout layout_;
};

}  // namespace detail
}  // namespace rehyat

#include "rehyat/detail/recurrent_state.hpp"
