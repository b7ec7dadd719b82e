#include "attention.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

namespace rehyat::mpi {
namespace {

void require(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

/// The recurrence of kv head `g` and the query heads that read it: heads do not depend on each other.
RecurrentConfig config_of_head(RecurrentConfig c, std::int64_t g) {
  const std::int64_t heads = c.heads / c.kv_heads;
  c.phi_q = c.phi_q.of_heads(c.head_dim, g * heads, heads);
  c.phi_k = c.phi_k.of_heads(c.head_dim, g, 1);
  c.heads = heads;
  c.kv_heads = 1;
  return c;
}

/// One rank's chunks, a kv head at a time, with a state and workspace for one.
class ChunkWorker {
 public:
  ChunkWorker(const RecurrentConfig& config, const Part& part, std::int64_t frames, RankTensors& tensors,
              PollingExecutor& executor, const Kernels& kernels)
      : config_(config),
        part_(part),
        frames_(frames),
        tensors_(tensors),
        executor_(executor),
        kernels_(kernels) {
    const RecurrentConfig head = config_of_head(config, 0);
    const Result<std::size_t> state_bytes = RecurrentState::size_bytes(head);
    const Result<std::size_t> workspace_bytes =
        RecurrentState::workspace_size(head, executor.slots(), kernels);
    require(state_bytes.status());
    require(workspace_bytes.status());
    memory_.resize(*state_bytes / sizeof(double));
    workspace_.resize(*workspace_bytes);
    sums_size_ = state_of(0).sums(0, 0).size();
    // zeros: over no frames
    sums_.assign(static_cast<std::size_t>(config.kv_heads * (part.chunks.size() + 1)) * entries_size(), 0.0f);
  }

  std::size_t sums_size() const { return sums_size_; }
  std::size_t entries_size() const { return sums_size_ * static_cast<std::size_t>(config_.batch); }

  /// Sums of all batch entries over the frames from s of the rank's first chunk to s_t: first those of
  /// [s_t-1, s_t) alone, then of all.
  std::span<float> sums_before(std::int64_t g, std::int64_t t) {
    const std::int64_t index = g * (part_.chunks.size() + 1) + t - part_.chunks.begin;
    return std::span(sums_).subspan(static_cast<std::size_t>(index) * entries_size(), entries_size());
  }

  /// Sums what the softmax set loses behind chunk t; no one asks behind the clip's last chunk.
  void absorb(std::int64_t g, std::int64_t t) {
    if ((t + 1) * config_.chunking.chunk_frames >= frames_) return;
    RecurrentState state = state_before(g, t);
    require(state.commit(chunk(g, t), workspace(), executor_, kernels_));
    copy_sums(state, sums_before(g, t + 1),
              [](auto of_state, auto kept) { std::ranges::copy(of_state, kept.begin()); });
  }

  /// Running sums over the rank's chunks.
  void add_up(std::int64_t g) {
    for (std::int64_t t = part_.chunks.begin; t < part_.chunks.end; ++t)
      add(sums_before(g, t), sums_before(g, t + 1));
  }

  /// The outputs of chunk t; `prefix` is over the frames before the rank's first softmax set.
  void attend(std::int64_t g, std::int64_t t, std::span<const float> prefix) {
    const std::span<float> before = sums_before(g, t);
    if (part_.keys.begin > 0) add(prefix, before);
    RecurrentState state = state_before(g, t);
    copy_sums(state, before, [](auto of_state, auto kept) { std::ranges::copy(kept, of_state.begin()); });
    require(state.peek(chunk(g, t), workspace(), executor_, kernels_));
  }

 private:
  Workspace workspace() { return {workspace_.data(), workspace_.size()}; }

  RecurrentState state_of(std::int64_t g) {
    Result<RecurrentState> state =
        RecurrentState::create(config_of_head(config_, g), memory_.data(), memory_.size() * sizeof(double));
    require(state.status());
    return *state;
  }

  /// A state at the first frame of chunk t, with sums of zero.
  RecurrentState state_before(std::int64_t g, std::int64_t t) {
    const std::int64_t begin = t * config_.chunking.chunk_frames;
    const Range overlap{softmax_begin(t, config_.chunking), begin};
    RecurrentState state = state_of(g);
    require(state.start_at(begin, {.k = tensors_.k.view(overlap, g, 1), .v = tensors_.v.view(overlap, g, 1)},
                           kernels_));
    return state;
  }

  RecurrentChunk chunk(std::int64_t g, std::int64_t t) {
    const Range frames = hybrid_sets(frames_, t, config_.chunking, Direction::causal).queries;
    const std::int64_t heads = config_.heads / config_.kv_heads;
    return {.q = tensors_.q.view(frames, g * heads, heads),
            .k = tensors_.k.view(frames, g, 1),
            .v = tensors_.v.view(frames, g, 1),
            .out = tensors_.out.view(frames, g * heads, heads)};
  }

  /// copy(a state's sums, where they are kept), for every batch entry.
  void copy_sums(RecurrentState& state, std::span<float> kept, auto copy) {
    for (std::int64_t b = 0; b < config_.batch; ++b)
      copy(state.sums(b, 0), kept.subspan(static_cast<std::size_t>(b) * sums_size_, sums_size_));
  }

  void add(std::span<const float> from, std::span<float> to) {
    for (std::size_t at = 0; at < to.size(); at += sums_size_)
      require(add_sums(from.subspan(at, sums_size_), to.subspan(at, sums_size_), kernels_));
  }

  const RecurrentConfig& config_;
  const Part& part_;
  std::int64_t frames_;
  RankTensors& tensors_;
  PollingExecutor& executor_;
  const Kernels& kernels_;
  std::vector<double> memory_;
  std::vector<char> workspace_;
  std::size_t sums_size_ = 0;
  std::vector<float> sums_;  ///< [kv head][the rank's chunks and one more][batch entry]
};

FrameTensor tensor(const RecurrentConfig& c, const Range& frames, std::int64_t heads, std::int64_t dim) {
  return {frames, c.chunking.tokens_per_frame, c.batch, heads, dim};
}

}  // namespace

RankTensors::RankTensors(const RecurrentConfig& c, const Part& part)
    : q(tensor(c, hull(part.shard, part.queries), c.heads, c.head_dim)),
      k(tensor(c, hull(part.shard, part.keys), c.kv_heads, c.head_dim)),
      v(tensor(c, hull(part.shard, part.keys), c.kv_heads, c.value_dim)),
      out(tensor(c, hull(part.shard, part.queries), c.heads, c.value_dim)) {}

RankReport attend(const RecurrentConfig& config, std::span<const Part> parts, RankTensors& tensors,
                  MPI_Comm comm, const Kernels& kernels) {
  enum Tag { q_tag, k_tag, v_tag, out_tag };
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const double begin = MPI_Wtime();
  const Part& part = parts[static_cast<std::size_t>(rank)];
  const auto shards = ranges_of(parts, &Part::shard), queries = ranges_of(parts, &Part::queries),
             keys = ranges_of(parts, &Part::keys);
  Requests halo, sums, outputs;
  PollingExecutor executor({&halo, &sums});
  ChunkWorker worker(config, part, parts.back().shard.end, tensors, executor, kernels);
  PrefixSums prefix_sums(worker.sums_size(), static_cast<std::size_t>(config.batch), comm);
  std::vector<std::vector<float>> prefix(static_cast<std::size_t>(config.kv_heads),
                                         std::vector<float>(worker.entries_size()));
  const auto for_each_chunk = [&](bool with_halo, auto visit) {
    for (std::int64_t t = part.chunks.begin; t < part.chunks.end; ++t) {
      const Range set = hybrid_sets(parts.back().shard.end, t, config.chunking, Direction::causal).softmax;
      if ((common(set, part.shard) != set) == with_halo) visit(t);
    }
  };

  exchange(shards, keys, tensors.k, tensors.k, k_tag, comm, halo);
  exchange(shards, keys, tensors.v, tensors.v, v_tag, comm, halo);
  exchange(shards, queries, tensors.q, tensors.q, q_tag, comm, halo);
  // The halo is on its way while the chunks that do without are absorbed. Once it is there, so are the sums
  // of one head while the next heads are absorbed, and later attended.
  std::int64_t started = 0;
  const auto start_prefix_sums = [&](std::int64_t heads) {
    for (; started < heads; ++started) {
      for_each_chunk(true, [&](std::int64_t t) { worker.absorb(started, t); });
      worker.add_up(started);
      prefix_sums.start(worker.sums_before(started, part.chunks.end),
                        prefix[static_cast<std::size_t>(started)], sums);
    }
  };
  for (std::int64_t g = 0; g < config.kv_heads; ++g) {
    for_each_chunk(false, [&](std::int64_t t) { worker.absorb(g, t); });
    if (halo.done()) start_prefix_sums(g + 1);
  }
  halo.wait_all();
  start_prefix_sums(config.kv_heads);
  for (std::int64_t g = 0; g < config.kv_heads; ++g) {
    sums.wait(static_cast<std::size_t>(g));
    for (std::int64_t t = part.chunks.begin; t < part.chunks.end; ++t)
      worker.attend(g, t, prefix[static_cast<std::size_t>(g)]);
  }

  exchange(queries, shards, tensors.out, tensors.out, out_tag, comm, outputs);
  outputs.wait_all();
  return {.bytes = {halo.bytes(), sums.bytes(), outputs.bytes()},
          .seconds = MPI_Wtime() - begin,
          .halo_in_flight = halo.in_flight(),
          .halo_waited = halo.waited(),
          .prefix_in_flight = sums.in_flight(),
          .prefix_waited = sums.waited(),
          .outputs_waited = outputs.waited()};
}

}  // namespace rehyat::mpi
