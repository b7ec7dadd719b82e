#pragma once
// The one-shot operators as schedules over attend and absorb.

#include <cstring>

#include "rehyat/detail/check.hpp"
#include "rehyat/detail/problem.hpp"
#include "rehyat/detail/tasks.hpp"
#include "rehyat/status.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::detail {

/// A checked call of a one-shot operator: grids and memory.
struct OneShot {
  Problem p = {};
  Call call = {};
  KeyViews clip = {};
  AttendGrid attend = {};
  AbsorbGrid absorb = {};
  StateSums<float> sums = {};  ///< running sums (causal) or those of the clip
  float* parts = nullptr;      ///< [batch][column][kv head][part]
  float* per_chunk =
      nullptr;              ///< bidirectional hybrid: [batch][kv head][chunk] sums outside each softmax set
  std::int64_t chunks = 0;  ///< of the longest clip

  std::int64_t parts_stride() const { return absorb.parts * absorb.part_size; }
};

/// Chunk and overlap about as long as the clip mean the same as longer ones, and their products cannot
/// overflow. To mod Tc stays: it cuts the segments of the bidirectional form, and those cuts must not depend
/// on the longest of a batch.
inline Chunking clamped(Chunking c, std::int64_t frames) {
  if (frames < 1) frames = 1;
  if (c.chunk_frames > frames) c.chunk_frames = frames;
  if (c.overlap_frames > frames) c.overlap_frames = frames + (c.overlap_frames - frames) % c.chunk_frames;
  return c;
}

/// A checked problem with nothing in it that is larger than the clip can use: products of what is left do not
/// overflow.
inline Problem clamped(Problem p) {
  if (p.framed()) p.chunking = clamped(p.chunking, p.q.tokens / p.chunking.tokens_per_frame);
  // a rate of the clip's length or more is all the same: it leaves token 0
  const std::int64_t most_rate = p.k.tokens > 1 ? p.k.tokens : 1;
  if (p.rate > most_rate) p.rate = most_rate;
  return p;
}

inline bool whole_clip_at_once(const Problem& p) {
  return p.schedule == Schedule::uniform ||
         (p.schedule == Schedule::linear && p.direction == Direction::bidirectional);
}

/// Plans a checked problem, with its memory at `arena`'s addresses.
inline OneShot plan(const Problem& problem, const Kernels& kernels, int slots, Arena& arena) {
  OneShot o{.p = clamped(problem), .call = call_of(problem, kernels)};
  const Problem& p = o.p;
  const Chunking& c = p.chunking;
  const bool hybrid = p.schedule == Schedule::hybrid;
  const bool at_once = p.schedule == Schedule::softmax || whole_clip_at_once(p);
  const bool all_chunks = hybrid && p.direction == Direction::bidirectional;
  o.clip = {p.k, p.v, p.given.k, p.given.k_denominator};
  o.chunks = at_once ? 1 : chunk_count(p.q.tokens / c.tokens_per_frame, c);
  const std::int64_t chunk_tokens = at_once ? p.q.tokens : c.chunk_frames * c.tokens_per_frame;
  o.attend = attend_grid(o.call, all_chunks ? o.chunks : 1, chunk_tokens);
  place_slots(o.call, arena, slots, o.attend.blocks_per_group);
  if (!p.has_linear()) return o;

  const std::int64_t size = kernel::sums_size(o.call.dims);
  if (all_chunks) {  // a segment is summed by one task
    o.absorb = absorb_grid(o.call, 2 * o.chunks, chunk_tokens, 1, 1);
    o.per_chunk = arena.floats(p.q.batch, p.k.heads, o.chunks, size);
  } else if (at_once) {
    o.absorb = absorb_grid(o.call, 1, p.k.tokens, 1, most_clip_groups);
  } else {
    o.absorb = absorb_grid(o.call, 1, chunk_tokens, hybrid ? 2 : 1, most_chunk_groups);
  }
  o.parts = arena.floats(p.q.batch, o.absorb.columns, p.k.heads, o.parts_stride());
  if (!all_chunks) {
    o.sums = {.data = arena.floats(p.q.batch, p.k.heads, 2 * size),
              .entry_stride = p.k.heads * 2 * size,
              .size = size};
  }
  return o;
}

