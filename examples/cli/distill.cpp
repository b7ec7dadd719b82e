#include "distill.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "attend.hpp"
#include "bad_input.hpp"
#include "inputs.hpp"
#include "rehyat/io/safetensors.hpp"
#include "rehyat/thread_pool.hpp"
#include "rehyat/train/distillation.hpp"
#include "report.hpp"
#include "training_line.hpp"

namespace rehyat::cli {
namespace {

constexpr int interrupted_status = 128 + SIGINT;
volatile std::sig_atomic_t interrupted = 0;

/// While it exists, the first SIGINT asks the training to end, and a second one ends the program.
class Interruption {
 public:
  Interruption() { previous_ = std::signal(SIGINT, note); }
  ~Interruption() { std::signal(SIGINT, previous_); }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

 private:
  static void note(int) {
    interrupted = 1;
    std::signal(SIGINT, SIG_DFL);
    constexpr char text[] = "\nending with the best weights so far; a second Ctrl-C ends without them\n";
    const int error = errno;  // of what was interrupted
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, sizeof text - 1);
    errno = error;
  }
  void (*previous_)(int);
};

struct Clip {
  MappedArray q, k, v;
};

Clip map_clip(const std::string& names) {
  const std::size_t first = names.find(','), second = names.find(',', first + 1);
  if (first == std::string::npos || second == std::string::npos ||
      names.find(',', second + 1) != std::string::npos) {
    throw BadInput("--clip " + names + ": expected three files, Q,K,V");
  }
  Clip clip{map_array("--clip", names.substr(0, first)),
            map_array("--clip", names.substr(first + 1, second - first - 1)),
            map_array("--clip", names.substr(second + 1))};
  for (const MappedArray* array : {&clip.q, &clip.k, &clip.v}) {
    if (array->has_frames() && array->frames() == clip.q.frames() && array->tokens() == clip.q.tokens())
      continue;
    throw BadInput(array->subject + "shape " + detail::ShapeText(array->array.extents()).c_str() +
                   "; expected [frames, tokens, heads, dim], with the frames and tokens of Q");
  }
  return clip;
}

/// Everything a run reads and writes. Not to be copied: the parameters view it.
struct Training {
  std::vector<Clip> clips;
  std::vector<train::DistillationClip> views;
  std::vector<float> phi_q, phi_k;
  std::vector<train::DistilledHead> heads;
  train::Distillation parameters;
  Isa isa = Isa::scalar;
  std::size_t workspace_bytes = 0;
  double seconds = 0;
  bool was_interrupted = false;

