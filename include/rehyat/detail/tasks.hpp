#pragma once
// Phases as flat grids of tasks, cut from the geometry alone, and the bodies of their tasks.

#include <new>

#include "rehyat/detail/problem.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::detail {

/// Least keys that one absorb task sums. 768 tokens read and write a task's sums once for 768 multiply-adds
/// an element, and give a chunk of a video's few thousand tokens several tasks a head.
inline constexpr std::int64_t least_absorb_group = 768;

/// Groups that the keys of one chunk are cut into, at most: one shot and streaming must agree.
inline constexpr std::int64_t most_chunk_groups = 8;

/// Groups that the keys of a whole clip are cut into, at most, where they are summed at once (uniform hybrid
/// and bidirectional linear attention).
inline constexpr std::int64_t most_clip_groups = 32;

/// Elements of the sums that one fold or scan task handles.
inline constexpr std::int64_t fold_slice = 16384;

/// What the queries of one batch entry and column (a chunk, where a phase holds several) attend to.
struct AttendWork {
  std::int64_t query_begin = 0, query_count = 0;  ///< tokens
  KeySpans softmax = {};
  const float* sums = nullptr;  ///< of kv head 0; null: no linear keys
  std::int64_t sums_head_stride = 0;
};

/// Tasks of a phase of attend: entries x kv heads x groups of query blocks that share key blocks.
struct AttendGrid {
  std::int64_t columns = 1;
  std::int64_t kv_heads = 1;
  std::int64_t groups = 0;
  std::int64_t blocks_per_group = 1;
  std::int64_t entries = 0;
  std::int64_t count() const { return entries * columns * kv_heads * groups; }
};

/// Tasks that a phase of attend should have: 3 for each of 16 workers.
inline constexpr std::int64_t least_attend_tasks = 48;

/// `most_queries`: tokens of the longest entry. Groups are smaller where the phase would otherwise have too
/// few tasks for its workers, but not below what the kernels need to be worth their preparation of the keys.
inline AttendGrid attend_grid(const Call& call, std::int64_t columns, std::int64_t most_queries) {
  const std::int64_t blocks = call.heads / call.kv_heads * ceil_div(most_queries, call.kernels->query_block);
  const std::int64_t most_blocks = call.kernels->most_group_queries / call.kernels->query_block;
  const std::int64_t sequences = call.one_thread ? least_attend_tasks : call.batch * columns * call.kv_heads;
  const std::int64_t share = ceil_div(blocks, ceil_div(least_attend_tasks, sequences < 1 ? 1 : sequences));
  const std::int64_t least = blocks < call.kernels->least_group ? blocks : call.kernels->least_group;
  const std::int64_t enough = share < least ? least : share > most_blocks ? most_blocks : share;
  const std::int64_t groups = ceil_div(blocks, enough < 1 ? 1 : enough);
  return {.columns = columns,
          .kv_heads = call.kv_heads,
          .groups = groups,
          .blocks_per_group = groups < 1 ? 1 : ceil_div(blocks, groups),  // all nearly alike
          .entries = call.batch};
}

template <class T>
kernel::Rows<T> rows_at(const TensorView<T>& view, std::int64_t b, std::int64_t token) {
  if (view.data == nullptr) return {};
  return {view.row(b, token, 0), view.token_stride, view.head_stride};
}

template <class Void>
kernel::ElementRows<Void> rows_at(const AnyView<Void>& view, std::int64_t b, std::int64_t token) {
  if (view.data == nullptr) return {};
  return {view.row(b, token, 0), view.type, view.token_stride, view.head_stride};
}

inline kernel::HeadRows head_rows_at(const InputView& view, std::int64_t b, std::int64_t token,
                                     std::int64_t g) {
  if (view.data == nullptr) return {};
  return {view.row(b, token, g), view.type, view.token_stride};
}

/// Where a task stands in a grid of entries x columns x kv heads x parts.
struct TaskPlace {
  std::int64_t b, column, g, part;
};

inline TaskPlace place_of(std::int64_t index, std::int64_t columns, std::int64_t kv_heads,
                          std::int64_t parts) {
  return {.b = index / parts / kv_heads / columns,
          .column = index / parts / kv_heads % columns,
          .g = index / parts % kv_heads,
          .part = index % parts};
}

