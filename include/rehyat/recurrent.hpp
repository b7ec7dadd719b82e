#pragma once
// The recurrent form: a state of constant size that chunks of a video are attended with and committed to.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "rehyat/executor.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat {
namespace detail {
class StateAccess;
class StateInOnePhase;
}  // namespace detail

/// What a recurrence computes: causal hybrid attention, or causal linear attention by chunk.
enum class RecurrentSchedule : std::uint8_t { hybrid, linear };

/// Everything that stays the same from chunk to chunk. Fields as in HybridAttention and LinearAttention.
struct RecurrentConfig {
  RecurrentSchedule schedule = RecurrentSchedule::hybrid;
  std::int64_t batch = 1;
  std::int64_t heads = 1;
  std::int64_t kv_heads = 1;
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;
  Chunking chunking = {};
  /// How the tail holds keys and values. With their own type, or float32, the recurrence equals one shot to
  /// the bit; a narrower one than theirs rounds what enters the tail (to nearest even) and costs that much.
  ElementType tail_type = ElementType::float32;
  FeatureMap phi_q = {}, phi_k = {};
  bool separate_denominator = false;  ///< with FeatureMap::given: chunks bring the denominator's features too
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<float> scale = std::nullopt;
  /// No part of the state, which is the same for all.
  Arithmetic arithmetic = Arithmetic::float32;
  float denominator_epsilon = 0;
  float denominator_floor = 0;
};

/// One chunk of every batch entry: q, k, v, out hold at most chunk_frames whole frames of tokens. `frames`,
/// if not empty, holds each entry's frames of this chunk; an entry with 0 frames sits this chunk out.
/// commit() reads k, v and the key features only; peek() and step() read all and write out.
struct RecurrentChunk {
  InputView q = {}, k = {}, v = {};
  OutputView out = {};
  GivenFeatures given = {};
  std::span<const std::int64_t> frames = {};
  QueryStatistics statistics = {};
  DenominatorReport* report = nullptr;
};

/// The state of a recurrence (ReHyAt, section 3.3; SPEC's key sets decide what is absorbed when): per batch
/// entry and kv head the sums A and z over the frames that left the overlap, and the tail, the keys and
/// values of the last min(overlap_frames, frames_seen) frames. A handle over the caller's bytes: copying the
/// handle shares the state, copy_from() copies it. The result of stepping through a clip equals causal
/// hybrid_attention() (or linear_attention()) of the whole clip to the bit.
class RecurrentState {
 public:
  /// Bytes of a state, known beforehand and constant: no chunk changes it, nor does the instruction set.
  static Result<std::size_t> size_bytes(const RecurrentConfig& config);

  /// Lays an empty state over `size` >= size_bytes(config) bytes at `data` (aligned to 8 bytes; to 64 for
  /// speed), which must outlive it, as the weights of phi must.
  static Result<RecurrentState> create(const RecurrentConfig& config, void* data, std::size_t size);

  /// Workspace that peek, commit and step need for the given number of executor slots.
  static Result<std::size_t> workspace_size(const RecurrentConfig& config, int slots,
                                            const Kernels& kernels = default_kernels());

  /// Writes the output of this chunk; the state stays as it is (its tensors may be a noisy version of what is
  /// committed later). Errors: shapes, or StatusCode::sequence_finished after a short chunk; nothing is
  /// written then.
  template <Executor E>
  Status peek(const RecurrentChunk& chunk, Workspace workspace, E& executor,
              const Kernels& kernels = default_kernels()) const {
    return advance(chunk, Operation::peek, workspace, executor, kernels);
  }

  /// Takes this chunk's keys and values into the state. An entry whose chunk is shorter than chunk_frames is
  /// finished: further chunks of it are refused until reset.
  template <Executor E>
  Status commit(const RecurrentChunk& chunk, Workspace workspace, E& executor,
                const Kernels& kernels = default_kernels()) {
    return advance(chunk, Operation::commit, workspace, executor, kernels);
  }

  /// peek, then commit, in one pass.
  template <Executor E>
  Status step(const RecurrentChunk& chunk, Workspace workspace, E& executor,
              const Kernels& kernels = default_kernels()) {
    return advance(chunk, Operation::step, workspace, executor, kernels);
  }

  /// Back to before the first frame: all batch entries, or one.
  void reset();
  Status reset(std::int64_t batch_entry);

  /// Copies all batch entries of a state of the same geometry, or one entry to one entry. The feature maps
  /// are not compared: they belong to the config of each state.
  Status copy_from(const RecurrentState& other);
  Status copy_entry(std::int64_t to, const RecurrentState& other, std::int64_t from);

  /// Lets all batch entries begin in the middle of a clip, as a process does that shares a clip with others:
  /// as if `frames_seen` frames, whole chunks of them, had been committed, but with sums of zero. Chunks that
  /// are then committed leave the sums over what they absorb alone, frames [s, s') with s = max(frames_seen -
  /// overlap_frames, 0) before and s' after; with the sums over [0, s) added (add_sums) the state is that of
  /// a run from frame 0. `overlap` holds k, v and given key features of the last min(overlap_frames,
  /// frames_seen) frames, which become the tail; nothing else of it is read, `frames` must be empty. Errors:
  /// shapes; the state is then what it was.
  Status start_at(std::int64_t frames_seen, const RecurrentChunk& overlap,
                  const Kernels& kernels = default_kernels());

  /// A and z of one batch entry and kv head over the frames absorbed since reset() or start_at(): n floats
  /// `hi`, then n floats `lo`, where hi[i] + lo[i] is a sum; [F, padded Dv] of A, then z, padded with zeros
  /// to multiples of 16. The same for every instruction set, so that processes can exchange them. Empty where
  /// there is no such entry or head. Views the state.
  std::span<float> sums(std::int64_t batch_entry, std::int64_t kv_head);
  std::span<const float> sums(std::int64_t batch_entry, std::int64_t kv_head) const;

  /// Frames committed to a batch entry (0 to batch - 1, not checked) since its reset, with those that
  /// start_at() counted.
  std::int64_t frames_seen(std::int64_t batch_entry = 0) const;
  /// True after a chunk shorter than chunk_frames was committed.
  bool finished(std::int64_t batch_entry = 0) const;

  const RecurrentConfig& config() const { return config_; }

 private:
  RecurrentState() = default;  // create() is the way in

  enum class Operation { peek, commit, step };
  Status advance(const RecurrentChunk& chunk, Operation operation, Workspace workspace, ExecutorRef executor,
                 const Kernels& kernels) const;

  friend class detail::StateAccess;      // rehyat/io/state_file.hpp
  friend class detail::StateInOnePhase;  // rehyat/one_phase.hpp

  RecurrentConfig config_;
  char* data_ = nullptr;
};

/// to += from, for RecurrentState::sums() over disjoint frames, or copies of them: what prefix sums over the
/// parts of a clip rest on. Compensated: off by at most 2^-46 of the magnitudes added, in whatever order, and
/// exact where either is zero. `from` and `to` may be the same, but must not overlap otherwise. Refused:
/// sizes that differ, or that are no state's.
inline Status add_sums(std::span<const float> from, std::span<float> to,
                       const Kernels& kernels = default_kernels());

}  // namespace rehyat

#include "rehyat/detail/recurrent.hpp"
