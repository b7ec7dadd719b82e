#include "tune.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>

#include "bad_input.hpp"
#include "interruption.hpp"
#include "rehyat/thread_pool.hpp"
#include "rehyat/train/budgeted_choice.hpp"
#include "training.hpp"
#include "tune_report.hpp"

namespace rehyat::cli {
namespace {

/// One training, which measures its phi and, beside it, elu1 and the window alone.
class Round {
 public:
  Round(const TuneOptions& o, const TunedLayer& layer, std::int64_t chunk_frames, std::int64_t overlap_frames,
        std::int64_t features)
      : layer_(layer),
        features_(features),
        training_(layer.views, parameters_of(o, chunk_frames, overlap_frames, features)) {}

  std::string text() const {
    return layer_.name + ": chunk " + std::to_string(parameters().chunk_frames) + ", overlap " +
           std::to_string(parameters().overlap_frames) + ", " + std::to_string(features_) + " features";
  }

  /// Throws BadInput if the training would be refused.
  void check(int slots, const Kernels& kernels) const {
    training_.workspace_bytes(slots, kernels, subject());
  }

  /// Trains. An interruption ends it early.
  void run(ExecutorRef executor, const Kernels& kernels, const Interruption& interruption) {
    TrainingLine line(training_.kv_heads(), parameters().steps);
    training_.run(executor, kernels, interruption, line, subject());
  }

  /// What run() found out, to the settings it is about.
  void report_to(std::vector<Setting>& settings) const {
    for (Setting& s : settings) {
      if (s.chunk_frames != parameters().chunk_frames || s.overlap_frames != parameters().overlap_frames) {
        continue;
      }
      if (s.beyond == Beyond::nothing) s.error = error_of(&train::DistilledHead::window);
      if (s.beyond == Beyond::elu1) s.error = error_of(&train::DistilledHead::elu1);
      if (s.beyond == Beyond::phi && s.features == features_) {
        s.error = error_of(&train::DistilledHead::distilled);
        s.error->silent_heads = std::count_if(heads().begin(), heads().end(),
                                              [](const train::DistilledHead& h) { return h.fell_back; });
      }
    }
  }

 private:
  std::string subject() const { return "--layer " + text() + ": "; }

  SettingError error_of(train::FrameErrors train::DistilledHead::*way) const {
    SettingError error;
    train::DistillationError sum;
    for (const train::DistilledHead& head : heads()) {
      const train::DistillationError& of_head = (head.*way).validation;
      sum.difference += of_head.difference, sum.size += of_head.size;
      error.by_head.push_back(of_head.relative_l1());
    }
    error.of_layer = sum.relative_l1();
    if (std::isfinite(error.of_layer)) return error;
    throw BadInput(subject() + "the error is not finite; expected values other than 0");
  }

  static train::Distillation parameters_of(const TuneOptions& o, std::int64_t chunk_frames,
                                           std::int64_t overlap_frames, std::int64_t features) {
    train::Distillation parameters = o.training;
    parameters.map = map_of(o, features);
    parameters.chunk_frames = chunk_frames;
    parameters.overlap_frames = overlap_frames;
    parameters.shift_chunks = o.training.steps > 0;  // what is not trained needs no targets for it
    return parameters;
  }

  const train::Distillation& parameters() const { return training_.parameters(); }
  const std::vector<train::DistilledHead>& heads() const { return training_.heads(); }