  explicit Training(const DistillOptions& o) : parameters(o.training) {
    for (const std::string& names : o.clips) clips.push_back(map_clip(names));
    for (const Clip& clip : clips) {
      views.push_back({clip.q.view(), clip.k.view(), clip.v.view(), clip.q.array.shape[1]});
    }
    parameters.clips = views;
    parameters.shift_chunks = !o.keep_chunks;
    FeatureMap& map = parameters.map;
    for (int i = 0; i < map.num_layers; ++i) {
      map.layers[i].out_dim = i + 1 == map.num_layers ? o.features : o.hidden;
    }
    phi_q.resize(static_cast<std::size_t>(train::weight_count(map, query_heads(), head_dim())));
    phi_k.resize(static_cast<std::size_t>(train::weight_count(map, kv_heads(), head_dim())));
    parameters.phi_q = train::weights_in(phi_q.data(), map, query_heads(), head_dim());
    parameters.phi_k = train::weights_in(phi_k.data(), map, kv_heads(), head_dim());
    heads.resize(static_cast<std::size_t>(query_heads()));
  }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  std::int64_t query_heads() const { return views[0].q.heads; }
  std::int64_t kv_heads() const { return views[0].k.heads; }
  std::int64_t head_dim() const { return views[0].q.dim; }
};

void train_on(ExecutorRef executor, const Kernels& kernels, Training& run, TrainingLine& line) {
  run.isa = kernels.isa;
  run.workspace_bytes = require(train::workspace_size(run.parameters, executor.slots(), kernels));
  HeapArray<char> memory;
  if (!memory.allocate(run.workspace_bytes)) {
    throw BadInput("there is no memory for " + std::to_string(run.workspace_bytes) + " bytes of workspace");
  }
  const Interruption interruption;
  const auto observe = [&](const train::DistillationProgress& progress) {
    line.update(progress);
    return interrupted == 0;
  };
  const auto start = std::chrono::steady_clock::now();
  require(
      train::distill(run.parameters, run.heads, {memory.data(), memory.size()}, executor, observe, kernels));
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  run.was_interrupted = interrupted != 0;
}

Json errors_of(const train::DistilledHead& head, train::DistillationError train::FrameErrors::*frames) {
  return {{"window", (head.window.*frames).relative_l1()},
          {"elu1", (head.elu1.*frames).relative_l1()},
          {"distilled", (head.distilled.*frames).relative_l1()}};
}

/// What the user wrote: the shortest decimal that gives `value`, where its double would show more digits.
double decimal_of(float value) {
  char text[32] = {};
  std::to_chars(text, text + sizeof text - 1, value);
  return std::strtod(text, nullptr);
}

Json options_of(const DistillOptions& o, const Training& run) {
  const train::Distillation& p = run.parameters;
  return {{"clips", run.clips.size()},
          {"chunk_frames", p.chunk_frames},
          {"overlap_frames", p.overlap_frames},
          {"teacher", name_of(p.teacher, teacher_names)},
          {"scale", p.scale ? Json(decimal_of(*p.scale)) : Json()},
          {"layers", p.map.num_layers},
          {"hidden", o.hidden},
          {"features", o.features},
          {"degree", p.map.degree},
          {"activation", detail::activation_name(p.map.activation)},
          {"output_activation", detail::activation_name(p.map.output_activation)},
          {"loss", name_of(p.loss, loss_names)},
          {"steps", p.steps},
          {"learning_rate", decimal_of(p.learning_rate)},
          {"warmup_steps", p.warmup_steps},
          {"batch_chunks", p.batch_chunks},
          {"keep_chunks", o.keep_chunks},
          {"validation_frames", p.validation_frames},
          {"evaluate_every", p.evaluate_every},
          {"patience", p.patience},
          {"seed", p.seed},
          {"threads", o.threads},
          {"isa", isa_name(run.isa)}};
}

Json to_json(const DistillOptions& o, const Training& run, const TrainingLine& line) {
  Json json = options_of(o, run);
  json.update({{"seconds", run.seconds},
               {"workspace_bytes", run.workspace_bytes},
               {"interrupted", run.was_interrupted}});
  const std::int64_t group = run.query_heads() / run.kv_heads();
  for (std::size_t h = 0; h < run.heads.size(); ++h) {
    const train::DistilledHead& head = run.heads[h];
    json["heads"].push_back({{"head", h},
                             {"kv_head", static_cast<std::int64_t>(h) / group},
                             {"steps", head.steps},
                             {"best_step", head.best_step},
                             {"fell_back", head.fell_back},
                             {"train", errors_of(head, &train::FrameErrors::train)},
                             {"validation", errors_of(head, &train::FrameErrors::validation)}});
  }
  for (std::int64_t g = 0; g < run.kv_heads(); ++g) {
    Json curve = Json::array();
    for (const CurvePoint& point : line.curve(g)) curve.push_back({point.step, point.loss, point.validation});
    json["curves"].push_back(std::move(curve));
  }
  return json;
}

void print_text(const DistillOptions& o, const Training& run) {
  std::printf("relative L1 to the %s teacher, over queries that have linear keys\n",
              name_of(run.parameters.teacher, teacher_names));
  std::printf("      %-26s  %-26s\n", "training frames", "validation frames");
  std::printf("head  %8s %8s %9s  %8s %8s %9s  best step\n", "window", "elu1", "distilled", "window", "elu1",
              "distilled");
  for (std::size_t h = 0; h < run.heads.size(); ++h) {
    const train::DistilledHead& head = run.heads[h];
    std::printf("%4zu", h);
    for (const auto frames : {&train::FrameErrors::train, &train::FrameErrors::validation}) {
      std::printf("  %8.4f %8.4f %9.4f", (head.window.*frames).relative_l1(),
                  (head.elu1.*frames).relative_l1(), (head.distilled.*frames).relative_l1());
    }
    std::printf("  %" PRId64 " of %" PRId64 "%s\n", head.best_step, head.steps,
                head.fell_back ? "; no better than the window: its linear branch is silent" : "");
  }
  std::printf("time    %.1f s\nmemory  %zu bytes of workspace\n", run.seconds, run.workspace_bytes);
  if (run.was_interrupted) std::printf("interrupted: the best weights so far are in %s\n", o.out.c_str());
}

}  // namespace

int distill_command(const DistillOptions& options, bool json) {
  check_output_path("--out", options.out);
  const Kernels& kernels = *require(find_kernels(options.isa.c_str()), "--isa: ");
  Training run(options);
  const train::Distillation& p = run.parameters;
  {
    TrainingLine line(run.kv_heads(), p.steps);
    const std::int64_t workers = std::min<std::int64_t>(options.threads, run.kv_heads());
    if (workers > 1) {
      ThreadPool pool(static_cast<int>(workers));
      train_on(pool, kernels, run, line);
    } else {
      SerialExecutor serial;
      train_on(serial, kernels, run, line);
    }
    require(write_feature_maps(options.out.c_str(), train::distilled_map(p.map, p.phi_q, run.query_heads()),
                               train::distilled_map(p.map, p.phi_k, run.kv_heads()), run.head_dim()),
            "--out ");
    if (json) print_json(to_json(options, run, line));
  }
  if (!json) print_text(options, run);
  return run.was_interrupted ? interrupted_status : 0;
}

}  // namespace rehyat::cli
