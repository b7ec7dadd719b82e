#pragma once
// The one-shot operators: parameters in, output and reports out. Check, plan and tasks are in detail/.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "rehyat/detail/one_shot.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat {

// Shared by all operators:
// - Shapes: q [B, Nq, H, D], k [B, Nk, Hkv, D], v [B, Nk, Hkv, Dv], out [B, Nq, H, Dv]; Hkv divides H and
//   query head h reads kv head h / (H / Hkv); D and Dv from 1 to 512. Any outer strides, in elements; inner
//   stride 1.
// - Elements: q, k, v, out and given features may each be float, bfloat16 or float16 (element.hpp, which also
//   says how a host's own 2-byte types are made known). Arithmetic does not follow them: the result is, to
//   the bit, what the same values as float32 give, rounded once to nearest even where out is narrower.
//   Statistics are float.
// - Arithmetic: float32, unless `arithmetic` names another mode. Kernels that lack it
//   refuse (StatusCode::unsupported_isa, before anything is written); arithmetic.hpp has those with all.
// - Aliasing: out and statistics must not overlap each other, nor any input; out may not overlap itself.
// - scale defaults to 1 / sqrt(D).
// - Errors: everything is checked before anything is computed; on an error nothing has been written.
// - Determinism: for one instruction set, in the default floating-point environment, outputs are equal to the
//   bit for every executor, number of slots, batch composition, alignment, content of workspace and outputs
//   beforehand, and for one shot and recurrence. Between instruction sets, and where the sums of a clip's
//   parts were added up (add_sums), for logits up to 20 and non-negative features: relative L2 4e-6, and 1e-5
//   of the largest output for each element.
// - Environment: control bits are left as found; exception flags may be raised, and unmasked exceptions are
//   not supported. What counts is the environment of the thread that runs a task; ThreadPool's threads have
//   that of the thread that made it. Another rounding mode: within 1e-4 of the largest output (with float16
//   outputs on ARM, which are then rounded that way, as much as a unit in their last place). FTZ and DAZ:
//   within 1e-6, subnormals counting as 0. The rules for NaN hold.
//
// Numbers at the edge                row_max                    none
//   logits +-1e4                     finite                     finite, also with dead features
//   all logits equal                 every weight exactly 1, row_sum is the count (both)
//   a score of -inf (overflow)       weight 0 (both); all of a row's: NaN, counted in nan_count
//   a score of +inf (overflow)       that row NaN, no other (both)
//   scale * log2(e) * q overflows    the row as if q were infinite, whatever the score would be (both)
//   a sum of weight * v overflows    that channel not finite, no other (both): division comes last
//   linear sums tiny or huge         taken as they are          joined by exponents, subnormals included
//   denominator negative             divided by as it is (both)
//   x / 0 with x != 0                +-inf (both); report.smallest_magnitude 0
//   0 / 0 (dead linear attention)    NaN (both); the report has a 0, nan_count counts NaN denominators only;
//                                    with epsilon or floor the output is 0
//   epsilon, then floor              y = num / (den + epsilon), |den + epsilon| at least floor, sign kept;
//                                    refused with none; the report is of before both
//   subnormal q, k, v                not flushed; outputs to a few 2^-149
//   NaN, infinity                    reach exactly what depends on them; NaN of any sign and payload,
//                                    signalling or not, gives some NaN: which one is not promised
//   float16 out                      beyond 65504 infinity; subnormals kept
//
// With Arithmetic::int8 and float16
// - Scores: off by about their row's largest |q_d| and their key's largest |k_d - centre_d| over 127 each
//   (int8), not by a share of themselves: real arrays with logits of 18 cost 1e-2 in relative L2, scaled to
//   logits of 60 up to 2e-2, noise with such logits about 1e-1. float16, with 11 bits, and sums of products
//   and weights rounded to 11 bits: 4e-3, 5e-3 and 3e-2. row_max and row_sum are of these scores. All logits
//   equal: every weight exactly 1, as above. A weight of float16 is never below 1e-6 of the largest among its
//   block of 128 keys.
// - Features: off by a share of their token's largest hidden unit, sums by one of their channel's range; a
//   wide map of sharp features (512, one for each place) costs 1.3e-2 (int8) or 2e-3 of what is linear. gelu
//   and softplus are within 2e-4 and, relatively, 7e-5. Denominators are float32's of these features.
// - Range: all that is multiplied is scaled to a largest magnitude that its type holds: no finite input
//   overflows, but for a difference k - centre (|k| beyond 1.7e38): such a key is infinite. q (times scale),
//   k less its range's centre, and v count as 0 where their row's, or for v their channel's and key block's
//   (of float16 k: their key block's), largest magnitude is below 2^-100.
// - Determinism, executors, one shot and recurrence: as above. Between instruction sets: as far as a few
//   bytes that round the other way, relative L2 2e-3 for logits up to 20.
// - NaN and infinity reach what they reach with float32; beside a channel of v that has them, others of the
//   same rows may be rounded another way where there are linear keys.