inline void run_phase(const OneShot& o, ExecutorRef executor, const auto& attend_work,
                      const auto& absorb_work) {
  const std::int64_t attends = o.attend.count();
  const auto task = [&](std::int64_t index, int slot) {
    if (index < attends) return attend_task(o.call, o.attend, index, slot, attend_work);
    absorb_task(o.call, o.absorb, index - attends, slot, absorb_work);
  };
  executor.run(attends + o.absorb.count(), task);
}

inline void attend_phase(const OneShot& o, ExecutorRef executor, const auto& work) {
  const auto task = [&](std::int64_t index, int slot) { attend_task(o.call, o.attend, index, slot, work); };
  executor.run(o.attend.count(), task);
}

inline void absorb_phase(const OneShot& o, ExecutorRef executor, const auto& work) {
  const auto task = [&](std::int64_t index, int slot) { absorb_task(o.call, o.absorb, index, slot, work); };
  executor.run(o.absorb.count(), task);
}

inline StateSums<const float> read_only(const StateSums<float>& s) {
  return {s.data, s.entry_stride, s.size};
}

/// Exact softmax, uniform hybrid, bidirectional linear: the linear keys of the clip are summed, then all
/// attend.
inline void run_at_once(const OneShot& o, ExecutorRef executor) {
  const Problem& p = o.p;
  const std::int64_t rate = p.schedule == Schedule::uniform ? p.rate : 1;
  KeyViews strided = o.clip;  // every rate-th token
  strided.k.token_stride *= rate;
  strided.v.token_stride *= rate;
  const auto tokens_of = [&](std::int64_t b) { return p.units_of_keys(b) * p.unit(); };
  const auto softmax_tokens = [&](std::int64_t b) {
    return p.schedule == Schedule::linear ? 0 : ceil_div(tokens_of(b), rate);
  };
  const auto absorb_work = [&](std::int64_t b, std::int64_t) {
    AbsorbWork work{.parts = o.parts + b * o.call.kv_heads * o.parts_stride(),
                    .parts_head_stride = o.parts_stride(),
                    .skip_rate = p.schedule == Schedule::uniform ? rate : 0};
    work.keys.add(o.clip, 0, tokens_of(b) - softmax_tokens(b));
    return work;
  };
  const auto attend_work = [&](std::int64_t b, std::int64_t) {
    AttendWork work{.query_begin = 0, .query_count = p.units_of_queries(b) * p.unit()};
    work.softmax.add(strided, 0, softmax_tokens(b));
    if (p.has_linear() && tokens_of(b) > softmax_tokens(b)) {
      work.sums = o.sums.hi(b, 0);
      work.sums_head_stride = o.sums.head_stride();
    }
    return work;
  };
  if (p.has_linear()) {
    absorb_phase(o, executor, absorb_work);
    fold_phase(o.call, o.absorb, executor, absorb_work, {}, o.sums);
  }
  attend_phase(o, executor, attend_work);
}

/// Queries and softmax keys of a chunk, the latter cut where the chunk begins.
inline AttendWork hybrid_attend_work(const OneShot& o, const ChunkSets& sets) {
  const std::int64_t m = o.p.chunking.tokens_per_frame;
  AttendWork work{.query_begin = sets.queries.begin * m, .query_count = sets.queries.size() * m};
  work.softmax.add(o.clip, sets.softmax.begin * m, sets.queries.begin * m);
  work.softmax.add(o.clip, sets.queries.begin * m, sets.softmax.end * m);
  return work;
}

