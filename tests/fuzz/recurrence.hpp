#pragma once
// A recurrence fed in any order that is allowed, and some that are not: entries at their own pace, peeks,
// commits, copies, resets, wrong chunks. Whatever it writes has to be what one shot wrote, to the bit.

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "byte_reader.hpp"
#include "operator_memory.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/recurrent.hpp"
#include "spoil.hpp"
#include "support/test_clip.hpp"

namespace rehyat::fuzz {

/// The recurrence that computes what a causal operator does.
template <class P>
RecurrentConfig config_of(const P& p, const InputTypes& types) {
  RecurrentConfig c{.schedule = RecurrentSchedule::linear,
                    .batch = p.q.batch,
                    .heads = p.q.heads,
                    .kv_heads = p.k.heads,
                    .head_dim = p.q.dim,
                    .value_dim = p.v.dim,
                    .chunking = p.chunking,
                    .phi_q = p.phi_q,
                    .phi_k = p.phi_k,
                    .separate_denominator = p.given.q_denominator.data != nullptr,
                    .denominator_epsilon = p.denominator_epsilon,
                    .denominator_floor = p.denominator_floor};
  if constexpr (requires { p.stabilizer; }) {
    c.schedule = RecurrentSchedule::hybrid;
    c.stabilizer = p.stabilizer;
    c.scale = p.scale;
    c.arithmetic = p.arithmetic;
  }
  if (types.of[1] == types.of[2]) c.tail_type = types.of[1];  // k and v: the tail rounds nothing
  return c;
}

/// A state in memory of exactly its size.
class ExactState {
 public:
  explicit ExactState(const RecurrentConfig& config)
      : memory_(*RecurrentState::size_bytes(config)),
        state_(*RecurrentState::create(config, memory_.data(), memory_.size())) {}
  RecurrentState& get() { return state_; }
  std::vector<char> bytes() const { return memory_.copy(); }

 private:
  ExactBytes memory_;
  RecurrentState state_;
};

template <class P>
class Recurrence {
 public:
  /// `clip` has packed views of values that `types` hold, `expected` is what one shot made of it with the
  /// same kernels.
  Recurrence(ByteReader& bytes, const P& clip, const InputTypes& types, const support::Written& expected,
             ExecutorRef executor, const Kernels& kernels)
      : bytes_(bytes),
        clip_(clip),
        types_(types),
        expected_(expected),
        executor_(executor),
        kernels_(kernels),
        config_(config_of(clip, types)),
        workspace_(*RecurrentState::workspace_size(config_, executor.slots(), kernels)),
        first_(config_),
        second_(config_),
        at_(static_cast<std::size_t>(clip.q.batch)) {}

  void run() {
    constexpr int most_calls = 24;
    for (int call = 0; call < most_calls; ++call) {
      switch (bytes_.integer(0, 9)) {
        case 5:
          peek();
          break;
        case 6:
          advance(true);
          break;
        case 7:
          copy();
          break;
        case 8:
          reset();
          break;
        case 9:
          spoiled();
          break;
        default:
          if (!advance(false)) return;
      }
    }
  }

 private:
  /// A chunk with the next frames of each entry that takes part; the others' tokens are NaN.
  struct Chunk {
    OperatorMemory memory = {};
    std::vector<std::int64_t> frames = {};
    std::vector<std::vector<float>> values = {};
    RecurrentChunk views = {};

    bool operator()(std::int64_t b, std::int64_t token) const {  // whether it is written
      return token < frames[static_cast<std::size_t>(b)] * tokens_per_frame;
    }
    std::int64_t tokens_per_frame = 1;
  };

  std::int64_t frames_left(std::int64_t b) const {
    const detail::Problem problem = detail::problem_of(clip_);
    return problem.units_of_queries(b) - at_[static_cast<std::size_t>(b)];
  }

  /// Nothing if no entry takes part.
  bool gather(Chunk& chunk) {
    chunk.tokens_per_frame = clip_.chunking.tokens_per_frame;
    std::int64_t most = 0;
    for (std::int64_t b = 0; b < clip_.q.batch; ++b) {
      const std::int64_t next = std::min(frames_left(b), clip_.chunking.chunk_frames);
      chunk.frames.push_back(bytes_.one_in(4) ? 0 : next);
      most = std::max(most, chunk.frames.back());
    }
    if (most == 0) return false;
    RecurrentChunk packed;
    packed.given = clip_.given, packed.q = clip_.q, packed.k = clip_.k, packed.v = clip_.v;
    for_each_input(packed, [&](InputView& view) { gather(chunk, view, most * chunk.tokens_per_frame); });
    const bool widened = bytes_.coin();  // in float32 the values are the same
    chunk.views = chunk.memory.lay_out(bytes_, packed, widened ? InputTypes{} : types_, true);
    const bool all_alike =
        std::all_of(chunk.frames.begin(), chunk.frames.end(), [&](auto f) { return f == most; });
    if (!all_alike || bytes_.coin()) chunk.views.frames = chunk.memory.exact(chunk.frames);
    return true;
  }

