// rehyat_mpi: a clip over MPI ranks, compared with one process. See README.md.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "clip.hpp"
#include "rehyat/rehyat.hpp"
#include "report.hpp"

namespace rehyat::mpi {
namespace {

using Json = nlohmann::ordered_json;

/// What attention.hpp publishes for results whose sums were added in different orders.
constexpr double allowed_l2 = 4e-6, allowed_element = 1e-5;

constexpr int differs_status = 1, refused_status = 2;

struct Run {
  Options options;
  std::int64_t plan_ranks = 0;  ///< 0: compute
  std::string json;
};

void add_options(CLI::App& app, Run& run) {
  Options& o = run.options;
  const auto size = [&](const char* name, std::int64_t& value, const char* text, std::int64_t least = 1) {
    return app.add_option(name, value, text)
        ->check(CLI::Range(least, std::int64_t{1} << 31))
        ->capture_default_str();
  };
  size("--frames", o.frames, "T: frames of a random clip");
  size("--tokens", o.tokens, "M: tokens of a frame");
  size("--batch", o.batch, "Clips at once");
  size("--heads", o.heads, "Query heads");
  size("--kv-heads", o.kv_heads, "Key and value heads; 0: as many", 0);
  size("--head-dim", o.head_dim, "D");
  size("--value-dim", o.value_dim, "Dv; 0: D", 0);
  size("--feature-dim", o.feature_dim, "F, and the width of the hidden layer, of random feature maps");
  size("--chunk-frames", o.chunk_frames, "Tc");
  size("--overlap-frames", o.overlap_frames, "To", 0);
  app.add_option("--seed", o.seed, "Of random numbers")->capture_default_str();
  CLI::Option* const q = app.add_option("--q", o.q, "A clip's q, .npy of [frames, tokens, heads, dim]");
  CLI::Option* const k = app.add_option("--k", o.k, "Its k");
  CLI::Option* const v = app.add_option("--v", o.v, "Its v");
  q->needs(k, v), k->needs(q, v), v->needs(q, k);
  app.add_option("--phi", o.phi, "Feature maps, .safetensors, where every rank can read it");
  app.add_option("--json", run.json, "Write what is printed, and more, to this file");
  app.add_option("--plan", run.plan_ranks, "Compute nothing, say what each of so many ranks would")
      ->check(CLI::Range(1, 1 << 20))
      ->excludes(q);
}

/// Runs `action`, which may throw, on this rank alone; false on all ranks if it threw on one, which says why.
bool all_succeed(int rank, const std::function<void()>& action) {
  std::string error;
  try {
    action();
  } catch (const std::exception& e) {
    error = e.what();
  }
  const int mine = error.empty() ? INT_MAX : rank;
  int first = INT_MAX;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (first == rank) std::fprintf(stderr, "rehyat_mpi: %s\n", error.c_str());
  return first == INT_MAX;
}

/// hybrid_attention() in this process; its seconds.
double run_alone(const RecurrentConfig& c, RankTensors& clip) {
  const Range frames = clip.q.frames;
  const HybridAttention attention{.q = clip.q.view(frames, 0, c.heads),
                                  .k = clip.k.view(frames, 0, c.kv_heads),
                                  .v = clip.v.view(frames, 0, c.kv_heads),
                                  .out = clip.out.view(frames, 0, c.heads),
                                  .chunking = c.chunking,
                                  .phi_q = c.phi_q,
                                  .phi_k = c.phi_k};
  const Result<std::size_t> size = workspace_size(attention, 1);
  if (!size.ok()) throw std::runtime_error(size.status().message());
  std::vector<char> workspace(*size);
  SerialExecutor executor;
  const double begin = MPI_Wtime();
  const Status status = hybrid_attention(attention, {workspace.data(), workspace.size()}, executor);
  if (!status.ok()) throw std::runtime_error(status.message());
  return MPI_Wtime() - begin;
}

/// The distance of the ranks' outputs to those of one process.
Json compare(const std::vector<float>& ours, const std::vector<float>& expected) {
  double difference = 0, norm = 0, most = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double e = static_cast<double>(expected[i]), d = static_cast<double>(ours[i]) - e;
    difference += d * d, norm += e * e;
    most = std::max(most, std::isnan(d) ? INFINITY : std::abs(d)), largest = std::max(largest, std::abs(e));
  }
  const double l2 = std::sqrt(difference / norm), element = most / largest;
  return {{"relative_l2", l2},
          {"largest_element", element},
          {"allowed_l2", allowed_l2},
          {"allowed_element", allowed_element},
          {"equal", l2 <= allowed_l2 && element <= allowed_element}};
}

/// Rank 0 alone: prints everything, and says whether the ranks agree with one process.
int finish(const Run& run, const Json& report) {
  print_table(report);
  if (!run.json.empty()) {
    std::ofstream file(run.json);
    file << report.dump(1) << "\n";
    if (!file.flush()) {
      std::fprintf(stderr, "rehyat_mpi: %s cannot be written\n", run.json.c_str());
      return refused_status;
    }
  }
  if (!report.contains("one_process")) return 0;
  const Json& one = report["one_process"];
  const bool equal = one["equal"].get<bool>();
  std::printf(
      "one process: %.2f ms, relative L2 %.2g (up to %.0e), of the largest element %.2g (up to %.0e): %s\n",
      one["seconds"].get<double>() * 1e3, one["relative_l2"].get<double>(), allowed_l2,
      one["largest_element"].get<double>(), allowed_element, equal ? "equal" : "DIFFERENT");
  return equal ? 0 : differs_status;
}

/// What the ranks do, with all checked: scatter, attend, gather.
Json compute(const RecurrentConfig& config, RankTensors& clip, std::int64_t frames, int rank, int ranks) {
  const std::vector<Part> parts = parts_of(even_shards(frames, ranks), config.chunking);
  const std::vector<Range> shards = ranges_of(parts, &Part::shard);
  std::vector<Range> root(static_cast<std::size_t>(ranks));
  root[0] = {0, frames};
  RankTensors mine(config, parts[static_cast<std::size_t>(rank)]);
  Requests scatter, gather;
  exchange(root, shards, clip.q, mine.q, 0, MPI_COMM_WORLD, scatter);
  exchange(root, shards, clip.k, mine.k, 1, MPI_COMM_WORLD, scatter);
  exchange(root, shards, clip.v, mine.v, 2, MPI_COMM_WORLD, scatter);
  scatter.wait_all();
  MPI_Barrier(MPI_COMM_WORLD);
  const RankReport own = attend(config, parts, mine, MPI_COMM_WORLD);
  exchange(shards, root, mine.out, clip.out, 3, MPI_COMM_WORLD, gather);
  gather.wait_all();
  std::vector<RankReport> reports(static_cast<std::size_t>(ranks));
  MPI_Gather(&own, sizeof own, MPI_BYTE, reports.data(), sizeof own, MPI_BYTE, 0, MPI_COMM_WORLD);
  if (rank != 0) return {};
  Json result = report(config, parts, reports);
  result["isa"] = isa_name(default_kernels().isa);
  const std::vector<float> ours = clip.out.data;
  const double seconds = run_alone(config, clip);
  result["one_process"] = compare(ours, clip.out.data);
  result["one_process"]["seconds"] = seconds;
  return result;
}

/// The sizes of rank 0's files for all.
void share_sizes(Options& o) {
  std::int64_t* const sizes[] = {&o.frames,   &o.tokens,   &o.batch,    &o.heads,
                                 &o.kv_heads, &o.head_dim, &o.value_dim};
  for (std::int64_t* size : sizes) MPI_Bcast(size, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
}

int run(const Run& r, int rank, int ranks) {
  Options o = r.options;
  std::optional<ClipFiles> files;
  std::optional<FeatureMaps> maps;
  RecurrentConfig config;
  const auto read = [&] {
    if (rank == 0 && !o.q.empty()) files = read_files(o);
  };
  const auto configure = [&] {
    maps.emplace(o);
    config = config_of(o, *maps);
  };
  if (!all_succeed(rank, read)) return refused_status;
  share_sizes(o);
  if (!all_succeed(rank, configure)) return refused_status;
  if (r.plan_ranks > 0) {
    const std::vector<Part> parts = parts_of(even_shards(o.frames, r.plan_ranks), config.chunking);
    return rank == 0 ? finish(r, report(config, parts, {})) : 0;
  }
  const Range here{0, rank == 0 ? o.frames : 0};
  RankTensors clip(config, {.shard = here, .queries = here, .keys = here});
  if (files) {
    std::ranges::copy(files->q.data.span(), clip.q.data.begin());
    std::ranges::copy(files->k.data.span(), clip.k.data.begin());
    std::ranges::copy(files->v.data.span(), clip.v.data.begin());
  } else {
    fill_random(clip, o.seed);
  }
  const Json result = compute(config, clip, o.frames, rank, ranks);
  return rank == 0 ? finish(r, result) : 0;
}

}  // namespace
}  // namespace rehyat::mpi

int main(int argc, char** argv) {
  using namespace rehyat::mpi;
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 1, status = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  Run r;
  CLI::App app("Causal hybrid attention over a clip whose frames lie on several MPI ranks", "rehyat_mpi");
  add_options(app, r);
  try {
    app.parse(argc, argv);
    status = run(r, rank, ranks);
  } catch (const CLI::ParseError& e) {  // the same on all ranks
    status = e.get_exit_code() == 0 ? 0 : refused_status;
    if (rank == 0 && status == 0) app.exit(e);
    if (rank == 0 && status != 0) std::fprintf(stderr, "rehyat_mpi: %s\n", e.what());
  } catch (const std::exception& e) {  // others may be waiting for this rank
    std::fprintf(stderr, "rehyat_mpi: rank %d: %s\n", rank, e.what());
    MPI_Abort(MPI_COMM_WORLD, refused_status);
  }
  MPI_Bcast(&status, 1, MPI_INT, 0, MPI_COMM_WORLD);
  MPI_Finalize();
  return status;
}
