#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "rehyat/train/distillation_parameters.hpp"

namespace rehyat::cli {

inline constexpr const char* teacher_names[] = {"causal", "full"};
inline constexpr const char* initial_names[] = {"silent", "places"};
inline constexpr const char* loss_names[] = {"l1", "l2"};

struct DistillOptions {
  std::vector<std::string> clips;  ///< "Q,K,V" each
  std::string out;
  train::Distillation training = {.map = {.kind = FeatureMap::Kind::polynomial,
                                          .num_layers = 2,
                                          .degree = 2,
                                          .output_activation = Activation::softplus}};
  std::int64_t hidden = 128, features = 128;
  bool keep_chunks = false;
  int threads = 1;
  std::string isa = "auto";
};

void add_distill_options(CLI::App& command, DistillOptions& options);

/// Trains, writes the weights and prints the report. Returns the program's exit status: 0, or that of a
/// program ended by SIGINT, where the best weights so far were written.
int distill_command(const DistillOptions& options, bool json);

}  // namespace rehyat::cli
