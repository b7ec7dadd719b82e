#pragma once

#include <cstdint>

#include "rehyat/config.hpp"

namespace rehyat {

/// Which keys a chunk may see.
enum class Direction : std::uint8_t {
  causal,         ///< its own frames and everything before: what a recurrence can compute
  bidirectional,  ///< the whole clip
};

/// How a clip is cut into chunks (ReHyAt, section 3). All counts are of frames but the first.
struct Chunking {
  std::int64_t tokens_per_frame = 1;  ///< M
  std::int64_t chunk_frames = 3;      ///< Tc >= 1
  std::int64_t overlap_frames = 1;    ///< To >= 0; frames before a chunk that keep softmax; may exceed Tc
};

/// Half-open range of frames or tokens.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  constexpr std::int64_t size() const { return end - begin; }
  constexpr bool empty() const { return end <= begin; }
  constexpr Range scaled(std::int64_t factor) const { return {begin * factor, end * factor}; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};

/// The key sets of one chunk, in frames: softmax over `softmax`, linear attention over the two others.
/// `queries.begin` always lies in `softmax` when that is not empty.
struct ChunkSets {
  Range queries;
  Range softmax;
  Range linear_before;
  Range linear_after;
};

/// For a >= 0, b >= 1.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0); }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

/// Number of chunks of a clip of `frames` frames; the last may be short.
constexpr std::int64_t chunk_count(std::int64_t frames, const Chunking& c) {
  return ceil_div(frames, c.chunk_frames);
}

/// s_t = max(t * Tc - To, 0): the first frame of chunk t's softmax set, hence the end of what has been
/// absorbed before it is attended.
constexpr std::int64_t softmax_begin(std::int64_t chunk, const Chunking& c) {
  const std::int64_t s = chunk * c.chunk_frames - c.overlap_frames;
  return s > 0 ? s : 0;
}

/// Hybrid attention: softmax over chunk and overlap, linear attention over the rest that the direction
/// allows.
constexpr ChunkSets hybrid_sets(std::int64_t frames, std::int64_t chunk, const Chunking& c,
                                Direction direction) {
  const std::int64_t begin = chunk * c.chunk_frames;
  const std::int64_t end = begin + c.chunk_frames < frames ? begin + c.chunk_frames : frames;
  const std::int64_t first = softmax_begin(chunk, c);
  const bool both = direction == Direction::bidirectional;
  return {.queries = {begin, end},
          .softmax = {first, end},
          .linear_before = {0, first},
          .linear_after = {end, both ? frames : end}};
}

/// Linear attention by chunk: no softmax keys.
constexpr ChunkSets linear_sets(std::int64_t frames, std::int64_t chunk, const Chunking& c,
                                Direction direction) {
  const std::int64_t begin = chunk * c.chunk_frames;
  const std::int64_t end = begin + c.chunk_frames < frames ? begin + c.chunk_frames : frames;
  const bool both = direction == Direction::bidirectional;
  return {.queries = {begin, end},
          .softmax = {begin, begin},
          .linear_before = {0, both ? frames : end},
          .linear_after = {end, end}};
}

}  // namespace rehyat