  const TunedLayer& layer_;
  std::int64_t features_;
  Training training_;
};

/// Calls `use(layer, round)` for all of the grid, layer by layer, as long as it returns true.
template <class Use>
void for_each_round(const TuneOptions& o, std::vector<TunedLayer>& layers, Use use) {
  const std::size_t trainings =
      o.training.steps > 0 ? o.features.size() : 1;  // without, no map is of interest
  for (TunedLayer& layer : layers) {
    for (const std::int64_t chunk : o.chunk_frames) {
      for (const std::int64_t overlap : o.overlap_frames) {
        for (std::size_t i = 0; i < trainings; ++i) {
          Round round(o, layer, chunk, overlap, o.features[i]);
          if (!use(layer, round)) return;
        }
      }
    }
  }
}

/// Throws BadInput for a budget that even the cheapest settings do not keep.
void check_budgets(const TuneOptions& o, const TuneReport& report) {
  double least = 0;
  for (const TunedLayer& layer : report.layers) {
    least += std::min_element(layer.settings.begin(), layer.settings.end(), [](const auto& a, const auto& b) {
               return a.operations < b.operations;
             })->operations;
  }
  const double softmax = report.softmax_operations();
  for (const double budget : o.budgets) {
    if (TuneOptions::operations_of_budget(budget, softmax) >= least) continue;
    char message[160];
    std::snprintf(
        message, sizeof message,
        "--budget %g: expected at least %.4g, or a share of %.4f: the cheapest settings' operations", budget,
        least, least / softmax);
    throw BadInput(message);
  }
}

/// Throws BadInput for a training that would be refused. Returns how many there are.
std::int64_t check_rounds(const TuneOptions& o, const Kernels& kernels, TuneReport& report) {
  std::int64_t rounds = 0;
  for_each_round(o, report.layers, [&](TunedLayer&, const Round& round) {
    round.check(o.threads, kernels);
    ++rounds;
    return true;
  });
  return rounds;
}

/// Fills in the settings' errors, up to an interruption.
void measure(const TuneOptions& o, ExecutorRef executor, const Kernels& kernels, std::int64_t rounds,
             TuneReport& report) {
  std::int64_t done = 0;
  const bool is_watched = ::isatty(STDERR_FILENO) == 1;
  const Interruption interruption;
  for_each_round(o, report.layers, [&](TunedLayer& layer, Round& round) {
    round.run(executor, kernels, interruption);
    report.was_interrupted = interruption.asked_for();
    if (report.was_interrupted) return false;
    round.report_to(layer.settings);
    ++done;
    if (is_watched) {
      std::fprintf(stderr, "%" PRId64 " of %" PRId64 "  %s\n", done, rounds, round.text().c_str());
    }
    return true;
  });
}

/// Fronts and choices, of the settings that were measured.
void choose(const TuneOptions& o, TuneReport& report) {
  std::vector<std::vector<train::Alternative>> alternatives;
  std::vector<std::vector<std::size_t>> measured;  // the settings that they are
  for (const TunedLayer& layer : report.layers) {
    alternatives.emplace_back();
    measured.emplace_back();
    for (std::size_t i = 0; i < layer.settings.size(); ++i) {
      const Setting& setting = layer.settings[i];
      if (!setting.error) continue;
      alternatives.back().push_back({setting.operations, setting.error->of_layer});
      measured.back().push_back(i);
    }
    report.fronts.push_back(train::pareto_front(alternatives.back()));
    for (std::size_t& i : report.fronts.back()) i = measured.back()[i];
  }
  if (o.budgets.empty()) return;
  const train::BudgetedChoice choices = require(train::BudgetedChoice::over(alternatives));
  for (const double budget : o.budgets) {
    BudgetReport& of_budget = report.budgets.emplace_back();
    of_budget.budget = budget;
    of_budget.operations = TuneOptions::operations_of_budget(budget, report.softmax_operations());
    Result<train::LayerChoice> choice = choices.within(of_budget.operations);
    if (!choice.ok()) continue;  // interrupted: check_budgets() had all settings before it
    of_budget.operations_used = choice->cost, of_budget.error = choice->error;
    for (std::size_t l = 0; l < measured.size(); ++l) {
      of_budget.settings.push_back(measured[l][choice->alternatives[l]]);
    }
  }
}

}  // namespace

int tune_command(const TuneOptions& options, bool json) {
  const Kernels& kernels = *require(find_kernels(options.isa.c_str()), "--isa: ");
  TuneReport report{.layers = load_layers(options)};
  const std::int64_t rounds = check_rounds(options, kernels, report);
  check_budgets(options, report);
  const auto start = std::chrono::steady_clock::now();
  if (options.threads > 1) {
    ThreadPool pool(options.threads);
    measure(options, pool, kernels, rounds, report);
  } else {
    SerialExecutor serial;
    measure(options, serial, kernels, rounds, report);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  choose(options, report);
  if (json) {
    print_json(to_json(options, report));
  } else {
    print_text(options, report);
  }
  return report.was_interrupted ? interrupted_status : 0;
}

}  // namespace rehyat::cli