/// Exact softmax attention over all keys, without ever storing Nq x Nk scores: y_i = sum_j softmax(scale
/// <q_i, k_j>) v_j. Nq and Nk may differ (cross-attention). `query_tokens` and `key_tokens`, if not empty,
/// hold the valid tokens of each batch entry (0 to Nq; 1 to Nk, or 0 where the entry has no query); what lies
/// behind them is neither read nor written.
struct SoftmaxAttention {
  InputView q = {}, k = {}, v = {};
  OutputView out = {};
  std::optional<float> scale = std::nullopt;
  std::span<const std::int64_t> query_tokens = {};
  std::span<const std::int64_t> key_tokens = {};
  Arithmetic arithmetic = Arithmetic::float32;
  QueryStatistics statistics = {};
  DenominatorReport* report = nullptr;
};

/// Chunked hybrid attention (ReHyAt, eq. 5 to 9): softmax inside chunks and their overlap, linear attention
/// to the rest, normalised together. N = T * tokens_per_frame tokens in frame-major order. `frames`, if not
/// empty, holds the valid frames of each batch entry (0 to T).
struct HybridAttention {
  InputView q = {}, k = {}, v = {};
  OutputView out = {};
  Chunking chunking = {};
  Direction direction = Direction::causal;
  FeatureMap phi_q = {}, phi_k = {};
  GivenFeatures given = {};
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<float> scale = std::nullopt;
  std::span<const std::int64_t> frames = {};
  Arithmetic arithmetic = Arithmetic::float32;
  float denominator_epsilon = 0;  ///< added to every denominator; row_max only
  float denominator_floor = 0;    ///< least magnitude of a denominator, sign kept; row_max only
  QueryStatistics statistics = {};
  DenominatorReport* report = nullptr;
};

/// Linear attention by chunk: y_i = phi_q(q_i) . A / phi_q(q_i) . z. Causal: over the frames up to the end of
/// the query's own chunk (SANA-Video's block-causal form); bidirectional: over the clip (Katharopoulos et
/// al., eq. 6). chunking.overlap_frames must be 0.
struct LinearAttention {
  InputView q = {}, k = {}, v = {};
  OutputView out = {};
  Chunking chunking = {.tokens_per_frame = 1, .chunk_frames = 1, .overlap_frames = 0};
  Direction direction = Direction::causal;
  FeatureMap phi_q = {}, phi_k = {};
  GivenFeatures given = {};
  std::span<const std::int64_t> frames = {};
  float denominator_epsilon = 0;
  float denominator_floor = 0;
  QueryStatistics statistics = {};
  DenominatorReport* report = nullptr;
};

/// Uniform hybrid attention (Attention Surgery, section 3): softmax over every `rate`-th token from token 0
/// on, linear attention over the others, for every query. `tokens`, if not empty: valid tokens of each batch
/// entry.
struct UniformAttention {
  InputView q = {}, k = {}, v = {};
  OutputView out = {};
  std::int64_t rate = 2;  ///< R >= 1; 1 is exact softmax
  FeatureMap phi_q = {}, phi_k = {};
  GivenFeatures given = {};
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<float> scale = std::nullopt;
  std::span<const std::int64_t> tokens = {};
  Arithmetic arithmetic = Arithmetic::float32;
  float denominator_epsilon = 0;
  float denominator_floor = 0;
  QueryStatistics statistics = {};
  DenominatorReport* report = nullptr;
};

