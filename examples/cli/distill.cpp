#include "distill.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "attend.hpp"
#include "bad_input.hpp"
#include "clips.hpp"
#include "interruption.hpp"
#include "rehyat/thread_pool.hpp"
#include "report.hpp"
#include "training.hpp"

namespace rehyat::cli {
namespace {

/// A run of the command.
struct Run {
  std::vector<Clip> clips;
  std::vector<train::DistillationClip> views;
  Isa isa = Isa::scalar;
  std::size_t workspace_bytes = 0;
  double seconds = 0;
  bool was_interrupted = false;

  explicit Run(const DistillOptions& o) {
    for (const std::string& names : o.clips)
      views.push_back(clips.emplace_back(map_clip("--clip", names)).view());
  }
};

/// What is to be trained.
train::Distillation parameters_of(const DistillOptions& o) {
  train::Distillation parameters = o.training;
  parameters.shift_chunks = !o.keep_chunks;
  FeatureMap& map = parameters.map;
  for (int i = 0; i < map.num_layers; ++i) {
    map.layers[i].out_dim = i + 1 == map.num_layers ? o.features : o.hidden;
  }
  return parameters;
}

void train_on(ExecutorRef executor, const Kernels& kernels, Training& training, TrainingLine& line,
              Run& run) {
  run.isa = kernels.isa;
  run.workspace_bytes = training.workspace_bytes(executor.slots(), kernels, "");
  const Interruption interruption;
  const auto start = std::chrono::steady_clock::now();
  training.run(executor, kernels, interruption, line, "");
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  run.was_interrupted = interruption.asked_for();
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

Json options_of(const DistillOptions& o, const train::Distillation& p) {
  return {{"clips", p.clips.size()},
          {"chunk_frames", p.chunk_frames},
          {"overlap_frames", p.overlap_frames},
          {"teacher", name_of(p.teacher, teacher_names)},
          {"scale", p.scale ? Json(decimal_of(*p.scale)) : Json()},
          {"layers", p.map.num_layers},
          {"hidden", o.hidden},
          {"features", o.features},
          {"degree", p.map.degree},
          {"activation", activation_name(p.map.activation)},
          {"output_activation", activation_name(p.map.output_activation)},
          {"initial", name_of(p.initialization, initial_names)},
          {"place_steps", p.place_steps},
          {"loss", name_of(p.loss, loss_names)},
          {"steps", p.steps},
          {"learning_rate", decimal_of(p.learning_rate)},
          {"warmup_steps", p.warmup_steps},
          {"batch_clips", p.batch_clips},
          {"batch_chunks", p.batch_chunks},
          {"keep_chunks", o.keep_chunks},
          {"validation_frames", p.validation_frames},
          {"evaluate_every", p.evaluate_every},
          {"patience", p.patience},
          {"seed", p.seed},
          {"threads", o.threads}};
}

Json to_json(const DistillOptions& o, const Training& training, const TrainingLine& line, const Run& run) {
  Json json = options_of(o, training.parameters());
  json.update({{"isa", isa_name(run.isa)},
               {"seconds", run.seconds},
               {"workspace_bytes", run.workspace_bytes},
               {"interrupted", run.was_interrupted}});
  const std::int64_t group = training.query_heads() / training.kv_heads();
  for (std::size_t h = 0; h < training.heads().size(); ++h) {
    const train::DistilledHead& head = training.heads()[h];
    json["heads"].push_back({{"head", h},
                             {"kv_head", static_cast<std::int64_t>(h) / group},
                             {"steps", head.steps},
                             {"best_step", head.best_step},
                             {"began", head.began},
                             {"fell_back", head.fell_back},
                             {"train", errors_of(head, &train::FrameErrors::train)},
                             {"validation", errors_of(head, &train::FrameErrors::validation)}});
  }
  for (std::int64_t g = 0; g < training.kv_heads(); ++g) {
    Json curve = Json::array();
    for (const CurvePoint& point : line.curve(g)) curve.push_back({point.step, point.loss, point.validation});
    json["curves"].push_back(std::move(curve));
  }
  return json;
}

void print_text(const DistillOptions& o, const Training& training, const Run& run) {
  std::printf("relative L1 to the %s teacher, over queries that have linear keys\n",
              name_of(training.parameters().teacher, teacher_names));
  std::printf("      %-26s  %-26s\n", "training frames", "validation frames");
  std::printf("head  %8s %8s %9s  %8s %8s %9s  best step\n", "window", "elu1", "distilled", "window", "elu1",
              "distilled");
  for (std::size_t h = 0; h < training.heads().size(); ++h) {
    const train::DistilledHead& head = training.heads()[h];
    std::printf("%4zu", h);
    if (!head.began) {
      std::printf("  not begun: its linear branch is silent\n");
      continue;
    }
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
  Run run(options);
  Training training(run.views, parameters_of(options));
  {
    TrainingLine line(training.kv_heads(), training.parameters().steps);
    const std::int64_t workers = std::min<std::int64_t>(options.threads, training.kv_heads());
    if (workers > 1) {
      ThreadPool pool(static_cast<int>(workers));
      train_on(pool, kernels, training, line, run);
    } else {
      SerialExecutor serial;
      train_on(serial, kernels, training, line, run);
    }
    training.write("--out", options.out);
    if (json) print_json(to_json(options, training, line, run));
  }
  if (!json) print_text(options, training, run);
  return run.was_interrupted ? interrupted_status : 0;
}

}  // namespace rehyat::cli
