#include "program.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

#include "peak.hpp"
#include "rehyat/version.hpp"

namespace rehyat::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const char* description = "";

void print_help() {
  std::printf(
      "%s\n"
      "Rows under quick/ run by default; all: --benchmark_filter=. (--benchmark_list_tests with it lists "
      "them). One: "
      "a part\nof its name.\n\n"
      "  [--threads=N,...]  numbers of worker threads (1 and the cores of this machine)\n"
      "  [--runs=N]         least runs of a row (5); its time is their median\n"
      "  [--seconds=S]      least time that a row's runs take together (0.3)\n\n",
      description);
  benchmark::PrintDefaultHelp();
}

[[noreturn]] void refuse(const char* argument) {
  std::fprintf(stderr,
               "%s: expected --threads=N,... --runs=N or --seconds=S with numbers above 0, or --help\n",
               argument);
  std::exit(2);
}

/// The value of --<name>=<value>, or null.
const char* value_of(const char* argument, std::string_view name) {
  const std::string_view text(argument);
  const bool matches = text.starts_with("--") && text.substr(2).starts_with(name) &&
                       text.substr(2 + name.size()).starts_with('=');
  return matches ? argument + name.size() + 3 : nullptr;
}

/// A number above 0; `end` is set behind it.
double positive(const char* text, char** end, const char* argument) {
  const double value = std::strtod(text, end);
  if (*end == text || !(value > 0) || value > 1e6) refuse(argument);
  return value;
}

int positive_integer(const char* text, char** end, const char* argument) {
  const double value = positive(text, end, argument);
  const int integer = static_cast<int>(value);
  if (integer != value) refuse(argument);
  return integer;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    char* end = nullptr;
    if (const char* runs = value_of(argv[i], "runs")) {
      options.runs = positive_integer(runs, &end, argv[i]);
    } else if (const char* seconds = value_of(argv[i], "seconds")) {
      options.seconds = positive(seconds, &end, argv[i]);
    } else if (const char* threads = value_of(argv[i], "threads")) {
      options.threads.clear();
      options.threads.push_back(positive_integer(threads, &end, argv[i]));
      while (*end == ',') options.threads.push_back(positive_integer(end + 1, &end, argv[i]));
    } else {
      refuse(argv[i]);
    }
    if (*end != '\0') refuse(argv[i]);
  }
  if (options.threads.empty()) {
    options.threads = {1};
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    if (cores > 1) options.threads.push_back(cores);
  }
  return options;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// The largest of the peaks measured so far. A call measures if the last one is 20 ms ago, so that short runs
/// are not drowned in it.
class PeakSampler {
 public:
  PeakSampler(Isa isa, ThreadPool& pool) : isa_(isa), pool_(&pool) {}

  void sample() {
    if (peak_ > 0 && seconds_since(last_) < 0.02) return;
    now_ = fma_gflops(isa_, *pool_);
    peak_ = std::max(peak_, now_);
    last_ = Clock::now();
  }
  double peak() const { return peak_; }
  double now() const { return now_; }

 private:
  Isa isa_;
  ThreadPool* pool_;
  double peak_ = 0, now_ = 0;
  Clock::time_point last_ = {};
};

}  // namespace

int run_program(int argc, char** argv, const Program& program) {
  description = program.description;
  benchmark::Initialize(&argc, argv, print_help);
  const Options options = parse(argc, argv);
  if (benchmark::GetBenchmarkFilter().empty()) benchmark::SetBenchmarkFilter("^quick/");
  const auto number = [](int n) { return std::to_string(n); };
  benchmark::AddCustomContext(
      "rehyat_version",
      number(REHYAT_VERSION_MAJOR) + "." + number(REHYAT_VERSION_MINOR) + "." + number(REHYAT_VERSION_PATCH));
  benchmark::AddCustomContext("compiler", __VERSION__);
  program.register_rows(options);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

const std::vector<const Kernels*>& runnable_kernels() {
  static const std::vector<const Kernels*> kernels = [] {
    std::vector<const Kernels*> found;
    for (const Isa isa : {Isa::avx512, Isa::avx2, Isa::neon, Isa::scalar}) {
      const Result<const Kernels*> result = find_kernels(isa_name(isa));
      if (result.ok()) {
        found.push_back(*result);
      } else {
        std::fprintf(stderr, "skipped: %s\n", result.status().message());
      }
    }
    return found;
  }();
  return kernels;
}

void add_row(const std::string& name, std::function<void(benchmark::State&)> body) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [body = std::move(body)](benchmark::State& state) {
                                 for (auto _ : state) body(state);
                               })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

Measurement measure(const Options& options, Isa isa, ThreadPool& pool,
                    std::span<const std::function<void()>> contestants) {
  for (const auto& run : contestants) run();
  PeakSampler peak(isa, pool);
  peak.sample();
  Measurement result{.runs = std::vector<std::vector<Run>>(contestants.size())};
  double total = 0;
  for (int round = 0; round < options.runs || total < options.seconds; ++round) {
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      const double before = peak.now();
      const auto start = Clock::now();
      contestants[i]();
      const double seconds = seconds_since(start);
      peak.sample();
      result.runs[i].push_back({seconds, (before + peak.now()) / 2});
      total += seconds;
    }
  }
  result.peak_gflops = peak.peak();
  return result;
}

double Measurement::median_seconds(std::size_t contestant) const {
  std::vector<double> seconds;
  for (const Run& run : runs[contestant]) seconds.push_back(run.seconds);
  return median(seconds);
}

void report(benchmark::State& state, const Measurement& measurement, std::size_t contestant,
            double operations) {
  const double seconds = measurement.median_seconds(contestant);
  std::vector<double> shares;
  for (const Run& run : measurement.runs[contestant])
    shares.push_back(operations / run.seconds * 1e-9 / run.peak_gflops);
  const double gflops = operations / seconds * 1e-9;
  state.SetIterationTime(seconds);
  state.counters["gflops"] = gflops;
  state.counters["peak"] = measurement.peak_gflops;
  state.counters["share"] = gflops / measurement.peak_gflops;
  state.counters["share_then"] = median(shares);
  state.counters["runs"] = static_cast<double>(shares.size());
}

void measure_row(benchmark::State& state, const Options& options, Isa isa, ThreadPool& pool,
                 double operations, const std::function<Status()>& run) {
  Status status;
  const std::function<void()> keep_error = [&] {
    if (Status s = run(); !s.ok()) status = s;
  };
  const Measurement measurement = measure(options, isa, pool, {&keep_error, 1});
  if (!status.ok()) return state.SkipWithError(status.message());
  report(state, measurement, 0, operations);
}

}  // namespace rehyat::bench