namespace detail {
inline Problem problem_of(const SoftmaxAttention& p) {
  return {.schedule = Schedule::softmax,
          .q = p.q,
          .k = p.k,
          .v = p.v,
          .out = p.out,
          .scale = p.scale,
          .arithmetic = p.arithmetic,
          .query_counts = p.query_tokens,
          .key_counts = p.key_tokens,
          .statistics = p.statistics,
          .report = p.report};
}

/// What the operators with linear keys have in common.
template <class P>
Problem linear_problem_of(const P& p, Schedule schedule, std::span<const std::int64_t> counts) {
  return {.schedule = schedule,
          .q = p.q,
          .k = p.k,
          .v = p.v,
          .out = p.out,
          .phi_q = p.phi_q,
          .phi_k = p.phi_k,
          .given = p.given,
          .denominator_epsilon = p.denominator_epsilon,
          .denominator_floor = p.denominator_floor,
          .query_counts = counts,
          .key_counts = counts,
          .statistics = p.statistics,
          .report = p.report};
}

inline Problem problem_of(const HybridAttention& p) {
  Problem problem = linear_problem_of(p, Schedule::hybrid, p.frames);
  problem.direction = p.direction;
  problem.chunking = p.chunking;
  problem.stabilizer = p.stabilizer;
  problem.scale = p.scale;
  problem.arithmetic = p.arithmetic;
  return problem;
}

inline Problem problem_of(const LinearAttention& p) {
  Problem problem = linear_problem_of(p, Schedule::linear, p.frames);
  problem.direction = p.direction;
  problem.chunking = p.chunking;
  return problem;
}

inline Problem problem_of(const UniformAttention& p) {
  Problem problem = linear_problem_of(p, Schedule::uniform, p.tokens);
  problem.rate = p.rate;
  problem.stabilizer = p.stabilizer;
  problem.scale = p.scale;
  problem.arithmetic = p.arithmetic;
  return problem;
}
}  // namespace detail

/// Bytes of workspace that an operator needs for the given number of executor slots (>= 1), any alignment; or
/// why its parameters are refused. The tensors' memory need not be there yet: q, k, v, out and given features
/// may have null data, as where a graph is planned. Causal hybrid and linear attention: independent of the
/// clip's length. Bidirectional hybrid: grows by 3 sums (feature_dim * value_dim floats) per chunk, batch
/// entry and kv head.
template <class P>
Result<std::size_t> workspace_size(const P& parameters, int slots,
                                   const Kernels& kernels = default_kernels()) {
  return detail::workspace_size(detail::problem_of(parameters), slots, kernels);
}

/// Runs an operator. `workspace` holds workspace_size(parameters, executor.slots(), kernels) bytes. Nothing
/// is allocated and no thread is started; the tasks run on `executor`.
template <Executor E>
Status softmax_attention(const SoftmaxAttention& parameters, Workspace workspace, E& executor,
                         const Kernels& kernels = default_kernels()) {
  return detail::run(detail::problem_of(parameters), workspace, executor, kernels);
}

/// See softmax_attention.
template <Executor E>
Status hybrid_attention(const HybridAttention& parameters, Workspace workspace, E& executor,
                        const Kernels& kernels = default_kernels()) {
  return detail::run(detail::problem_of(parameters), workspace, executor, kernels);
}

/// See softmax_attention.
template <Executor E>
Status linear_attention(const LinearAttention& parameters, Workspace workspace, E& executor,
                        const Kernels& kernels = default_kernels()) {
  return detail::run(detail::problem_of(parameters), workspace, executor, kernels);
}

/// See softmax_attention.
template <Executor E>
Status uniform_attention(const UniformAttention& parameters, Workspace workspace, E& executor,
                         const Kernels& kernels = default_kernels()) {
  return detail::run(detail::problem_of(parameters), workspace, executor, kernels);
}

}  // namespace rehyat
