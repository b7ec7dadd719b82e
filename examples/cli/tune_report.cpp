#include "tune_report.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

namespace rehyat::cli {
namespace {

Json to_json(const Setting& setting, bool on_front) {
  Json json = {{"beyond", name_of(setting.beyond, beyond_names)}};
  if (setting.beyond != Beyond::softmax) {
    json["chunk_frames"] = setting.chunk_frames;
    json["overlap_frames"] = setting.overlap_frames;
  }
  if (setting.features > 0) json["features"] = setting.features;
  json["operations"] = setting.operations;
  if (!setting.error) return json;
  json["error"] = setting.error->of_layer;
  json["error_by_head"] = setting.error->by_head;
  if (setting.beyond == Beyond::phi) json["silent_heads"] = setting.error->silent_heads;
  json["on_front"] = on_front;
  return json;
}

Json to_json(const TunedLayer& layer, const std::vector<std::size_t>& front) {
  const train::DistillationClip& clip = layer.views[0];
  Json json = {{"name", layer.name},     {"clips", layer.clips.size()},
               {"frames", layer.frames}, {"tokens_per_frame", clip.tokens_per_frame},
               {"heads", clip.q.heads},  {"kv_heads", clip.k.heads},
               {"head_dim", clip.q.dim}, {"value_dim", clip.v.dim}};
  for (std::size_t i = 0; i < layer.settings.size(); ++i) {
    const bool on_front = std::find(front.begin(), front.end(), i) != front.end();
    json["settings"].push_back(to_json(layer.settings[i], on_front));
  }
  return json;
}

Json to_json(const BudgetReport& budget, double softmax_operations) {
  Json json = {{"budget", budget.budget}, {"allowed_operations", budget.operations}};
  if (budget.settings.empty()) return json;
  json["operations"] = budget.operations_used;
  json["share"] = budget.operations_used / softmax_operations;
  json["error"] = budget.error;
  json["settings"] = budget.settings;
  return json;
}

void print_layer(const TunedLayer& layer, const std::vector<std::size_t>& front) {
  const train::DistillationClip& clip = layer.views[0];
  std::printf("\nlayer %s: %" PRId64 " frames of %" PRId64 " tokens, %" PRId64 " heads of %" PRId64 "\n",
              layer.name.c_str(), layer.frames, clip.tokens_per_frame, clip.q.heads, clip.q.dim);
  std::printf("  operations   share   error  setting\n");
  for (const std::size_t i : front) {
    const Setting& setting = layer.settings[i];
    std::printf("  %10.4g  %6.4f  %6.4f  %s\n", setting.operations,
                setting.operations / layer.softmax().operations, setting.error->of_layer,
                setting.text().c_str());
  }
}

void print_budget(const BudgetReport& budget, const TuneReport& report) {
  std::printf("\nbudget %g: %.4g operations\n", budget.budget, budget.operations);
  if (budget.settings.empty()) {
    std::printf("  too small for what was measured before the interruption\n");
    return;
  }
  std::printf("  %10.4g  %6.4f  %6.4f  in total\n", budget.operations_used,
              budget.operations_used / report.softmax_operations(), budget.error);
  for (std::size_t l = 0; l < report.layers.size(); ++l) {
    const TunedLayer& layer = report.layers[l];
    const Setting& setting = layer.settings[budget.settings[l]];
    std::printf("  %10.4g  %6.4f  %6.4f  %s: %s\n", setting.operations,
                setting.operations / layer.softmax().operations, setting.error->of_layer, layer.name.c_str(),
                setting.text().c_str());
  }
}

}  // namespace

double TuneReport::softmax_operations() const {
  double sum = 0;
  for (const TunedLayer& layer : layers) sum += layer.softmax().operations;
  return sum;
}

Json to_json(const TuneOptions& o, const TuneReport& report) {
  const train::Distillation& p = o.training;
  Json json = {{"teacher", name_of(p.teacher, teacher_names)},
               {"validation_frames", p.validation_frames},
               {"steps", p.steps},
               {"hidden", o.hidden ? Json(*o.hidden) : Json()},
               {"degree", p.map.degree},
               {"learning_rate", p.learning_rate},
               {"seed", p.seed},
               {"threads", o.threads},
               {"seconds", report.seconds},
               {"interrupted", report.was_interrupted},
               {"softmax_operations", report.softmax_operations()},
               {"layers", Json::array()},
               {"budgets", Json::array()}};
  for (std::size_t l = 0; l < report.layers.size(); ++l) {
    json["layers"].push_back(to_json(report.layers[l], report.fronts[l]));
  }
  for (const BudgetReport& budget : report.budgets) {
    json["budgets"].push_back(to_json(budget, report.softmax_operations()));
  }
  return json;
}

void print_text(const TuneOptions& o, const TuneReport& report) {
  std::printf("error: relative L1 to the %s teacher, over the last %" PRId64
              " frames of each clip, which were not trained on\n"
              "share: of the operations of softmax\n",
              name_of(o.training.teacher, teacher_names), o.training.validation_frames);
  for (std::size_t l = 0; l < report.layers.size(); ++l) print_layer(report.layers[l], report.fronts[l]);
  for (const BudgetReport& budget : report.budgets) print_budget(budget, report);
  std::printf("\ntime    %.1f s\n", report.seconds);
  if (report.was_interrupted) std::printf("interrupted: of the settings that were measured until then\n");
}

}  // namespace rehyat::cli
