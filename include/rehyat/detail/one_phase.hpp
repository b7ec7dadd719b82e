#pragma once
// Operators as one flat list of tasks: all phases of a batch entry and kv head, by one thread.

#include <cstdint>
#include <new>
#include <span>

#include "rehyat/detail/check.hpp"
#include "rehyat/detail/one_shot.hpp"
#include "rehyat/detail/problem.hpp"
#include "rehyat/detail/recurrent_state.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/recurrent.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::detail {

/// One of a host's threads.
struct HostThread {
  int ith = 0, nth = 1;
};

inline Status check_threads(int nth) { return check_at_least("nth", nth, 1); }

inline Status check_thread(const HostThread& thread) {
  REHYAT_RETURN_IF_ERROR(check_threads(thread.nth));
  if (thread.ith >= 0 && thread.ith < thread.nth) return {};
  return refuse("ith", thread.ith, "0 to nth - 1");
}

inline Status check_no_shared_report(const DenominatorReport* report) {
  if (report == nullptr) return {};
  return Status::error(StatusCode::invalid_argument,
                       "report is set, expected null: each thread brings its own");
}

/// Threads that have something to do.
inline int busy_threads(int nth, std::int64_t tasks) { return tasks < nth ? static_cast<int>(tasks) : nth; }

/// Heads [first, first + count) of batch entry b.
template <class View>
View heads_of(View view, std::int64_t b, std::int64_t first, std::int64_t count) {
  if (view.data != nullptr) view.data = view.row(b, 0, first);
  view.batch = 1;
  view.heads = count;
  return view;
}

/// The part of a checked problem that is kv head g of batch entry b, with its query heads.
inline Problem task_of(const Problem& p, std::int64_t b, std::int64_t g) {
  Problem task = p;
  const std::int64_t heads = p.q.heads / p.k.heads;
  const auto query_heads = [&](auto& view) { view = heads_of(view, b, g * heads, heads); };
  const auto kv_head = [&](auto& view) { view = heads_of(view, b, g, 1); };
  query_heads(task.q), query_heads(task.out);
  kv_head(task.k), kv_head(task.v);
  query_heads(task.statistics.row_max), query_heads(task.statistics.row_sum);
  query_heads(task.statistics.linear_denominator);
  if (p.has_linear()) {  // without linear keys these are not checked
    task.phi_q = p.phi_q.of_heads(p.q.dim, g * heads, heads);
    task.phi_k = p.phi_k.of_heads(p.q.dim, g, 1);
    query_heads(task.given.q), query_heads(task.given.q_denominator);
    kv_head(task.given.k), kv_head(task.given.k_denominator);
  }
  const auto entry = [b](std::span<const std::int64_t>& counts) {
    if (!counts.empty()) counts = counts.subspan(static_cast<std::size_t>(b), 1);
  };
  entry(task.query_counts), entry(task.key_counts);
  task.one_thread = true;
  return task;
}

/// Cuts the part of thread ith from the workspace of all, which serves every task in turn.
inline Arena thread_arena(const Problem& p, const Kernels& kernels, const HostThread& thread, Arena& arena) {
  Arena measure;
  plan(task_of(p, 0, 0), kernels, 1, measure);
  constexpr std::int64_t float_size = sizeof(float);
  const std::int64_t floats = measure.overflows() ? INT64_MAX : measure.used() / float_size;
  const std::int64_t threads = busy_threads(thread.nth, p.q.batch * p.k.heads);
  float* parts = arena.floats(threads, floats);
  if (parts == nullptr || thread.ith >= threads) return {};
  return Arena({parts + thread.ith * floats, static_cast<std::size_t>(measure.used())});
}

inline Result<std::size_t> one_phase_workspace_size(const Problem& p, int nth, const Kernels& kernels) {
  REHYAT_RETURN_IF_ERROR(check(p));
  REHYAT_RETURN_IF_ERROR(check_arithmetic(p.arithmetic, kernels));
  REHYAT_RETURN_IF_ERROR(check_threads(nth));
  Arena measure;
  thread_arena(p, kernels, {.ith = 0, .nth = nth}, measure);
  if (measure.overflows()) return refuse("q.tokens", p.q.tokens, "a workspace whose size does not overflow");
  return measure.size();
}

