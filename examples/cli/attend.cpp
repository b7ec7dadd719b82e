#include "attend.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bad_input.hpp"
#include "combinations.hpp"
#include "operators.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "states.hpp"

namespace rehyat::cli {
namespace {

/// Memory in whole cache lines; zeroed, so that page faults are not part of what is timed.
class Buffer {
 public:
  Buffer(std::size_t size, const char* purpose) : lines_(allocate(size, purpose)), size_(size) {}
  void* data() { return lines_.data(); }
  Workspace workspace() { return {lines_.data(), size_}; }

 private:
  struct alignas(64) Line {
    char bytes[64] = {};
  };
  static std::vector<Line> allocate(std::size_t size, const char* purpose) {
    try {
      return std::vector<Line>(size / sizeof(Line) + (size % sizeof(Line) != 0));
    } catch (const std::exception&) {
      throw BadInput("there is no memory for " + std::to_string(size) + " bytes of " + purpose);
    }
  }

  std::vector<Line> lines_;
  std::size_t size_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/// Times `repeat` runs of `run_into(out)`, each after a `prepare()`. All must give the same bits.
template <class Prepare, class Run>
void time_runs(AttendRun& run, Prepare prepare, Run run_into) {
  using Clock = std::chrono::steady_clock;
  std::vector<float> again(run.options.repeat > 1 ? run.out.size() : 0);
  std::vector<double> seconds;
  for (int i = 0; i < run.options.repeat; ++i) {
    float* const out = i == 0 ? run.out.data() : again.data();
    prepare();
    const Clock::time_point start = Clock::now();
    run_into(out);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    if (i > 0 && std::memcmp(again.data(), run.out.data(), run.out.size() * sizeof(float)) != 0) {
      throw BadInput("run " + std::to_string(i + 1) +
                     " differs from run 1: a bug of this program, please report it");
    }
  }
  run.seconds = median(std::move(seconds));
}

TensorView<float> out_view(const Geometry& g, float* out) {
  return TensorView<float>::token_major(out, 1, g.queries(), g.heads, g.value_dim);
}

void run_one_shot(const Inputs& in, ExecutorRef executor, const Kernels& kernels, AttendRun& run) {
  with_operator(run.options, in, out_view(in.geometry, run.out.data()), &run.denominators, [&](auto p) {
    run.workspace_bytes = require(workspace_size(p, executor.slots(), kernels));
    Buffer workspace(run.workspace_bytes, "workspace");
    Progress progress("tasks");
    ReportingExecutor reporting(executor, progress);
    if (progress.wanted()) {
      CountingExecutor counting(executor.slots());
      require(run_operator(p, workspace.workspace(), counting, kernels));
      progress.expect(counting.tasks() * run.options.repeat);
    }
    const ExecutorRef runs_on = progress.wanted() ? ExecutorRef(reporting) : executor;
    const auto nothing = [] {};
    time_runs(run, nothing, [&](float* out) {
      p.out.data = out;
      require(run_operator(p, workspace.workspace(), runs_on, kernels));
    });
  });
}

void add(DenominatorReport& sum, const DenominatorReport& r) {
  sum.smallest = std::min(sum.smallest, r.smallest);
  sum.smallest_magnitude = std::min(sum.smallest_magnitude, r.smallest_magnitude);
  sum.nan_count += r.nan_count;
}

/// Tokens [begin, begin + count) of all inputs and of the output.
RecurrentChunk chunk_of(const Inputs& in, TensorView<float> out, std::int64_t begin, std::int64_t count) {
  const GivenFeatures given = in.given();
  const auto slice = [&](const auto& view) { return view.slice_tokens(begin, count); };
  return {.q = slice(in.q.view()),
          .k = slice(in.k.view()),
          .v = slice(in.v.view()),
          .out = slice(out),
          .given = {.q = slice(given.q),
                    .k = slice(given.k),
                    .q_denominator = slice(given.q_denominator),
                    .k_denominator = slice(given.k_denominator)}};
}

void run_recurrent(const Inputs& in, ExecutorRef executor, const Kernels& kernels, AttendRun& run) {
  const RecurrentConfig config = recurrent_config(run.options, in);
  run.workspace_bytes = require(RecurrentState::workspace_size(config, executor.slots(), kernels));
  Buffer memory(run.state_bytes, "state"), workspace(run.workspace_bytes, "workspace");
  RecurrentState state = require(RecurrentState::create(config, memory.data(), run.state_bytes));
  const StartingPoint start(run.options);
  const std::int64_t queries = in.geometry.queries(), frames = in.geometry.frames;
  const std::int64_t chunk_frames = std::min(config.chunking.chunk_frames, frames);
  const std::int64_t chunk_tokens = chunk_frames * in.geometry.tokens_per_frame;
  Progress progress("chunks");
  progress.expect(ceil_div(frames, chunk_frames) * run.options.repeat);
  const auto start_over = [&] {
    start.restore(state);
    run.frames_before = state.frames_seen();
    run.denominators = {};
  };
  time_runs(run, start_over, [&](float* out) {
    for (std::int64_t begin = 0; begin < queries; begin += chunk_tokens) {
      const std::int64_t count = std::min(chunk_tokens, queries - begin);
      RecurrentChunk chunk = chunk_of(in, out_view(in.geometry, out), begin, count);
      DenominatorReport report;
      chunk.report = &report;
      require(state.step(chunk, workspace.workspace(), executor, kernels));
      add(run.denominators, report);
      progress.advance(true);
    }
  });
  if (run.options.state_out) run.state_file = file_of(state);
}

/// Operations of the run by the definition: those of the clip up to its end, without those of the frames
/// before. Chunks beyond the overlap are alike, so that not all of a long video needs to be counted.
double operations_of(const AttendRun& run, const Inputs& in) {
  const Geometry& g = in.geometry;
  const Chunking chunking = run.options.chunking(g.tokens_per_frame);
  const std::int64_t before = std::min(
      run.frames_before, round_up(chunking.overlap_frames, chunking.chunk_frames) + chunking.chunk_frames);
  const auto operations_with = [&](std::int64_t frames_more) {
    return with_operator(run.options, in, {}, nullptr, [&](auto p) {
      p.q.tokens += frames_more * g.tokens_per_frame;
      p.k.tokens += frames_more * g.tokens_per_frame;
      return operation_count(p).total();
    });
  };
  return operations_with(before) - (before == 0 ? 0 : operations_with(before - g.frames));
}

/// Bytes of the state that carries the same computation from chunk to chunk.
std::size_t state_bytes_of(const AttendOptions& options, const Inputs& in) {
  if (!options.has_recurrence()) return 0;
  const Result<std::size_t> size = RecurrentState::size_bytes(recurrent_config(options, in));
  if (options.recurrent()) require(size.status());
  return size.ok() ? *size : 0;
}

void run_with(ExecutorRef executor, const Inputs& in, const Kernels& kernels, AttendRun& run) {
  if (run.options.recurrent()) {
    run_recurrent(in, executor, kernels, run);
  } else {
    run_one_shot(in, executor, kernels, run);
  }
}

}  // namespace

AttendRun run_attend(const AttendOptions& options) {
  check_combination(options);
  const Kernels& kernels = *require(find_kernels(options.isa.c_str()), "--isa: ");
  require(detail::check_arithmetic(options.arithmetic.value_or(Arithmetic::float32), kernels),
          "--arithmetic: ");
  const Inputs in = load_inputs(options);
  check_whole_chunks(options, in);
  const Geometry& g = in.geometry;
  AttendRun run{.options = options, .geometry = g, .isa = kernels.isa};
  run.state_bytes = state_bytes_of(options, in);
  run.out.resize(static_cast<std::size_t>(g.queries() * g.heads * g.value_dim));
  if (options.threads > 1) {
    ThreadPool pool(options.threads);
    run_with(pool, in, kernels, run);
  } else {
    SerialExecutor serial;
    run_with(serial, in, kernels, run);
  }
  run.gflops = operations_of(run, in) / run.seconds / 1e9;
  return run;
}

void check_output_path(const std::string& option, const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw BadInput(option + " " + path + ": exists and is not a regular file");
  }
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (path.empty() || ::access(directory.c_str(), W_OK | X_OK) != 0) {
    throw BadInput(option + " " + path + ": cannot create a file there");
  }
}

void write_outputs(const AttendRun& run) {
  const AttendOptions& o = run.options;
  // The state takes its place last: were the program killed before, the same run can be made again.
  detail::FileReplacement state;
  const std::span<const std::byte> state_file(run.state_file);
  if (o.state_out) require(state.prepare(o.state_out->c_str(), {&state_file, 1}), "--state-out ");
  if (!o.out.empty()) require(write_npy(o.out.c_str(), run.geometry.out_shape, run.out), "--out ");
  if (o.state_out) require(state.commit(), "--state-out ");
}

void attend_command(const AttendOptions& options, bool json) {
  check_output_path("--out", options.out);
  check_state_paths(options);
  const AttendRun run = run_attend(options);
  write_outputs(run);
  if (json) {
    print_json(to_json(run));
  } else {
    print_text(run);
  }
}

}  // namespace rehyat::cli
