#pragma once
// Which keys a query sees, decided pair by pair: a query frame and a key frame. Slow and obvious on purpose;
// shares nothing with the range arithmetic of rehyat/schedule.hpp but its names.

#include <vector>

#include "array.hpp"
#include "rehyat/schedule.hpp"

namespace rehyat::reference {

/// Queries that share their key sets, and those sets: token indices, ascending.
struct KeySets {
  std::vector<Index> queries;
  std::vector<Index> softmax;
  std::vector<Index> linear;
};

enum class Membership { outside, softmax, linear };

/// Applies `membership(query_chunk, key_frame)` to every chunk and key of a clip.
template <class F>
std::vector<KeySets> sets_by_frame(Index frames, const Chunking& chunking, F membership) {
  std::vector<KeySets> chunks;
  for (Index chunk = 0; chunk * chunking.chunk_frames < frames; ++chunk) {
    KeySets sets;
    for (Index token = 0; token < frames * chunking.tokens_per_frame; ++token) {
      const Index frame = token / chunking.tokens_per_frame;
      if (frame / chunking.chunk_frames == chunk) sets.queries.push_back(token);
      const Membership m = membership(chunk, frame);
      if (m == Membership::softmax) sets.softmax.push_back(token);
      if (m == Membership::linear) sets.linear.push_back(token);
    }
    chunks.push_back(sets);
  }
  return chunks;
}

/// Hybrid attention: softmax over the query's chunk and the `overlap_frames` before it, linear over the rest.
inline std::vector<KeySets> hybrid_key_sets(Index frames, const Chunking& chunking, Direction direction) {
  return sets_by_frame(frames, chunking, [&](Index query_chunk, Index key_frame) {
    const Index key_chunk = key_frame / chunking.chunk_frames;
    if (key_chunk > query_chunk) {
      return direction == Direction::bidirectional ? Membership::linear : Membership::outside;
    }
    const Index frames_before_chunk = query_chunk * chunking.chunk_frames - key_frame;
    const bool near = key_chunk == query_chunk || frames_before_chunk <= chunking.overlap_frames;
    return near ? Membership::softmax : Membership::linear;
  });
}

/// Linear attention by chunk: no softmax keys.
inline std::vector<KeySets> linear_key_sets(Index frames, const Chunking& chunking, Direction direction) {
  return sets_by_frame(frames, chunking, [&](Index query_chunk, Index key_frame) {
    const bool future = key_frame / chunking.chunk_frames > query_chunk;
    return future && direction == Direction::causal ? Membership::outside : Membership::linear;
  });
}

/// Attention Surgery: every `rate`-th token keeps softmax, for every query.
inline std::vector<KeySets> uniform_key_sets(Index tokens, Index rate) {
  KeySets sets;
  for (Index token = 0; token < tokens; ++token) {
    sets.queries.push_back(token);
    (token % rate == 0 ? sets.softmax : sets.linear).push_back(token);
  }
  return {sets};
}

/// Exact softmax attention of all queries over all keys.
inline std::vector<KeySets> softmax_key_sets(Index query_tokens, Index key_tokens) {
  KeySets sets;
  for (Index token = 0; token < query_tokens; ++token) sets.queries.push_back(token);
  for (Index token = 0; token < key_tokens; ++token) sets.softmax.push_back(token);
  return {sets};
}

}  // namespace rehyat::reference