/// Causal hybrid: chunk after chunk, attend and the sums of what leaves the overlap, then fold those.
inline void run_causal_hybrid(const OneShot& o, ExecutorRef executor) {
  const Problem& p = o.p;
  const Chunking& c = p.chunking;
  const std::int64_t m = c.tokens_per_frame;
  for (std::int64_t t = 0; t < o.chunks; ++t) {
    const auto attend_work = [&](std::int64_t b, std::int64_t) {
      const std::int64_t frames = p.units_of_queries(b);
      if (t >= chunk_count(frames, c)) return AttendWork{};
      const ChunkSets sets = hybrid_sets(frames, t, c, Direction::causal);
      AttendWork work = hybrid_attend_work(o, sets);
      if (!sets.linear_before.empty()) {
        work.sums = o.sums.hi(b, 0);
        work.sums_head_stride = o.sums.head_stride();
      }
      return work;
    };
    const auto absorb_work = [&](std::int64_t b, std::int64_t) {
      AbsorbWork work{.parts = o.parts + b * o.call.kv_heads * o.parts_stride(),
                      .parts_head_stride = o.parts_stride()};
      if (t + 1 >= chunk_count(p.units_of_queries(b), c))
        return work;  // nobody will read what the last chunk leaves
      const std::int64_t from = softmax_begin(t, c), to = softmax_begin(t + 1, c), cut = t * c.chunk_frames;
      work.keys.add(o.clip, from * m, (to < cut ? to : cut) * m);
      work.keys.add(o.clip, (from > cut ? from : cut) * m, to * m);
      return work;
    };
    run_phase(o, executor, attend_work, absorb_work);
    if (t + 1 < o.chunks) fold_phase(o.call, o.absorb, executor, absorb_work, read_only(o.sums), o.sums);
  }
}

/// Causal linear: chunk after chunk, first the sums, then the queries that see them.
inline void run_causal_linear(const OneShot& o, ExecutorRef executor) {
  const Problem& p = o.p;
  const Chunking& c = p.chunking;
  const std::int64_t m = c.tokens_per_frame;
  for (std::int64_t t = 0; t < o.chunks; ++t) {
    const auto queries = [&](std::int64_t b) {
      const std::int64_t frames = p.units_of_queries(b);
      return t < chunk_count(frames, c) ? linear_sets(frames, t, c, Direction::causal).queries.scaled(m)
                                        : Range{};
    };
    const auto absorb_work = [&](std::int64_t b, std::int64_t) {
      AbsorbWork work{.parts = o.parts + b * o.call.kv_heads * o.parts_stride(),
                      .parts_head_stride = o.parts_stride()};
      work.keys.add(o.clip, queries(b).begin, queries(b).end);
      return work;
    };
    const auto attend_work = [&](std::int64_t b, std::int64_t) {
      return AttendWork{.query_begin = queries(b).begin,
                        .query_count = queries(b).size(),
                        .sums = o.sums.hi(b, 0),
                        .sums_head_stride = o.sums.head_stride()};
    };
    absorb_phase(o, executor, absorb_work);
    fold_phase(o.call, o.absorb, executor, absorb_work, read_only(o.sums), o.sums);
    attend_phase(o, executor, attend_work);
  }
}

