// bench_operators: the operators as wholes, at the shapes of shapes.hpp.
//
// Rows: <quick or full>/<operator>/<shape>/<isa>/threads:<n>/<layout>. A row's time is the median of its
// runs; gflops divides operation_count() by it, share divides gflops by peak, the largest of the
// register-only FMA loops timed between the runs (of float32, whatever the arithmetic of the row). Rows of
// one thread also have share_alone: the share that the shortest times of all tasks add up to
// (task_clock.hpp). hybrid_recurrent is one step() in the middle of a video; exact_int8 is exact in
// Arithmetic::int8. Rows under quick/ run by default, in a few minutes:
//   bench_operators --benchmark_out=operators.json
//   bench_operators --benchmark_filter='hybrid_causal/wan_21x30x52_12x128/avx512/threads:1/head_major'
//   bench_operators --benchmark_filter=full/exact/wan_21x30x52_12x128/avx512/    # 6.6 TFLOP, a minute, each
//   bench_operators --benchmark_filter=. --runs=3          # all; with scalar kernels it takes hours
//
// Rows under chunking/ are hybrid_recurrent for a grid of Tc and To:
// chunking/<shape>/Tc:<n>/To:<n>/<isa>/threads:<n>.

#include <string>

#include "contestants.hpp"
#include "program.hpp"
#include "rehyat/arithmetic.hpp"
#include "task_clock.hpp"

