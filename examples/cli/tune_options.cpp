#include <algorithm>

#include "option_kinds.hpp"
#include "tune.hpp"

namespace rehyat::cli {
namespace {

/// "2,3,5": numbers of a grid. Sorted, each once.
void add_grid(CLI::App& command, const char* option, std::vector<std::int64_t>& values,
              const CLI::Validator& check, const char* description) {
  const auto assign = [&values](std::vector<std::int64_t> given) {
    std::sort(given.begin(), given.end());
    given.erase(std::unique(given.begin(), given.end()), given.end());
    values = std::move(given);
  };
  command.add_option_function<std::vector<std::int64_t>>(option, assign, description)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(check)
      ->default_str(CLI::detail::join(values));
}

void add_training(CLI::App& command, TuneOptions& o) {
  const char* const group = "Training of each setting's phi";
  train::Distillation& t = o.training;
  const auto width = CLI::Range(std::int64_t{1}, max_feature_dim);
  command
      .add_option("--steps", t.steps, "Steps of Adam; 0 compares the window and elu1 alone, without training")
      ->check(at_least(0))
      ->capture_default_str()
      ->group(group);
  command.add_option("--hidden", o.hidden, "Outputs of phi's layers before the last")
      ->check(width)
      ->default_str("as --features")
      ->group(group);
  command.add_option("--degree", t.map.degree, "Powers of the features")
      ->check(CLI::Range(1, max_feature_degree))
      ->capture_default_str()
      ->group(group);
  command.add_option("--learning-rate", t.learning_rate, "At its height")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  command.add_option("--seed", t.seed, "Of everything that is drawn")->capture_default_str()->group(group);
}

}  // namespace

void add_tune_options(CLI::App& command, TuneOptions& o) {
  train::Distillation& t = o.training;
  command
      .add_option("--layer", o.layers,
                  "A layer's name and three .npy files, [frames, tokens, heads, dim]; once a layer and clip")
      ->required()
      ->allow_extra_args(false)
      ->type_name("NAME=Q,K,V");
  const auto width = CLI::Range(std::int64_t{1}, max_feature_dim);
  add_grid(command, "--chunk-frames", o.chunk_frames, at_least(1), "Frames of a chunk");
  add_grid(command, "--overlap-frames", o.overlap_frames, at_least(0),
           "Frames before a chunk that keep softmax");
  add_grid(command, "--features", o.features, width, "Features of a token: multiples of --degree");
  command
      .add_option("--budget", o.budgets,
                  "Operations of all layers, or up to 1 as a share of those of softmax: the choice of a "
                  "setting for each layer, or softmax, with the least sum of errors. One or several: 0.3,0.5")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::PositiveNumber);
  command.add_option("--frames", o.frames, "Frames of the video that operations are counted for")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->default_str("those of the layer's first clip");
  command
      .add_option("--validation-frames", t.validation_frames,
                  "The last of each clip: not trained on, errors are measured on them")
      ->check(at_least(1))
      ->capture_default_str();
  add_choice(command, "--teacher", t.teacher, teacher_names,
             "Softmax over the chunk and all before, or the clip", "causal");
  command.add_option("--scale", t.scale, "Factor of the scores")->default_str("1/sqrt(head dim)");
  add_training(command, o);
  command.add_option("--threads", o.threads, "Workers, one for a head; the errors do not depend on them")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command.add_option("--isa", o.isa, "Instruction set of the kernels: auto, scalar, avx2, avx512 or neon")
      ->capture_default_str();
  command.footer(
      "An error is sum |y - teacher| / sum |teacher|, over heads, channels and the queries of the validation "
      "frames of all of a layer's clips. Operations are counted by the definition: 2 a multiply-add.");
}

}  // namespace rehyat::cli