/// Bidirectional hybrid. Softmax sets begin at t Tc - To and end at (t + 1) Tc: with r = To mod Tc, cutting
/// each chunk r frames before its end gives segments whose prefix and suffix sums are all that is needed,
/// each key absorbed once.
inline void run_bidirectional_hybrid(const OneShot& o, ExecutorRef executor) {
  const Problem& p = o.p;
  const Chunking& c = p.chunking;
  const std::int64_t m = c.tokens_per_frame, size = o.absorb.part_size, segments = 2 * o.chunks;
  const std::int64_t rest = c.overlap_frames % c.chunk_frames;
  const auto least = [](std::int64_t a, std::int64_t b) { return a < b ? a : b; };
  const auto absorb_work = [&](std::int64_t b, std::int64_t segment) {
    const std::int64_t chunk_begin = segment / 2 * c.chunk_frames, cut = chunk_begin + c.chunk_frames - rest;
    const Range r = segment % 2 == 0 ? Range{chunk_begin, cut} : Range{cut, chunk_begin + c.chunk_frames};
    const std::int64_t frames = p.units_of_queries(b);
    AbsorbWork work{.parts = o.parts + (b * o.call.kv_heads * segments + segment) * size,
                    .parts_head_stride = segments * size};
    work.keys.add(o.clip, least(r.begin, frames) * m, least(r.end, frames) * m);
    return work;
  };
  // segments without frames are zero
  std::memset(o.parts, 0,
              static_cast<std::size_t>(o.call.batch * o.call.kv_heads * segments * size) * sizeof(float));
  absorb_phase(o, executor, absorb_work);

  const std::int64_t slices = ceil_div(size, fold_slice);
  const auto scan = [&](std::int64_t index, int) {
    const std::int64_t head = index / slices, begin = index % slices * fold_slice;
    o.call.kernels->scan({.segments = o.parts + head * segments * size,
                          .out = o.per_chunk + head * o.chunks * size,
                          .stride = size,
                          .num_chunks = o.chunks,
                          .whole_chunks = c.overlap_frames / c.chunk_frames,
                          .odd = rest > 0 ? 1 : 0,
                          .begin = begin,
                          .end = least(begin + fold_slice, size)});
  };
  executor.run(o.call.batch * o.call.kv_heads * slices, scan);

  const auto attend_work = [&](std::int64_t b, std::int64_t t) {
    const std::int64_t frames = p.units_of_queries(b);
    if (t >= chunk_count(frames, c)) return AttendWork{};
    const ChunkSets sets = hybrid_sets(frames, t, c, Direction::bidirectional);
    AttendWork work = hybrid_attend_work(o, sets);
    if (!sets.linear_before.empty() || !sets.linear_after.empty()) {
      work.sums = o.per_chunk + (b * o.call.kv_heads * o.chunks + t) * size;
      work.sums_head_stride = o.chunks * size;
    }
    return work;
  };
  attend_phase(o, executor, attend_work);
}

inline Result<std::size_t> workspace_size(const Problem& p, int slots, const Kernels& kernels) {
  REHYAT_RETURN_IF_ERROR(check(p));
  REHYAT_RETURN_IF_ERROR(check_arithmetic(p.arithmetic, kernels));
  REHYAT_RETURN_IF_ERROR(check_slots(slots));
  Arena measure;
  plan(p, kernels, slots, measure);
  if (measure.overflows()) return refuse("q.tokens", p.q.tokens, "a workspace whose size does not overflow");
  return measure.size();
}

/// Runs what was planned for as many slots.
inline void run(const OneShot& o, int slots, ExecutorRef executor) {
  const Problem& p = o.p;
  start_reports(o.call, slots);
  if (o.sums.data != nullptr) {
    std::memset(o.sums.data, 0, static_cast<std::size_t>(o.call.batch * o.sums.entry_stride) * sizeof(float));
  }
  if (p.schedule == Schedule::softmax || whole_clip_at_once(p)) {
    run_at_once(o, executor);
  } else if (p.schedule == Schedule::linear) {
    run_causal_linear(o, executor);
  } else if (p.direction == Direction::causal) {
    run_causal_hybrid(o, executor);
  } else {
    run_bidirectional_hybrid(o, executor);
  }
  merge_reports(o.call, slots, p.report);
}

inline Status run(const Problem& p, Workspace workspace, ExecutorRef executor, const Kernels& kernels) {
  const int slots = executor.slots();
  const Result<std::size_t> needed = workspace_size(p, slots, kernels);
  if (!needed.ok()) return needed.status();
  REHYAT_RETURN_IF_ERROR(check_data(p));
  REHYAT_RETURN_IF_ERROR(check_workspace(workspace, *needed, slots));
  Arena arena(workspace);
  run(plan(p, kernels, slots, arena), slots, executor);
  return {};
}

}  // namespace rehyat::detail
