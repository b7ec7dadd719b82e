#pragma once
// Who holds, needs and does what when the frames of a clip lie on several ranks: integers, no MPI.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "rehyat/operation_count.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat::mpi {

/// A clip cut into one shard a rank, equal but for a frame. A shard is empty where there are more ranks than
/// frames.
inline std::vector<Range> even_shards(std::int64_t frames, std::int64_t ranks) {
  std::vector<Range> shards;
  for (std::int64_t r = 0; r < ranks; ++r) shards.push_back({frames * r / ranks, frames * (r + 1) / ranks});
  return shards;
}

/// A rank's part of a clip. All ranges are of frames, except `chunks`; empty ones where it has no chunk.
struct Part {
  Range shard = {};    ///< whose q, k, v it is given and whose output it ends up with
  Range chunks = {};   ///< those whose first frame is in the shard: the rank computes them
  Range queries = {};  ///< of those chunks: q comes in, outputs come about. May go on behind the shard
  Range keys = {};     ///< of their softmax sets: k, v come in. May begin before the shard, too
  /// What it adds to the prefix sums: from its first chunk's s_t to that of the ranks behind it. Part of
  /// `keys`; nothing from the last s_t of the clip on, as no one reads that.
  Range absorbed = {};
};

/// The parts of all ranks, for shards that follow each other from frame 0 on.
inline std::vector<Part> parts_of(std::span<const Range> shards, const Chunking& c) {
  const std::int64_t frames = shards.back().end, last = std::max<std::int64_t>(chunk_count(frames, c) - 1, 0);
  std::vector<Part> parts;
  for (const Range& shard : shards) {
    Part part{.shard = shard};
    part.chunks = {ceil_div(shard.begin, c.chunk_frames), ceil_div(shard.end, c.chunk_frames)};
    part.queries = part.keys = part.absorbed = {shard.begin, shard.begin};
    if (!part.chunks.empty()) {
      part.queries = {part.chunks.begin * c.chunk_frames, std::min(part.chunks.end * c.chunk_frames, frames)};
      part.keys = {softmax_begin(part.chunks.begin, c), part.queries.end};
      part.absorbed = {part.keys.begin, softmax_begin(std::min(part.chunks.end, last), c)};
    }
    parts.push_back(part);
  }
  return parts;
}

/// One of a part's ranges, of every rank.
inline std::vector<Range> ranges_of(std::span<const Part> parts, Range Part::*range) {
  std::vector<Range> all;
  for (const Part& part : parts) all.push_back(part.*range);
  return all;
}

constexpr Range common(const Range& a, const Range& b) {
  const Range r{std::max(a.begin, b.begin), std::min(a.end, b.end)};
  return r.empty() ? Range{r.begin, r.begin} : r;
}

/// The shortest range that holds both; of frames that touch, as a rank's shard and what it needs do.
constexpr Range hull(const Range& a, const Range& b) {
  if (a.empty() || b.empty()) return a.empty() ? b : a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

/// Bytes that a rank sends and receives.
struct Bytes {
  std::int64_t sent = 0, received = 0;
  friend bool operator==(const Bytes&, const Bytes&) = default;
};

/// What rank r sends and receives until everyone has the frames he needs.
inline Bytes exchange_bytes(std::span<const Range> have, std::span<const Range> need, std::size_t r,
                            std::int64_t frame_bytes) {
  Bytes bytes;
  for (std::size_t other = 0; other < have.size(); ++other) {
    if (other == r) continue;
    bytes.sent += common(have[r], need[other]).size() * frame_bytes;
    bytes.received += common(have[other], need[r]).size() * frame_bytes;
  }
  return bytes;
}

/// The three kinds of communication of a rank.
struct Communication {
  Bytes halo = {};     ///< frames of q, k, v that its chunks lack
  Bytes prefix = {};   ///< sums: from the rank before, to the rank behind
  Bytes outputs = {};  ///< of frames that another rank holds
};

/// As counted from the parts, for float32.
inline Communication communication_of(const RecurrentConfig& c, std::span<const Part> parts, std::size_t r) {
  const auto shards = ranges_of(parts, &Part::shard), queries = ranges_of(parts, &Part::queries),
             keys = ranges_of(parts, &Part::keys);
  const std::int64_t row = c.batch * c.chunking.tokens_per_frame * static_cast<std::int64_t>(sizeof(float));
  const Bytes q = exchange_bytes(shards, queries, r, row * c.heads * c.head_dim),
              kv = exchange_bytes(shards, keys, r, row * c.kv_heads * (c.head_dim + c.value_dim));
  const std::int64_t sums =
      c.batch * c.kv_heads * 2 * static_cast<std::int64_t>(sizeof(float)) *
      kernel::sums_size(
          {.head_dim = c.head_dim, .value_dim = c.value_dim, .feature_dim = c.phi_k.feature_dim(c.head_dim)});
  return {.halo = {q.sent + kv.sent, q.received + kv.received},
          .prefix = {r + 1 < parts.size() ? sums : 0, r > 0 ? sums : 0},
          .outputs = exchange_bytes(queries, shards, r, row * c.heads * c.value_dim)};
}

/// Floating-point operations of a part; those of all parts are operation_count() of the clip.
inline OperationCount operations_of(const RecurrentConfig& c, std::int64_t frames, const Part& part) {
  const auto count = [&](std::int64_t n) {
    return static_cast<double>(n * c.chunking.tokens_per_frame * c.batch);
  };
  const double heads = static_cast<double>(c.heads), kv_heads = static_cast<double>(c.kv_heads),
               m = static_cast<double>(c.chunking.tokens_per_frame),
               read = 2 * static_cast<double>(c.phi_q.feature_dim(c.head_dim) * c.value_dim);
  OperationCount n;
  for (std::int64_t t = part.chunks.begin; t < part.chunks.end; ++t) {
    const ChunkSets sets = hybrid_sets(frames, t, c.chunking, Direction::causal);
    const double queries = count(sets.queries.size()) * heads;
    n.softmax += 2 * static_cast<double>(c.head_dim + c.value_dim) * queries *
                 static_cast<double>(sets.softmax.size()) * m;
    if (sets.linear_before.empty()) continue;
    n.read += read * queries;
    n.feature_map += 2 * detail::feature_map_work(c.phi_q, c.head_dim) * queries;
  }
  const double keys = count(part.absorbed.size()) * kv_heads;
  n.absorb = read * keys;
  n.feature_map += 2 * detail::feature_map_work(c.phi_k, c.head_dim) * keys;
  return n;
}

}  // namespace rehyat::mpi
