#include "distill.hpp"
#include "option_kinds.hpp"
#include "rehyat/io/safetensors.hpp"

namespace rehyat::cli {
namespace {

void add_activation(CLI::App& command, const char* option, Activation& target,
                    std::vector<std::string> choices, const char* description) {
  const auto assign = [&target](const std::string& name) {
    for (const NamedActivation& known : named_activations) {
      if (known.name == name) target = known.value;
    }
  };
  command.add_option_function<std::string>(option, assign, description)
      ->check(CLI::IsMember(choices))
      ->default_str(activation_name(target));
}

void add_map(CLI::App& command, DistillOptions& o) {
  const auto width = CLI::Range(std::int64_t{1}, max_feature_dim);
  FeatureMap& map = o.training.map;
  command.add_option("--layers", map.num_layers, "Layers of phi")
      ->check(CLI::Range(1, max_feature_layers))
      ->capture_default_str();
  command.add_option("--hidden", o.hidden, "Outputs of the layers before the last")
      ->check(width)
      ->capture_default_str();
  command.add_option("--features", o.features, "Features of a token: a multiple of --degree")
      ->check(width)
      ->capture_default_str();
  command.add_option("--degree", map.degree, "Powers: part i of the features is raised to the power i")
      ->check(CLI::Range(1, max_feature_degree))
      ->capture_default_str();
  add_activation(command, "--activation", map.activation,
                 {"identity", "relu", "gelu", "silu", "softplus", "elu1"}, "Between the layers");
  add_activation(command, "--output-activation", map.output_activation, {"softplus", "relu", "elu1"},
                 "After the last layer");
}

}  // namespace

void add_distill_options(CLI::App& command, DistillOptions& o) {
  train::Distillation& t = o.training;
  command
      .add_option("--clip", o.clips,
                  "Q,K,V: three .npy files of one layer, [frames, tokens, heads, dim]; once a clip")
      ->required()
      ->type_name("Q,K,V");
  command.add_option("--out", o.out, "phi_q and phi_k, .safetensors; replaced as a whole or left alone")
      ->required();
  command.add_option("--chunk-frames", t.chunk_frames, "Frames of a chunk")
      ->check(at_least(1))
      ->capture_default_str();
  command.add_option("--overlap-frames", t.overlap_frames, "Frames before a chunk that keep softmax")
      ->check(at_least(0))
      ->capture_default_str();
  add_choice(command, "--teacher", t.teacher, teacher_names,
             "Softmax over the chunk and all before, or the clip", "causal");
  command.add_option("--scale", t.scale, "Factor of the scores")->default_str("1/sqrt(head dim)");
  add_map(command, o);
  add_choice(command, "--initial", t.initialization, initial_names,
             "Where training begins: nearly silent, or with features that tell a token's place in the frame",
             "silent");
  command.add_option("--place-steps", t.place_steps, "Steps that teach them, before --steps")
      ->check(at_least(0))
      ->capture_default_str();
  add_choice(command, "--loss", t.loss, loss_names, "The distance to the teacher", "l1");
  command.add_option("--steps", t.steps, "Steps of Adam")->check(at_least(0))->capture_default_str();
  command.add_option("--learning-rate", t.learning_rate, "At its height")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--warmup-steps", t.warmup_steps, "Steps up to that height, from which a cosine leads to 0")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--batch-clips", t.batch_clips, "Clips of a step, drawn at random; 0 for all")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--batch-chunks", t.batch_chunks, "Chunks of a step, drawn at random; 0 for all")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_flag("--keep-chunks", o.keep_chunks,
                   "Cut each step's clips at the same frames, not from a random one of the first on");
  command
      .add_option("--validation-frames", t.validation_frames,
                  "The last of each clip: not trained on, they choose the weights")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--evaluate-every", t.evaluate_every, "Steps between two looks at the validation frames")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--patience", t.patience, "Looks without a new best before a head is done; 0: all steps")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--seed", t.seed, "Of everything that is drawn")->capture_default_str();
  command.add_option("--threads", o.threads, "Workers, one for a head; the result does not depend on them")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command.add_option("--isa", o.isa, "Instruction set of the kernels: auto, scalar, avx2, avx512 or neon")
      ->capture_default_str();
}

}  // namespace rehyat::cli
