#pragma once
// The member functions of RecurrentState.

#include <cinttypes>
#include <cstring>

#include "rehyat/detail/recurrent.hpp"

namespace rehyat {
namespace detail {

/// One chunk of a recurrence, checked: what its phases need.
struct ChunkStep {
  const RecurrentConfig& config;
  const RecurrentChunk& chunk;
  StateMemory memory;
  RecurrentPlan plan;
  KeyViews tail, now;
  bool attends, commits;

  ChunkStep(const RecurrentConfig& c, const RecurrentChunk& ch, const StateMemory& m, const RecurrentPlan& p,
            bool attends_now, bool commits_now)
      : config(c),
        chunk(ch),
        memory(m),
        plan(p),
        tail(m.tail()),
        now{ch.k, ch.v, ch.given.k, ch.given.k_denominator},
        attends(attends_now),
        commits(commits_now) {
    Call& call = plan.call;
    call.q = ch.q;
    call.features = ch.given.q;
    call.feature_denominators = ch.given.q_denominator;
    call.out = ch.out;
    call.statistics = ch.statistics;
  }

  std::int64_t frames(std::int64_t b) const {
    return chunk.frames.empty() ? chunk.k.tokens / config.chunking.tokens_per_frame
                                : chunk.frames[static_cast<std::size_t>(b)];
  }
  /// First frame that has not been absorbed when `seen` frames were committed: where the tail begins.
  std::int64_t tail_begin(std::int64_t seen) const {
    const std::int64_t s = seen - config.chunking.overlap_frames;
    return s > 0 ? s : 0;
  }

  AttendWork attend_work(std::int64_t b, const StateSums<float>& sums) const {
    const std::int64_t m = config.chunking.tokens_per_frame, seen = memory.header(b).frames_seen;
    AttendWork work{.query_begin = 0, .query_count = frames(b) * m};
    if (config.schedule == RecurrentSchedule::hybrid) {
      work.softmax.add(tail, 0, (seen - tail_begin(seen)) * m);
      work.softmax.add(now, 0, frames(b) * m);
      if (tail_begin(seen) == 0) return work;
    }
    work.sums = sums.hi(b, 0);
    work.sums_head_stride = sums.head_stride();
    return work;
  }

  AbsorbWork absorb_work(std::int64_t b) const {
    const std::int64_t m = config.chunking.tokens_per_frame, seen = memory.header(b).frames_seen;
    const std::int64_t from = tail_begin(seen), to = tail_begin(seen + frames(b));
    const std::int64_t stride = plan.absorb.parts * plan.absorb.part_size;
    AbsorbWork work{.parts = plan.parts + b * config.kv_heads * stride, .parts_head_stride = stride};
    work.keys.add(tail, 0, ((to < seen ? to : seen) - from) * m);
    work.keys.add(now, 0, (to - seen) * m);
    return work;
  }

  /// After the absorbed keys have left: what stays of tail and chunk becomes the tail.
  void move_tail(std::int64_t b, std::int64_t g) const {
    const std::int64_t m = config.chunking.tokens_per_frame, seen = memory.header(b).frames_seen;
    const std::int64_t from = tail_begin(seen), to = tail_begin(seen + frames(b));
    const std::int64_t kept = to < seen ? seen - to : 0;
    const std::int64_t begin = to < seen ? 0 : to - seen;
    memory.shift_tail(b, g, (to < seen ? to - from : 0) * m, kept * m, now, begin * m,
                      (frames(b) - begin) * m, *plan.call.kernels);
  }

  /// All phases. Attend and absorb of a hybrid step need not be in order and are one phase, unless
  /// `executor` has to have them one by one: every phase is then a grid of entries x kv heads x others.
  void run(ExecutorRef executor, bool one_by_one = false) const {
    const Call& call = plan.call;
    const bool linear = config.schedule == RecurrentSchedule::linear;
    const StateSums<float> sums = memory.sums();
    // linear attention reads the sums with this chunk in them: those of the state after the commit, or a copy
    const StateSums<float> seen_by_queries = linear && !commits ? plan.peeked : sums;
    const auto attend_work = [&](std::int64_t b, std::int64_t) {
      return this->attend_work(b, seen_by_queries);
    };
    const auto absorb_work = [&](std::int64_t b, std::int64_t) { return this->absorb_work(b); };
    const auto attend = [&](std::int64_t index, int slot) {
      attend_task(call, plan.attend, index, slot, attend_work);
    };
    const std::int64_t attends_now = attends && !linear ? plan.attend.count() : 0;
    const std::int64_t absorbs_now = commits || linear ? plan.absorb.count() : 0;
    const std::int64_t together = one_by_one ? 0 : attends_now;
    const auto attend_and_absorb = [&](std::int64_t index, int slot) {
      if (index < together) return attend(index, slot);
      absorb_task(call, plan.absorb, index - together, slot, absorb_work);
    };
    if (one_by_one) executor.run(attends_now, attend);
    executor.run(together + absorbs_now, attend_and_absorb);
    if (absorbs_now > 0) {
      fold_phase(call, plan.absorb, executor, absorb_work, {sums.data, sums.entry_stride, sums.size},
                 seen_by_queries);
    }
    if (attends && linear) executor.run(plan.attend.count(), attend);
    if (!commits) return;
    const auto move_tails = [&](std::int64_t index, int) {
      move_tail(index / config.kv_heads, index % config.kv_heads);
    };
    executor.run(config.batch * config.kv_heads, move_tails);
  }