inline Status one_phase(const Problem& p, Workspace workspace, const HostThread& thread,
                        DenominatorReport* report, const Kernels& kernels) {
  REHYAT_RETURN_IF_ERROR(check_thread(thread));
  REHYAT_RETURN_IF_ERROR(check_no_shared_report(p.report));
  const Result<std::size_t> needed = one_phase_workspace_size(p, thread.nth, kernels);
  if (!needed.ok()) return needed.status();
  REHYAT_RETURN_IF_ERROR(check_data(p));
  REHYAT_RETURN_IF_ERROR(check_workspace(workspace, *needed, thread.nth));
  Arena whole(workspace);
  const Arena mine = thread_arena(p, kernels, thread, whole);
  const std::int64_t tasks = p.q.batch * p.k.heads;
  DenominatorReport met;
  for (std::int64_t i = thread.ith; i < tasks; i += thread.nth) {
    Problem task = task_of(p, i / p.k.heads, i % p.k.heads);
    DenominatorReport met_here;
    task.report = &met_here;
    Arena arena = mine;
    SerialExecutor executor;
    run(plan(task, kernels, 1, arena), 1, executor);
    merge(met, met_here);
  }
  if (report != nullptr) *report = met;
  return {};
}

/// Runs of each phase, a grid of `pairs` (entries x kv heads) x others, what belongs to one pair.
struct OnePair {
  std::int64_t pair, pairs;
  int slot;
  int slots() const { return slot + 1; }
  void run(std::int64_t count, TaskRef task) const {
    const std::int64_t others = count / pairs;
    for (std::int64_t i = pair * others; i < (pair + 1) * others; ++i) task(i, slot);
  }
};

/// RecurrentState's members in one phase: the ordinary plan of a step, its slots being the host's threads.
class StateInOnePhase {
 public:
  using Operation = RecurrentState::Operation;

  static Result<std::size_t> workspace_size(const RecurrentConfig& c, int nth, const Kernels& kernels) {
    REHYAT_RETURN_IF_ERROR(check(c));
    REHYAT_RETURN_IF_ERROR(check_threads(nth));
    return RecurrentState::workspace_size(c, busy_threads(nth, c.batch * c.kv_heads), kernels);
  }

  static Status advance(const RecurrentState& state, const RecurrentChunk& chunk, Operation operation,
                        Workspace workspace, const HostThread& thread, DenominatorReport* report,
                        const Kernels& kernels) {
    const RecurrentConfig& c = state.config_;
    const bool attends = operation != Operation::commit, commits = operation != Operation::peek;
    const StateMemory memory(c, state.data_);
    REHYAT_RETURN_IF_ERROR(check_thread(thread));
    REHYAT_RETURN_IF_ERROR(check_no_shared_report(chunk.report));
    REHYAT_RETURN_IF_ERROR(check(c, chunk, memory, attends));
    const Result<std::size_t> needed = workspace_size(c, thread.nth, kernels);
    if (!needed.ok()) return needed.status();
    REHYAT_RETURN_IF_ERROR(check_workspace(workspace, *needed, thread.nth));

    Arena arena(workspace);
    const std::int64_t pairs = c.batch * c.kv_heads;
    const ChunkStep step(c, chunk, memory, plan(c, kernels, busy_threads(thread.nth, pairs), arena), attends,
                         commits);
    DenominatorReport met;
    if (thread.ith < pairs) {
      DenominatorReport* const reported = step.plan.call.reports + thread.ith;
      ::new (static_cast<void*>(reported)) DenominatorReport{};
      for (std::int64_t pair = thread.ith; pair < pairs; pair += thread.nth) {
        OnePair executor{pair, pairs, thread.ith};
        step.run(executor, true);
      }
      met = *reported;
    }
    if (report != nullptr) *report = met;
    return {};
  }

  static Status finish(const RecurrentState& state, const RecurrentChunk& chunk) {
    const StateMemory memory(state.config_, state.data_);
    REHYAT_RETURN_IF_ERROR(check(state.config_, chunk, memory, false));
    ChunkStep(state.config_, chunk, memory, {}, false, true).count_frames();
    return {};
  }
};

}  // namespace rehyat::detail