/// Runs task `index` of the grid; work_of(b, column) says what an entry attends to.
template <class WorkOf>
void attend_task(const Call& call, const AttendGrid& grid, std::int64_t index, int slot,
                 const WorkOf& work_of) {
  const auto [b, column, g, group] = place_of(index, grid.columns, grid.kv_heads, grid.groups);
  const AttendWork work = work_of(b, column);
  const std::int64_t heads_per_kv = call.heads / call.kv_heads;
  const std::int64_t blocks = heads_per_kv * ceil_div(work.query_count, call.kernels->query_block);
  const std::int64_t groups = ceil_div(blocks, grid.blocks_per_group);
  if (group >= groups) return;  // a shorter entry of the batch has fewer

  kernel::AttendTask task{
      .dims = call.dims,
      .q = rows_at(call.q, b, work.query_begin),
      .given = rows_at(call.features, b, work.query_begin),
      .given_denominator = rows_at(call.feature_denominators, b, work.query_begin),
      .out = rows_at(call.out, b, work.query_begin),
      .row_max = rows_at(call.statistics.row_max, b, work.query_begin),
      .row_sum = rows_at(call.statistics.row_sum, b, work.query_begin),
      .linear_denominator = rows_at(call.statistics.linear_denominator, b, work.query_begin),
      .query_count = work.query_count,
      .first_head = g * heads_per_kv,
      .first_block = group * blocks / groups,
      .end_block = (group + 1) * blocks / groups,
      .num_softmax = work.softmax.count,
      .sums = work.sums == nullptr ? nullptr : work.sums + g * work.sums_head_stride,
      .phi_q = call.phi_q,
      .score_scale = call.score_scale,
      .stabilizer = call.stabilizer,
      .denominator_epsilon = call.denominator_epsilon,
      .denominator_floor = call.denominator_floor,
      .report = call.reports + slot,
      .scratch = call.scratch + slot * call.slot_size};
  for (int i = 0; i < work.softmax.count; ++i) {
    const KeySpan& span = work.softmax.at[i];
    const KeyViews& views = *span.views;
    task.softmax[i] = {.k = head_rows_at(views.k, b, span.begin, g),
                       .v = head_rows_at(views.v, b, span.begin, g),
                       .count = span.count};
  }
  call.kernels->attend(task);
}

/// Which keys of one batch entry and column are summed, and where to.
struct AbsorbWork {
  KeySpans keys = {};
  float* parts = nullptr;  ///< part 0 of kv head 0
  std::int64_t parts_head_stride = 0;
  std::int64_t skip_rate = 0;  ///< as in AbsorbTask; the span then counts the keys that are left
};

/// Tasks of a phase of absorb: entries x kv heads x groups of keys, each with a part of its own.
struct AbsorbGrid {
  std::int64_t columns = 1;
  std::int64_t kv_heads = 1;
  std::int64_t most_groups = 1;
  std::int64_t parts = 0;      ///< most parts of an entry
  std::int64_t part_size = 0;  ///< floats
  std::int64_t entries = 0;
  std::int64_t count() const { return entries * columns * kv_heads * parts; }
};

/// For up to `tokens` keys an entry in up to `spans` spans.
inline AbsorbGrid absorb_grid(const Call& call, std::int64_t columns, std::int64_t tokens, std::int64_t spans,
                              std::int64_t most_groups) {
  const std::int64_t groups = ceil_div(tokens, least_absorb_group);
  return {.columns = columns,
          .kv_heads = call.kv_heads,
          .most_groups = most_groups,
          .parts = tokens == 0 ? 0 : (groups < most_groups ? groups : most_groups) + spans - 1,
          .part_size = kernel::sums_size(call.dims),
          .entries = call.batch};
}

/// Keys of a group. It follows from the entry's own keys, never from the batch around it or the longest chunk
/// there could be.
inline std::int64_t group_size(const AbsorbGrid& grid, const KeySpans& keys) {
  std::int64_t tokens = 0;
  for (int i = 0; i < keys.count; ++i) tokens += keys.at[i].count;
  return tokens == 0 ? least_absorb_group : round_up(ceil_div(tokens, grid.most_groups), least_absorb_group);
}

/// Groups that an entry's keys are cut into, each span from its start.
inline std::int64_t num_parts(const AbsorbGrid& grid, const KeySpans& keys) {
  const std::int64_t size = group_size(grid, keys);
  std::int64_t parts = 0;
  for (int i = 0; i < keys.count; ++i) parts += ceil_div(keys.at[i].count, size);
  return parts;
}