  /// After everything has been taken from the chunk.
  void count_frames() const {
    for (std::int64_t b = 0; b < config.batch; ++b) {
      EntryHeader header = memory.header(b);
      header.frames_seen += frames(b);
      if (frames(b) > 0 && frames(b) < config.chunking.chunk_frames) header.finished = 1;
      memory.set_header(b, header);
    }
  }
};

/// Keys and values of a chunk.
inline Status check_keys(const RecurrentConfig& c, const RecurrentChunk& chunk, const Shape& k) {
  REHYAT_RETURN_IF_ERROR(check_input("k", chunk.k, k));
  return check_input("v", chunk.v, {k.batch, k.tokens, k.heads, c.value_dim});
}

/// Given features of a chunk: those of its keys, and of its queries if it `attends`.
inline Status check_features(const RecurrentConfig& c, const RecurrentChunk& chunk, const Shape& q,
                             const Shape& k, bool attends) {
  REHYAT_RETURN_IF_ERROR(check_given(chunk.given, c.phi_k, q, k, attends));
  REHYAT_RETURN_IF_ERROR(check_given_data(chunk.given, c.phi_k, attends));
  if (has_tail_features(c) && (chunk.given.k_denominator.data != nullptr) != c.separate_denominator &&
      k.tokens > 0) {
    return refuse("given.k_denominator (0: null)", chunk.given.k_denominator.data != nullptr,
                  "to be there if and only if config.separate_denominator");
  }
  return {};
}

/// A chunk against its config and the state's progress.
inline Status check(const RecurrentConfig& c, const RecurrentChunk& chunk, const StateMemory& memory,
                    bool attends) {
  const std::int64_t m = c.chunking.tokens_per_frame;
  const Shape k{c.batch, chunk.k.tokens, c.kv_heads, c.head_dim},
      q{c.batch, chunk.k.tokens, c.heads, c.head_dim};
  REHYAT_RETURN_IF_ERROR(check_at_least("k.tokens", k.tokens, 0));
  if (k.tokens % m != 0 || k.tokens / m > c.chunking.chunk_frames) {
    return Status::error(StatusCode::invalid_argument,
                         "k.tokens is %" PRId64 ", expected 0 to %" PRId64 " whole frames of %" PRId64
                         " tokens",
                         k.tokens, c.chunking.chunk_frames, m);
  }
  REHYAT_RETURN_IF_ERROR(check_keys(c, chunk, k));
  if (attends) {
    REHYAT_RETURN_IF_ERROR(check_input("q", chunk.q, q));
    REHYAT_RETURN_IF_ERROR(check_output("out", chunk.out, {q.batch, q.tokens, q.heads, c.value_dim}));
    REHYAT_RETURN_IF_ERROR(check_statistics(chunk.statistics, chunk.q));
  }
  REHYAT_RETURN_IF_ERROR(check_features(c, chunk, q, k, attends));
  REHYAT_RETURN_IF_ERROR(check_counts("frames", chunk.frames, c.batch, k.tokens / m));
  for (std::int64_t b = 0; b < c.batch; ++b) {
    const std::int64_t frames =
        chunk.frames.empty() ? k.tokens / m : chunk.frames[static_cast<std::size_t>(b)];
    if (frames > 0 && memory.header(b).finished != 0) {
      return Status::error(StatusCode::sequence_finished,
                           "batch entry %" PRId64 " got a chunk after %" PRId64
                           " frames that ended in a chunk shorter than chunk_frames (%" PRId64
                           "), expected reset() first",
                           b, memory.header(b).frames_seen, c.chunking.chunk_frames);
    }
  }
  return {};
}

inline bool same_geometry(const RecurrentConfig& a, const RecurrentConfig& b) {
  StateLayout x, y;
  return lay_out(a, x) && lay_out(b, y) && a.schedule == b.schedule && a.kv_heads == b.kv_heads &&
         a.head_dim == b.head_dim && a.value_dim == b.value_dim && a.tail_type == b.tail_type &&
         x.dims.feature_dim == y.dims.feature_dim &&
         a.chunking.tokens_per_frame == b.chunking.tokens_per_frame &&
         a.chunking.chunk_frames == b.chunking.chunk_frames &&
         a.chunking.overlap_frames == b.chunking.overlap_frames && x.entry == y.entry;
}

}  // namespace detail

inline Result<std::size_t> RecurrentState::size_bytes(const RecurrentConfig& config) {
  REHYAT_RETURN_IF_ERROR(detail::check(config));
  return static_cast<std::size_t>(detail::StateMemory(config, nullptr).layout().bytes);
}

inline Result<RecurrentState> RecurrentState::create(const RecurrentConfig& config, void* data,
                                                     std::size_t size) {
  const Result<std::size_t> needed = size_bytes(config);
  if (!needed.ok()) return needed.status();
  if (data == nullptr) return detail::refuse_null("data");
  if (reinterpret_cast<std::uintptr_t>(data) % 8 != 0) {
    return detail::refuse("data modulo 8",
                          static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data) % 8), "0");
  }
  if (size < *needed) {
    return Status::error(StatusCode::invalid_argument, "size is %zu, expected at least %zu bytes", size,
                         *needed);
  }
  RecurrentState state;
  state.config_ = config;
  state.data_ = static_cast<char*>(data);
  state.reset();
  return state;
}

