// bench_ratios: two ways of the same work, run in turn, and the quotient of their times in each round. What a
// busy machine does to one it does to the other a moment later, so the median of the quotients says what two
// separate rows cannot.
//
// Rows: <quick or full>/<first>_over_<second>/<operator>/<shape>/<isa>/threads:<n>. A row's time is the
// second's median; ratio is the median of first / second over the rounds, low and high its quartiles.
// `counts`, where there is one, is the quotient of the operation counts: what ratio would be if all
// operations took the same time.
//   bench_ratios --runs=11 --benchmark_out=ratios.json

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "contestants.hpp"
#include "program.hpp"
#include "rehyat/arithmetic.hpp"

namespace rehyat::bench {
namespace {

using Run = std::function<Status()>;

double seconds_of(const Run& run, Status& status) {
  const auto start = std::chrono::steady_clock::now();
  if (Status s = run(); !s.ok()) status = s;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

/// Runs both in turn, the first first in every other round.
void compare(benchmark::State& state, const Options& options, const Run& first, const Run& second) {
  Status status;
  seconds_of(first, status);
  seconds_of(second, status);
  std::vector<double> quotients, seconds;
  double total = 0;
  for (int round = 0; round < options.runs || total < options.seconds; ++round) {
    double a = 0;
    if (round % 2 == 0) a = seconds_of(first, status);
    const double b = seconds_of(second, status);
    if (round % 2 != 0) a = seconds_of(first, status);
    quotients.push_back(a / b);
    seconds.push_back(b);
    total += a + b;
  }
  if (!status.ok()) return state.SkipWithError(status.message());
  state.SetIterationTime(quantile(seconds, 0.5));
  state.counters["ratio"] = quantile(quotients, 0.5);
  state.counters["low"] = quantile(quotients, 0.25);
  state.counters["high"] = quantile(quotients, 0.75);
  state.counters["runs"] = static_cast<double>(quotients.size());
}

struct Setting {
  Options options;
  const Shape* shape;
  const Kernels* kernels;
  int threads;
};

OneShot<SoftmaxAttention, decltype(&softmax_attention<ThreadPool>)> exact(const Setting& s, Layout layout,
                                                                          ThreadPool& pool) {
  return {parameters_for<SoftmaxAttention>(inputs_of(*s.shape), layout), &softmax_attention<ThreadPool>, pool,
          *s.kernels};
}

HybridAttention causal_clip(const Setting& s, Layout layout) {
  auto p = parameters_for<HybridAttention>(inputs_of(*s.shape), layout);
  p.direction = Direction::causal;
  return p;
}

OneShot<HybridAttention, decltype(&hybrid_attention<ThreadPool>)> hybrid(const Setting& s, Layout layout,
                                                                         ThreadPool& pool) {
  return {causal_clip(s, layout), &hybrid_attention<ThreadPool>, pool, *s.kernels};
}

/// Interleaved heads, as engines hold them, over a head after the other.
void token_major(benchmark::State& state, const Setting& s, auto make) {
  ThreadPool pool(s.threads);
  auto apart = make(s, Layout::token_major, pool), together = make(s, Layout::head_major, pool);
  compare(
      state, s.options, [&] { return apart.run(); }, [&] { return together.run(); });
}

void one_thread(benchmark::State& state, const Setting& s, auto make) {
  ThreadPool one(1), many(s.threads);
  auto alone = make(s, Layout::head_major, one), shared = make(s, Layout::head_major, many);
  compare(
      state, s.options, [&] { return alone.run(); }, [&] { return shared.run(); });
}

void exact_over_hybrid(benchmark::State& state, const Setting& s) {
  ThreadPool pool(s.threads);
  auto a = exact(s, Layout::head_major, pool);
  auto b = hybrid(s, Layout::head_major, pool);
  compare(
      state, s.options, [&] { return a.run(); }, [&] { return b.run(); });
  state.counters["counts"] = a.operations() / b.operations();
}

/// Inputs and outputs of 16 bits over those of 32; arithmetic is the same.
template <Element E, class P>
void narrow_over_float32(benchmark::State& state, const Setting& s,
                         Status (*call)(const P&, Workspace, ThreadPool&, const Kernels&)) {
  ThreadPool pool(s.threads);
  Inputs& inputs = inputs_of(*s.shape);
  NarrowInputs<E> elements(inputs);
  const P wide = parameters_for<P>(inputs, Layout::head_major);
  P narrow = wide;
  elements.feed(narrow);
  OneShot<P, decltype(call)> first(narrow, call, pool, *s.kernels), second(wide, call, pool, *s.kernels);
  compare(
      state, s.options, [&] { return first.run(); }, [&] { return second.run(); });
}

/// Another arithmetic over float32.
template <class P, Arithmetic arithmetic>
void arithmetic_over_float32(benchmark::State& state, const Setting& s,
                             Status (*call)(const P&, Workspace, ThreadPool&, const Kernels&)) {
  ThreadPool pool(s.threads);
  const P wide = parameters_for<P>(inputs_of(*s.shape), Layout::head_major);
  P narrow = wide;
  narrow.arithmetic = arithmetic;
  OneShot<P, decltype(call)> first(narrow, call, pool, *s.kernels), second(wide, call, pool, *s.kernels);
  compare(
      state, s.options, [&] { return first.run(); }, [&] { return second.run(); });
}

/// The same clip: one step() a chunk over one call.
void recurrent_over_one_shot(benchmark::State& state, const Setting& s) {
  ThreadPool pool(s.threads);
  Recurrence chunks(causal_clip(s, Layout::head_major), pool, *s.kernels);
  auto clip = hybrid(s, Layout::head_major, pool);
  compare(
      state, s.options, [&] { return chunks.run_clip(); }, [&] { return clip.run(); });
}

/// One step() of a state that has seen 5,000 chunks over one of a state that has seen about 10.
void late_over_early(benchmark::State& state, const Setting& s) {
  ThreadPool pool(s.threads);
  const HybridAttention clip = causal_clip(s, Layout::head_major);
  Recurrence late(clip, pool, *s.kernels), early(clip, pool, *s.kernels);
  Status status;
  while (status.ok() && late.chunks_seen() < 5000) status = late.step();
  while (status.ok() && early.chunks_seen() < 10) status = early.step();
  if (!status.ok()) return state.SkipWithError(status.message());
  compare(
      state, s.options, [&] { return late.step(); }, [&] { return early.step(); });
  state.counters["state_bytes"] = static_cast<double>(late.state_bytes());
  state.counters["workspace_bytes"] = static_cast<double>(late.workspace_bytes());
}

/// fold() as it would be with one float an element, by the baseline's instructions: it neither reads nor
/// writes lo.
void plain_fold(const kernel::FoldTask& task) {
  for (std::int64_t i = task.begin; i < task.end; ++i) {
    float sum = task.hi_in == nullptr ? 0.0f : task.hi_in[i];
    for (std::int64_t p = 0; p < task.num_parts; ++p) sum += task.parts[p * task.part_stride + i];
    task.hi[i] = sum;
  }
}

/// The kernels' fold() with a clock around it.
struct TimedFold {
  static inline void (*fold)(const kernel::FoldTask&) = nullptr;
  static inline std::atomic<std::int64_t> nanoseconds = 0;  ///< of all threads

  static void run(const kernel::FoldTask& task) {
    const auto start = std::chrono::steady_clock::now();
    fold(task);
    nanoseconds += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
  }
};

/// What it costs that a state keeps its sums as pairs: a step() over one with plain float sums. fold_share:
/// the adding up of a chunk's sums, all of it, as a share of the step; the cost cannot be more.
void compensated_over_plain(benchmark::State& state, const Setting& s) {
  ThreadPool pool(s.threads);
  const HybridAttention clip = causal_clip(s, Layout::head_major);
  Kernels timed = *s.kernels, plain = *s.kernels;
  TimedFold::fold = s.kernels->fold;
  timed.fold = &TimedFold::run;
  plain.fold = &plain_fold;
  Recurrence watched(clip, pool, timed), pairs(clip, pool, *s.kernels), floats(clip, pool, plain);
  Status status;
  seconds_of([&] { return watched.step(); }, status);
  TimedFold::nanoseconds = 0;
  double seconds = 0;
  for (int run = 0; run < s.options.runs; ++run)
    seconds += seconds_of([&] { return watched.step(); }, status);
  if (!status.ok()) return state.SkipWithError(status.message());
  compare(
      state, s.options, [&] { return pairs.step(); }, [&] { return floats.step(); });
  state.counters["fold_share"] = static_cast<double>(TimedFold::nanoseconds) * 1e-9 / (seconds * s.threads);
}

/// The shape of that name; a row that names none does not compile.
consteval const Shape* shape_named(std::string_view name) {
  for (const Shape& shape : shapes) {
    if (shape.name == name) return &shape;
  }
  throw "shapes.hpp has no such shape";
}

/// 80 chunks: one shot leaves out what only a next chunk would read, which must not count.
constexpr Shape long_clip = {"long_240x10x15_2x128", 240, 10, 15, 2, 2, 128, 3, 1, 256, 256};
/// Few queries and heads: groups of query blocks, which share what is made of the keys, are as small as they
/// get.
constexpr Shape one_frame = {"frame_1x18x24_3x64", 1, 18, 24, 3, 3, 64, 1, 0, 64, 64};
constexpr const Shape* chunk = shape_named("chunk_3x30x52_12x128");
constexpr const Shape* phone = shape_named("phone_31x20x30_12x128");
constexpr const Shape* phone_2_heads = shape_named("phone_31x20x30_2x128");
constexpr const Shape* thumbnail = shape_named("small_24x8x8_4x64");

struct Row {
  const char* name;
  const Shape* shape;
  bool needs_threads;  ///< more than one
  void (*run)(benchmark::State&, const Setting&);
  bool (*goes_with)(const Kernels&) = [](const Kernels&) { return true; };
};

template <Arithmetic arithmetic>
bool has(const Kernels& kernels) {
  return has_arithmetic(kernels, arithmetic);
}

template <Arithmetic arithmetic>
void exact_over_float32(benchmark::State& state, const Setting& s) {
  arithmetic_over_float32<SoftmaxAttention, arithmetic>(state, s, &softmax_attention<ThreadPool>);
}

template <Arithmetic arithmetic>
void hybrid_over_float32(benchmark::State& state, const Setting& s) {
  arithmetic_over_float32<HybridAttention, arithmetic>(state, s, &hybrid_attention<ThreadPool>);
}

constexpr Row rows[] = {
    {"token_major_over_head_major/exact", chunk, false,
     [](benchmark::State& state, const Setting& s) {
       token_major(state, s, [](auto&&... x) { return exact(x...); });
     }},
    {"token_major_over_head_major/hybrid", phone, false,
     [](benchmark::State& state, const Setting& s) {
       token_major(state, s, [](auto&&... x) { return hybrid(x...); });
     }},
    {"one_thread_over_all/exact", chunk, true,
     [](benchmark::State& state, const Setting& s) {
       one_thread(state, s, [](auto&&... x) { return exact(x...); });
     }},
    {"one_thread_over_all/hybrid", phone, true,
     [](benchmark::State& state, const Setting& s) {
       one_thread(state, s, [](auto&&... x) { return hybrid(x...); });
     }},
    {"exact_over_hybrid/clip", phone_2_heads, false, exact_over_hybrid},
    {"bfloat16_over_float32/exact", chunk, false,
     [](benchmark::State& state, const Setting& s) {
       narrow_over_float32<bfloat16, SoftmaxAttention>(state, s, &softmax_attention<ThreadPool>);
     }},
    {"bfloat16_over_float32/hybrid", phone, false,
     [](benchmark::State& state, const Setting& s) {
       narrow_over_float32<bfloat16, HybridAttention>(state, s, &hybrid_attention<ThreadPool>);
     }},
    {"float16_over_float32/hybrid", phone, false,
     [](benchmark::State& state, const Setting& s) {
       narrow_over_float32<float16, HybridAttention>(state, s, &hybrid_attention<ThreadPool>);
     }},
    {"int8_over_float32/exact", chunk, false, exact_over_float32<Arithmetic::int8>, has<Arithmetic::int8>},
    {"int8_over_float32/exact", &one_frame, false, exact_over_float32<Arithmetic::int8>,
     has<Arithmetic::int8>},
    {"int8_over_float32/hybrid", phone, false, hybrid_over_float32<Arithmetic::int8>, has<Arithmetic::int8>},
    {"float16_arithmetic_over_float32/exact", chunk, false, exact_over_float32<Arithmetic::float16>,
     has<Arithmetic::float16>},
    {"float16_arithmetic_over_float32/exact", &one_frame, false, exact_over_float32<Arithmetic::float16>,
     has<Arithmetic::float16>},
    {"float16_arithmetic_over_float32/hybrid", phone, false, hybrid_over_float32<Arithmetic::float16>,
     has<Arithmetic::float16>},
    {"recurrent_over_one_shot/clip", &long_clip, false, recurrent_over_one_shot},
    {"chunk_5000_over_chunk_10/step", thumbnail, false, late_over_early},
    {"compensated_over_plain/step", phone, false, compensated_over_plain},
    {"compensated_over_plain/step", thumbnail, false, compensated_over_plain},
};

void register_rows(const Options& options) {
  for (const Row& row : rows) {
    for (const Kernels* kernels : runnable_kernels()) {
      for (const int threads : options.threads) {
        if ((row.needs_threads && threads == 1) || !row.goes_with(*kernels)) continue;
        const bool quick = kernels == runnable_kernels().front() && (row.needs_threads || threads == 1);
        const Setting s{options, row.shape, kernels, threads};
        add_row(std::string(quick ? "quick" : "full") + "/" + row.name + "/" + row.shape->name + "/" +
                    isa_name(kernels->isa) + "/threads:" + std::to_string(threads),
                [&row, s](benchmark::State& state) { row.run(state, s); });
      }
    }
  }
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  return rehyat::bench::run_program(
      argc, argv,
      {"bench_ratios: two ways of the same work in turn, and the quotient of their times.",
       rehyat::bench::register_rows});
}