template <class WorkOf>
void absorb_task(const Call& call, const AbsorbGrid& grid, std::int64_t index, int slot,
                 const WorkOf& work_of) {
  const auto [b, column, g, part] = place_of(index, grid.columns, grid.kv_heads, grid.parts);
  const AbsorbWork work = work_of(b, column);
  const std::int64_t size = group_size(grid, work.keys);
  std::int64_t group = part;
  int s = 0;
  while (s < work.keys.count && group >= ceil_div(work.keys.at[s].count, size)) {
    group -= ceil_div(work.keys.at[s].count, size);
    ++s;
  }
  if (s == work.keys.count) return;
  const KeySpan& span = work.keys.at[s];
  const KeyViews& views = *span.views;
  const bool given = call.phi_k->kind == FeatureMap::Kind::given;
  const std::int64_t left = span.count - group * size;
  call.kernels->absorb({.dims = call.dims,
                        .k = head_rows_at(given ? views.features : views.k, b, span.begin, g),
                        .k_denominator = given ? head_rows_at(views.feature_denominators, b, span.begin, g)
                                               : kernel::HeadRows{},
                        .v = head_rows_at(views.v, b, span.begin, g),
                        .first = group * size,
                        .count = left < size ? left : size,
                        .skip_rate = work.skip_rate,
                        .head = g,
                        .phi_k = call.phi_k,
                        .sums = work.parts + g * work.parts_head_stride + part * grid.part_size,
                        .scratch = call.scratch + slot * call.slot_size});
}

/// The sums of a state or of a call: per batch entry and kv head `hi`, then `lo`, sums_size floats each.
template <class T>
struct StateSums {
  T* data = nullptr;
  std::int64_t entry_stride = 0;
  std::int64_t size = 0;  ///< sums_size
  std::int64_t head_stride() const { return 2 * size; }
  T* hi(std::int64_t b, std::int64_t g) const { return data + b * entry_stride + g * head_stride(); }
  T* lo(std::int64_t b, std::int64_t g) const { return hi(b, g) + size; }
};

/// to = from + the parts that the absorb tasks of each entry wrote, for all entries. `from` with null data is
/// zero.
template <class WorkOf>
void fold_phase(const Call& call, const AbsorbGrid& grid, ExecutorRef executor, const WorkOf& work_of,
                StateSums<const float> from, StateSums<float> to) {
  const std::int64_t slices = ceil_div(to.size, fold_slice);
  const auto task = [&](std::int64_t index, int) {
    const auto [b, column, g, slice] = place_of(index, 1, grid.kv_heads, slices);
    const AbsorbWork work = work_of(b, column);
    const std::int64_t end = (slice + 1) * fold_slice;
    call.kernels->fold({.hi_in = from.data == nullptr ? nullptr : from.hi(b, g),
                        .lo_in = from.data == nullptr ? nullptr : from.lo(b, g),
                        .hi = to.hi(b, g),
                        .lo = to.lo(b, g),
                        .parts = work.parts + g * work.parts_head_stride,
                        .part_stride = grid.part_size,
                        .num_parts = num_parts(grid, work.keys),
                        .begin = slice * fold_slice,
                        .end = end < to.size ? end : to.size});
  };
  executor.run(grid.entries * grid.kv_heads * slices, task);
}

/// Scratch and reports of every slot, cut from the arena. Call once to measure and once to place.
inline void place_slots(Call& call, Arena& arena, int slots, std::int64_t blocks_per_group) {
  call.slot_size = round_up(call.kernels->scratch_size(call.dims, blocks_per_group), 16);
  call.scratch = arena.floats(slots, call.slot_size);
  static_assert(sizeof(DenominatorReport) <= 16 * sizeof(float));
  float* reports = arena.floats(slots, 16);
  call.reports = reinterpret_cast<DenominatorReport*>(reports);
}

inline void start_reports(const Call& call, int slots) {
  for (int i = 0; i < slots; ++i) ::new (static_cast<void*>(call.reports + i)) DenominatorReport{};
}

/// Minima and a count: the same whatever task ran in which slot.
inline void merge_reports(const Call& call, int slots, DenominatorReport* report) {
  if (report == nullptr) return;
  *report = {};
  for (int i = 0; i < slots; ++i) merge(*report, call.reports[i]);
}

}  // namespace rehyat::detail
