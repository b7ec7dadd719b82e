#include "options.hpp"

#include "../cli/option_kinds.hpp"

namespace rehyat::minidit {
namespace {

using cli::at_least;

void add_common_options(CLI::App& command, CommonOptions& o) {
  command.add_option("--phi", o.phi, "Feature maps of hybrid layers, .safetensors")
      ->default_str("those of --weights");
  command.add_option("--chunk-frames", o.chunk_frames, "Frames of a chunk")
      ->check(at_least(1))
      ->capture_default_str();
  command.add_option("--overlap-frames", o.overlap_frames, "Frames before a chunk that keep softmax")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--threads", o.threads, "Workers; the result does not depend on them")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command.add_flag("--json", o.json, "Print one JSON object on standard output");
}

constexpr const char* attention_help =
    "softmax, causal, window or hybrid: one for all layers, or one for each, separated by commas";

}  // namespace

void add_denoise_options(CLI::App& command, DenoiseOptions& o) {
  command
      .add_option("--latents", o.clips,
                  "Clips, .npy [frames, tokens, channels]; several are taken one by one")
      ->required();
  command.add_option("--weights", o.weights, "Weights of models, .safetensors; each is tried")->required();
  command.add_option("--attention", o.attention, std::string(attention_help) + "; each is tried")
      ->default_str("what the weights' metadata say");
  command.add_option("--noise", o.noise_levels, "Noise levels t, above 0")
      ->check(CLI::Range(1e-3, 1.0))
      ->default_str("0.4 0.7");
  command.add_option("--seed", o.seed, "Of the noise")->capture_default_str();
  add_common_options(command, o);
}

void add_sample_options(CLI::App& command, SampleOptions& o) {
  command.add_option("--latents", o.clip, "A clip, .npy [frames, tokens, channels], whose frame 0 is given")
      ->required();
  command.add_option("--weights", o.weights, "Weights of the model, .safetensors")->required()->expected(1);
  command.add_option("--attention", o.attention, attention_help)
      ->expected(1)
      ->default_str("what the weights' metadata say");
  command.add_option("--frames", o.frames, "Frames to make, the given one among them")
      ->check(at_least(2))
      ->capture_default_str();
  command.add_option("--steps", o.settings.steps, "Euler steps from noise to a clean chunk")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command.add_option("--seed", o.settings.seed, "Of the noise")->capture_default_str();
  command
      .add_option("--context-frames", o.settings.context_frames,
                  "Positions in time that the model knows; 0 lets them run on")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--out", o.out, "The video: pictures in PPM, one behind the other")->required();
  add_common_options(command, o);
}

}  // namespace rehyat::minidit