inline Result<std::size_t> RecurrentState::workspace_size(const RecurrentConfig& config, int slots,
                                                          const Kernels& kernels) {
  REHYAT_RETURN_IF_ERROR(detail::check(config));
  REHYAT_RETURN_IF_ERROR(detail::check_arithmetic(config.arithmetic, kernels));
  REHYAT_RETURN_IF_ERROR(detail::check_slots(slots));
  detail::Arena measure;
  detail::plan(config, kernels, slots, measure);
  if (measure.overflows()) return detail::refuse("slots", slots, "a workspace whose size does not overflow");
  return measure.size();
}

inline Status RecurrentState::advance(const RecurrentChunk& chunk, Operation operation, Workspace workspace,
                                      ExecutorRef executor, const Kernels& kernels) const {
  const int slots = executor.slots();
  const bool attends = operation != Operation::commit, commits = operation != Operation::peek;
  const detail::StateMemory memory(config_, data_);
  REHYAT_RETURN_IF_ERROR(detail::check(config_, chunk, memory, attends));
  const Result<std::size_t> needed = workspace_size(config_, slots, kernels);
  if (!needed.ok()) return needed.status();
  REHYAT_RETURN_IF_ERROR(detail::check_workspace(workspace, *needed, slots));

  detail::Arena arena(workspace);
  const detail::ChunkStep step(config_, chunk, memory, detail::plan(config_, kernels, slots, arena), attends,
                               commits);
  detail::start_reports(step.plan.call, slots);
  step.run(executor);
  if (attends) detail::merge_reports(step.plan.call, slots, chunk.report);
  if (commits) step.count_frames();
  return {};
}

inline void RecurrentState::reset() {
  for (std::int64_t b = 0; b < config_.batch; ++b) static_cast<void>(reset(b));
}

inline Status RecurrentState::reset(std::int64_t batch_entry) {
  if (batch_entry < 0 || batch_entry >= config_.batch) {
    return detail::refuse("batch_entry", batch_entry, "0 to config.batch - 1");
  }
  const detail::StateMemory memory(config_, data_);
  std::memset(memory.entry(batch_entry), 0, static_cast<std::size_t>(memory.layout().entry) * sizeof(float));
  return {};
}

inline Status RecurrentState::copy_entry(std::int64_t to, const RecurrentState& other, std::int64_t from) {
  if (!detail::same_geometry(config_, other.config_)) {
    return Status::error(StatusCode::invalid_argument,
                         "other has a different geometry, expected this state's");
  }
  if (to < 0 || to >= config_.batch) return detail::refuse("to", to, "0 to config.batch - 1");
  if (from < 0 || from >= other.config_.batch)
    return detail::refuse("from", from, "0 to other.config.batch - 1");
  const detail::StateMemory memory(config_, data_), source(other.config_, other.data_);
  std::memmove(memory.entry(to), source.entry(from),
               static_cast<std::size_t>(memory.layout().entry) * sizeof(float));
  return {};
}

inline Status RecurrentState::copy_from(const RecurrentState& other) {
  if (other.config_.batch != config_.batch) {
    return detail::refuse("other.config.batch", other.config_.batch, "this state's batch");
  }
  for (std::int64_t b = 0; b < config_.batch; ++b) REHYAT_RETURN_IF_ERROR(copy_entry(b, other, b));
  return {};
}

inline std::int64_t RecurrentState::frames_seen(std::int64_t batch_entry) const {
  return detail::StateMemory(config_, data_).header(batch_entry).frames_seen;
}

inline bool RecurrentState::finished(std::int64_t batch_entry) const {
  return detail::StateMemory(config_, data_).header(batch_entry).finished != 0;
}

}  // namespace rehyat

#include "rehyat/detail/recurrent_parts.hpp"