  void gather(Chunk& chunk, InputView& view, std::int64_t tokens) {
    if (view.data == nullptr) return;
    const std::int64_t row = view.heads * view.dim;
    std::vector<float>& values = chunk.values.emplace_back(
        static_cast<std::size_t>(view.batch * tokens * row), std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t b = 0; b < view.batch; ++b) {
      const std::int64_t first = at_[static_cast<std::size_t>(b)] * chunk.tokens_per_frame;
      const std::int64_t count = chunk.frames[static_cast<std::size_t>(b)] * chunk.tokens_per_frame;
      std::copy_n(static_cast<const float*>(view.row(b, first, 0)), count * row,
                  values.data() + b * tokens * row);
    }
    view.tokens = tokens;
    view = packed_view(values, view);
  }

  /// What was written is what one shot wrote for the same tokens, and nothing else was written.
  void expect_written(const Chunk& chunk) {
    EXPECT_TRUE(chunk.memory.outputs_unchanged_outside(chunk.views, chunk));
    EXPECT_TRUE(chunk.memory.inputs_unchanged());
    const auto first = [&](std::int64_t b) {
      return at_[static_cast<std::size_t>(b)] * chunk.tokens_per_frame;
    };
    const auto expect_same = [&](const auto& view, const std::vector<float>& all) {
      expect_rows(view, all, clip_.q.tokens, chunk, first);
    };
    expect_same(chunk.views.out, expected_.out);
    expect_same(chunk.views.statistics.row_max, expected_.row_max);
    expect_same(chunk.views.statistics.row_sum, expected_.row_sum);
    expect_same(chunk.views.statistics.linear_denominator, expected_.linear_denominator);
  }

  /// A step, or a commit alone. False if there is nothing left to feed.
  bool advance(bool only_commit) {
    Chunk chunk;
    if (!gather(chunk)) return false;
    if (only_commit) {
      const Status status = state_->get().commit(chunk.views, workspace_.workspace(), executor_, kernels_);
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_TRUE(chunk.memory.outputs_unchanged());
    } else {
      const Status status = state_->get().step(chunk.views, workspace_.workspace(), executor_, kernels_);
      EXPECT_TRUE(status.ok()) << status.message();
      expect_written(chunk);
    }
    for (std::int64_t b = 0; b < clip_.q.batch; ++b) {
      const std::size_t i = static_cast<std::size_t>(b);
      at_[i] += chunk.frames[i];
      EXPECT_EQ(state_->get().frames_seen(b), at_[i]);
      EXPECT_EQ(state_->get().finished(b), at_[i] % clip_.chunking.chunk_frames != 0);
    }
    return true;
  }

  void peek() {
    Chunk chunk;
    if (!gather(chunk)) return;
    const std::vector<char> before = state_->bytes();
    const Status status = state_->get().peek(chunk.views, workspace_.workspace(), executor_, kernels_);
    EXPECT_TRUE(status.ok()) << status.message();
    expect_written(chunk);
    EXPECT_EQ(before, state_->bytes());
  }

  /// The state goes on as its copy.
  void copy() {
    if (bytes_.coin()) {
      EXPECT_TRUE(other_->get().copy_from(state_->get()).ok());
    } else {
      for (std::int64_t b = 0; b < clip_.q.batch; ++b)
        EXPECT_TRUE(other_->get().copy_entry(b, state_->get(), b).ok());
    }
    EXPECT_EQ(state_->bytes(), other_->bytes());
    std::swap(state_, other_);
  }

  void reset() {
    const std::int64_t b = bytes_.integer(-1, clip_.q.batch);
    const bool exists = b >= 0 && b < clip_.q.batch;
    EXPECT_EQ(state_->get().reset(b).ok(), exists);
    if (exists) at_[static_cast<std::size_t>(b)] = 0;
  }

  /// Something is wrong with a chunk, or it comes after the last. On a copy, as it may be valid all the same.
  void spoiled() {
    Chunk chunk;
    if (!gather(chunk)) return;
    spoil(bytes_, chunk.memory, chunk.views);
    EXPECT_TRUE(other_->get().copy_from(state_->get()).ok());
    const std::vector<char> before = other_->bytes();
    const detail::StateMemory memory(config_, const_cast<char*>(before.data()));
    if (!chunk.memory.holds(chunk.views) && detail::check(config_, chunk.views, memory, true).ok())
      return;  // other memory would be valid
    const Status status = other_->get().step(chunk.views, workspace_.workspace(), executor_, kernels_);
    EXPECT_TRUE(chunk.memory.inputs_unchanged());
    if (status.ok()) return;
    EXPECT_TRUE(chunk.memory.outputs_unchanged()) << status.message();
    EXPECT_EQ(before, other_->bytes()) << status.message();
  }

  ByteReader& bytes_;
  const P& clip_;
  const InputTypes& types_;
  const support::Written& expected_;
  ExecutorRef executor_;
  const Kernels& kernels_;
  RecurrentConfig config_;
  ExactBytes workspace_;
  ExactState first_, second_;
  ExactState* state_ = &first_;
  ExactState* other_ = &second_;
  std::vector<std::int64_t> at_;  ///< frames that each entry has seen
};

}  // namespace rehyat::fuzz
