#pragma once
// What distillation needs of a clip and does not depend on phi: which queries are scored, their softmax
// branch and their teacher.

#include <cstdint>
#include <vector>

#include "rehyat/schedule.hpp"
#include "rehyat/train/detail/matrix.hpp"

namespace rehyat::train::detail {

/// The tokens of a chunk: queries that are scored, and their keys.
struct ChunkTokens {
  Range queries, softmax, linear;
};

/// Frames of a clip that are a clip of their own, chunks counted from the first of them; queries before
/// `first_query` are not scored, nor are those without linear keys.
struct Cut {
  Range frames = {};
  std::int64_t first_query = 0;
  Chunking chunking = {};

  std::int64_t chunks() const { return chunk_count(frames.size(), chunking); }

  ChunkTokens chunk(std::int64_t t) const {
    const ChunkSets sets = hybrid_sets(frames.size(), t, chunking, Direction::causal);
    Range queries = in_clip(sets.queries);
    const std::int64_t first = first_query * chunking.tokens_per_frame;
    if (queries.begin < first) queries.begin = first;
    if (sets.linear_before.empty()) queries.end = queries.begin;
    return {queries, in_clip(sets.softmax), in_clip(sets.linear_before)};
  }
  bool is_scored(std::int64_t t) const { return !chunk(t).queries.empty(); }

  std::vector<std::int64_t> scored_chunks() const {
    std::vector<std::int64_t> scored;
    for (std::int64_t t = 0; t < chunks(); ++t) {
      if (is_scored(t)) scored.push_back(t);
    }
    return scored;
  }

  /// All scored queries: they follow each other up to the last.
  Range scored() const {
    std::int64_t t = 0;
    while (t < chunks() && !is_scored(t)) ++t;
    const std::int64_t end = frames.end * chunking.tokens_per_frame;
    return {t < chunks() ? chunk(t).queries.begin : end, end};
  }
  /// Most linear keys of any chunk; their tokens begin at linear_begin().
  std::int64_t linear_keys() const { return chunk(chunks() - 1).linear.size(); }
  std::int64_t linear_begin() const { return frames.begin * chunking.tokens_per_frame; }

 private:
  Range in_clip(const Range& of_cut) const {
    return Range{of_cut.begin + frames.begin, of_cut.end + frames.begin}.scaled(chunking.tokens_per_frame);
  }
};

/// Of one query head and the scored queries of a cut, from token `first` on.
template <class Real>
struct Targets {
  std::int64_t first = 0;
  const Real* softmax = nullptr;  ///< [n, Dv + 1]: numerator sum exp(s - max) v, then denominator
  const Real* teacher = nullptr;  ///< [n, Dv]
};

/// One kv head of a clip, packed.
template <class Real>
struct HeadClip {
  const Real* q = nullptr;       ///< [group, N, D]: the query heads that read it
  const Real* k = nullptr;       ///< [N, D]
  const Real* values = nullptr;  ///< [N, Dv + 1]: v, then 1, so that A's last column is z
  std::int64_t tokens = 0;
};

}  // namespace rehyat::train::detail
