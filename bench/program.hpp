#pragma once
// What the benchmark programs share: command line, instruction sets, repeated runs against the peak,
// counters.

#include <benchmark/benchmark.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "rehyat/rehyat.hpp"
#include "rehyat/thread_pool.hpp"

namespace rehyat::bench {

struct Options {
  std::vector<int> threads;  ///< worker counts to run with: 1 and the cores of this machine, or --threads
  int runs = 5;              ///< least runs of a row
  double seconds = 0.3;      ///< least time a row's runs take together
};

struct Program {
  const char* description;  ///< what --help says first
  void (*register_rows)(const Options& options);
};

/// main() of a benchmark program. Without --benchmark_filter rows under quick/ run.
int run_program(int argc, char** argv, const Program& program);

/// The kernels that this CPU runs, the best first. Those that it does not are named with the reason, once.
const std::vector<const Kernels*>& runnable_kernels();

/// Registers a row that runs `body` once: a row does its own repetitions, its time is their median. `body`
/// must call report() or state.SkipWithError().
void add_row(const std::string& name, std::function<void(benchmark::State&)> body);

/// A run's time and the FMA peak about then: the mean of the last before it and the first after.
struct Run {
  double seconds = 0;
  double peak_gflops = 0;
};

struct Measurement {
  std::vector<std::vector<Run>> runs;  ///< of each contestant
  double peak_gflops = 0;              ///< largest of the peak's

  double median_seconds(std::size_t contestant) const;
};

/// Runs the contestants in turn, after one untimed run each, with measurements of the FMA peak between.
Measurement measure(const Options& options, Isa isa, ThreadPool& pool,
                    std::span<const std::function<void()>> contestants);

/// Sets the row's time (the median) and the counters gflops, peak (GFLOP/s), share (of the peak), share_then
/// and runs. Where the clock changes during a row, the largest peak is of its best moment and the median of
/// an average one: share_then is the median of each run's share of the peak about then.
void report(benchmark::State& state, const Measurement& measurement, std::size_t contestant,
            double operations);

/// measure() and report() of one contestant that may fail.
void measure_row(benchmark::State& state, const Options& options, Isa isa, ThreadPool& pool,
                 double operations, const std::function<Status()>& run);

}  // namespace rehyat::bench
