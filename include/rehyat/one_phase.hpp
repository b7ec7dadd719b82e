#pragma once

/// @file rehyat/one_phase.hpp
/// Operators for hosts whose threads all call the same function at once, as ggml does with (ith, nth). There
/// is no barrier inside: a task is all the work of one batch entry and kv head, thread `ith` does tasks ith,
/// ith + nth and so on, and no memory is written by two threads. The bits are those of the ordinary calls.

#include <cstddef>
#include <cstdint>

#include "rehyat/attention.hpp"
#include "rehyat/detail/one_phase.hpp"
#include "rehyat/recurrent.hpp"

namespace rehyat {

// Shared by all:
// - Call: `nth` >= 1 threads make the call once each, `ith` being 0 to nth - 1, all other arguments the same,
//   all at once, one after another or anything between. The results are complete when all have returned.
// - Parallelism: one_phase_tasks(). More threads than that find nothing to do; an executor's operators
//   (attention.hpp) cut finer, which counts for few heads or where nth does not divide the tasks.
// - Workspace: one for all threads, of one_phase_workspace_size() bytes and any alignment.
// - Report: the parameters' `report` must be null, as it would belong to all. Each thread may bring one of
//   its own, or null, for what it met; merge() adds them up when all have returned.
// - Errors: as of the ordinary call. Every thread checks everything and all come to the same Status; nothing
//   has been written then.

/// Tasks there are: batch entries times kv heads. Nothing is checked.
template <class P>
std::int64_t one_phase_tasks(const P& parameters) {
  return parameters.q.batch * parameters.k.heads;
}

/// Bytes of workspace for nth threads, or why the parameters are refused.
template <class P>
Result<std::size_t> one_phase_workspace_size(const P& parameters, int nth,
                                             const Kernels& kernels = default_kernels()) {
  return detail::one_phase_workspace_size(detail::problem_of(parameters), nth, kernels);
}

/// Thread ith's part of softmax_attention(), hybrid_attention(), linear_attention() or uniform_attention():
/// the type of the parameters says which.
template <class P>
Status one_phase(const P& parameters, Workspace workspace, int ith, int nth,
                 DenominatorReport* report = nullptr, const Kernels& kernels = default_kernels()) {
  return detail::one_phase(detail::problem_of(parameters), workspace, {ith, nth}, report, kernels);
}

/// See one_phase_tasks above.
inline std::int64_t one_phase_tasks(const RecurrentConfig& config) { return config.batch * config.kv_heads; }

/// Bytes of workspace for nth threads that peek, commit or step.
inline Result<std::size_t> one_phase_workspace_size(const RecurrentConfig& config, int nth,
                                                    const Kernels& kernels = default_kernels()) {
  return detail::StateInOnePhase::workspace_size(config, nth, kernels);
}

/// Thread ith's part of state.peek().
inline Status one_phase_peek(const RecurrentState& state, const RecurrentChunk& chunk, Workspace workspace,
                             int ith, int nth, DenominatorReport* report = nullptr,
                             const Kernels& kernels = default_kernels()) {
  using Operation = detail::StateInOnePhase::Operation;
  return detail::StateInOnePhase::advance(state, chunk, Operation::peek, workspace, {ith, nth}, report,
                                          kernels);
}

/// Thread ith's part of state.commit(). When all threads have returned, one of them calls one_phase_finish():
/// until then the state is good for nothing else.
inline Status one_phase_commit(RecurrentState& state, const RecurrentChunk& chunk, Workspace workspace,
                               int ith, int nth, const Kernels& kernels = default_kernels()) {
  using Operation = detail::StateInOnePhase::Operation;
  return detail::StateInOnePhase::advance(state, chunk, Operation::commit, workspace, {ith, nth}, nullptr,
                                          kernels);
}

/// Thread ith's part of state.step(). One call of one_phase_finish() follows, as after one_phase_commit().
inline Status one_phase_step(RecurrentState& state, const RecurrentChunk& chunk, Workspace workspace, int ith,
                             int nth, DenominatorReport* report = nullptr,
                             const Kernels& kernels = default_kernels()) {
  using Operation = detail::StateInOnePhase::Operation;
  return detail::StateInOnePhase::advance(state, chunk, Operation::step, workspace, {ith, nth}, report,
                                          kernels);
}

/// Counts the chunk's frames as seen: once for each chunk that the threads have committed or stepped (with
/// success), when all have returned and before the state is used for anything else. In ggml: thread 0 of the
/// next operation that the graph orders behind this one, or the caller between two graphs.
inline Status one_phase_finish(RecurrentState& state, const RecurrentChunk& chunk) {
  return detail::StateInOnePhase::finish(state, chunk);
}

}  // namespace rehyat
