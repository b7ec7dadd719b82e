#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "distill.hpp"

namespace rehyat::cli {

struct TuneOptions {
  std::vector<std::string> layers;  ///< "NAME=Q,K,V" each
  std::vector<std::int64_t> chunk_frames = {2, 3, 5}, overlap_frames = {0, 1, 2}, features = {64, 128};
  std::optional<std::int64_t> hidden;  ///< as wide as the features unless given
  std::vector<double> budgets;
  std::optional<std::int64_t> frames;
  train::Distillation training;
  int threads = 1;
  std::string isa = "auto";

  TuneOptions() : training(DistillOptions{}.training) { training.steps = 100; }

  /// An amount of operations, where all layers together have `softmax_operations` as softmax.
  static double operations_of_budget(double budget, double softmax_operations) {
    return budget <= 1 ? budget * softmax_operations : budget;
  }
};

void add_tune_options(CLI::App& command, TuneOptions& options);

/// Measures the settings and prints fronts and choices. Returns the program's exit status: 0, or that of a
/// program ended by SIGINT, where the settings so far were reported.
int tune_command(const TuneOptions& options, bool json);

}  // namespace rehyat::cli