namespace rehyat::bench {
namespace {

/// What a row runs with.
struct Setting {
  const Shape* shape;
  const Kernels* kernels;
  int threads;
  Layout layout;
  Arithmetic arithmetic = Arithmetic::float32;
};

/// measure_row() of an operator that runs on `clock`.
void measure_tasks(benchmark::State& state, const Options& options, const Setting& s, ThreadPool& pool,
                   TaskClock& clock, double operations, const std::function<Status()>& run) {
  clock.forget();
  measure_row(state, options, s.kernels->isa, pool, operations, [&] {
    clock.start_run();
    return run();
  });
  if (s.threads > 1 || !state.counters.contains("peak")) return;  // failed
  state.counters["share_alone"] = operations / clock.sum_of_shortest() * 1e-9 / state.counters["peak"];
}

template <class P>
void run_one_shot(benchmark::State& state, const Options& options, const Setting& s, const P& p,
                  Status (*call)(const P&, Workspace, TaskClock&, const Kernels&)) {
  ThreadPool pool(s.threads);
  TaskClock clock(pool);
  OneShot operation(p, call, clock, *s.kernels);
  measure_tasks(state, options, s, pool, clock, operation.operations(), [&] { return operation.run(); });
  state.counters["workspace_bytes"] = static_cast<double>(operation.workspace_bytes());
}

HybridAttention hybrid(const Setting& s, Direction direction) {
  auto p = parameters_for<HybridAttention>(inputs_of(*s.shape), s.layout);
  p.direction = direction;
  p.arithmetic = s.arithmetic;
  return p;
}

LinearAttention linear(const Setting& s) {
  auto p = parameters_for<LinearAttention>(inputs_of(*s.shape), s.layout);
  p.chunking.overlap_frames = 0;
  p.phi_q = p.phi_k = FeatureMap::elu1();
  return p;
}

UniformAttention uniform(const Setting& s) {
  auto p = parameters_for<UniformAttention>(inputs_of(*s.shape), s.layout);
  p.rate = 4;
  return p;
}

void run_exact(benchmark::State& state, const Options& options, const Setting& s) {
  auto p = parameters_for<SoftmaxAttention>(inputs_of(*s.shape), s.layout);
  p.arithmetic = s.arithmetic;
  run_one_shot(state, options, s, p, softmax_attention<TaskClock>);
}
void run_hybrid_causal(benchmark::State& state, const Options& options, const Setting& s) {
  run_one_shot(state, options, s, hybrid(s, Direction::causal), hybrid_attention<TaskClock>);
}
void run_hybrid_bidirectional(benchmark::State& state, const Options& options, const Setting& s) {
  run_one_shot(state, options, s, hybrid(s, Direction::bidirectional), hybrid_attention<TaskClock>);
}
void run_linear_causal(benchmark::State& state, const Options& options, const Setting& s) {
  run_one_shot(state, options, s, linear(s), linear_attention<TaskClock>);
}
void run_uniform(benchmark::State& state, const Options& options, const Setting& s) {
  run_one_shot(state, options, s, uniform(s), uniform_attention<TaskClock>);
}

/// Operations of one chunk in the middle of a long video: what one more chunk adds to a clip.
double operations_per_chunk(HybridAttention p) {
  const std::int64_t chunk_tokens = p.chunking.chunk_frames * p.chunking.tokens_per_frame;
  const std::int64_t chunks = 2 + ceil_div(p.chunking.overlap_frames, p.chunking.chunk_frames);
  const auto operations = [&](std::int64_t n) {
    p.q.tokens = p.k.tokens = p.v.tokens = p.out.tokens = n * chunk_tokens;
    return operation_count(p).total();
  };
  return operations(chunks + 1) - operations(chunks);
}

void run_hybrid_recurrent(benchmark::State& state, const Options& options, const Setting& s) {
  ThreadPool pool(s.threads);
  TaskClock clock(pool);
  const HybridAttention p = hybrid(s, Direction::causal);
  Recurrence chunks(p, clock, *s.kernels);
  // until every query has linear keys and every chunk is absorbed
  for (std::int64_t i = 0; i < 2 + ceil_div(p.chunking.overlap_frames, p.chunking.chunk_frames); ++i) {
    if (Status status = chunks.step(); !status.ok()) return state.SkipWithError(status.message());
  }
  measure_tasks(state, options, s, pool, clock, operations_per_chunk(p), [&] { return chunks.step(); });
  state.counters["workspace_bytes"] = static_cast<double>(chunks.workspace_bytes());
  state.counters["state_bytes"] = static_cast<double>(chunks.state_bytes());
  state.counters["chunk_bytes"] = static_cast<double>(chunks.chunk_bytes());
}

/// Parameters without data, for counting.
template <class P>
P geometry(const Shape& shape) {
  P p;
  const auto view = [&](std::int64_t heads) {
    return TensorView<const float>{.tokens = shape.tokens(), .heads = heads, .dim = shape.head_dim};
  };
  p.q = view(shape.heads);
  p.k = p.v = view(shape.kv_heads);
  return p;
}

struct OperatorRow {
  const char* name;
  void (*run)(benchmark::State&, const Options&, const Setting&);
  bool needs_chunks;          ///< differs from exact attention only where there are several
  double share_of_quadratic;  ///< of exact attention's work, about: decides what is quick
  bool in_every_arithmetic;   ///< has rows of each, not of float32 alone
};

constexpr OperatorRow operators[] = {
    {"exact", run_exact, false, 1, true},
    {"hybrid_causal", run_hybrid_causal, true, 0.2, true},
    {"hybrid_bidirectional", run_hybrid_bidirectional, true, 0.2, false},
    {"hybrid_recurrent", run_hybrid_recurrent, true, 0.03, true},
    {"linear_causal", run_linear_causal, true, 0.02, false},
    {"uniform_4", run_uniform, true, 0.4, false},
};

/// Whether a row is among those that run by default: a second or two a run on the best instruction set, on
/// one of the others less; token-major views where there are many heads to be apart.
bool is_quick(const OperatorRow& op, const Setting& s) {
  const bool best = s.kernels == runnable_kernels().front();
  if (s.arithmetic != Arithmetic::float32 && (!best || s.layout != Layout::head_major)) return false;
  const double work = op.share_of_quadratic * operation_count(geometry<SoftmaxAttention>(*s.shape)).total();
  if (s.kernels->isa == Isa::scalar) return work < 3e9 && s.threads == 1 && s.layout == Layout::head_major;
  if (!best) return work < 30e9 && s.threads == 1 && s.layout == Layout::head_major;
  return work < 250e9 && (s.layout == Layout::head_major || (s.shape->heads >= 8 && s.threads == 1));
}

void register_row(const Options& options, const OperatorRow& op, const Setting& s) {
  std::string name = std::string(is_quick(op, s) ? "quick/" : "full/") + op.name;
  if (s.arithmetic != Arithmetic::float32) name += std::string("_") + arithmetic_name(s.arithmetic);
  name += std::string("/") + s.shape->name + "/" + isa_name(s.kernels->isa) +
          "/threads:" + std::to_string(s.threads) + "/" + layout_name(s.layout);
  add_row(name, [run = op.run, options, s](benchmark::State& state) { run(state, options, s); });
}

void register_rows(const Options& options) {
  for (const Shape& shape : shapes) {
    for (const OperatorRow& op : operators) {
      if (op.needs_chunks && !shape.several_chunks()) continue;
      for (const Kernels* kernels : runnable_kernels()) {
        for (const Arithmetic arithmetic : {Arithmetic::float32, Arithmetic::float16, Arithmetic::int8}) {
          if (!has_arithmetic(*kernels, arithmetic)) continue;
          if (arithmetic != Arithmetic::float32 && !op.in_every_arithmetic) continue;
          for (const int threads : options.threads) {
            for (const Layout layout : {Layout::head_major, Layout::token_major}) {
              register_row(options, op, {&shape, kernels, threads, layout, arithmetic});
            }
          }
        }
      }
    }
  }
}

/// The clip of examples/data, with as many frames as every chunk divides, cut in several ways.
std::vector<Shape> chunking_grid() {
  std::vector<Shape> grid;
  for (const std::int64_t chunk_frames : {1, 2, 3, 4, 6, 8}) {
    for (const std::int64_t overlap_frames : {0, 1, 2, 3}) {
      grid.push_back({"vtest_24x18x24_3x64", 24, 18, 24, 3, 3, 64, chunk_frames, overlap_frames, 64, 64});
    }
  }
  return grid;
}

void register_chunkings(const Options& options) {
  static const std::vector<Shape> grid = chunking_grid();
  for (const Shape& shape : grid) {
    for (const int threads : options.threads) {
      const Setting s{&shape, runnable_kernels().front(), threads, Layout::head_major};
      const std::string name = std::string("chunking/") + shape.name +
                               "/Tc:" + std::to_string(shape.chunk_frames) +
                               "/To:" + std::to_string(shape.overlap_frames) + "/" +
                               isa_name(s.kernels->isa) + "/threads:" + std::to_string(threads);
      add_row(name, [options, s](benchmark::State& state) { run_hybrid_recurrent(state, options, s); });
    }
  }
}

void register_all(const Options& options) {
  register_rows(options);
  register_chunkings(options);
}

}  // namespace
}  // namespace rehyat::bench

int main(int argc, char** argv) {
  return rehyat::bench::run_program(
      argc, argv,
      {"bench_operators: attention operators as wholes, in GFLOP/s and as a share of the FMA peak.",
       rehyat::bench::register_all});
}
