#include "options.hpp"

#include <string>
#include <vector>

#include "option_kinds.hpp"

namespace rehyat::cli {
namespace {

void add_feature_map(CLI::App& command, AttendOptions& o) {
  const char* const group = "Feature map";
  command.add_option("--phi", o.phi, "Weights of polynomial feature maps, .safetensors")->group(group);
  command
      .add_option_function<std::string>(
          "--feature-map",
          [&o](const std::string& name) {
            o.feature_map = name == "elu1"   ? Activation::elu1
                            : name == "relu" ? Activation::relu
                                             : Activation::identity;
          },
          "A feature map without weights")
      ->check(CLI::IsMember(std::vector<std::string>{"elu1", "relu", "identity"}))
      ->group(group);
  command.add_option("--phi-q", o.phi_q, "The queries' features, .npy as q but F wide")->group(group);
  command.add_option("--phi-k", o.phi_k, "The keys' features, .npy as k but F wide")->group(group);
  command
      .add_option("--phi-q-den", o.phi_q_den, "The queries' features in the denominator, where they differ")
      ->group(group);
  command.add_option("--phi-k-den", o.phi_k_den, "The keys' features in the denominator, where they differ")
      ->group(group);
}

void add_schedule(CLI::App& command, AttendOptions& o) {
  add_choice(command, "--schedule", o.schedule, schedule_names, "Which keys get softmax, which are linear",
             "hybrid");
  command.add_option("--chunk-frames", o.chunk_frames, "Frames of a chunk")
      ->check(at_least(1))
      ->default_str("3");
  command.add_option("--overlap-frames", o.overlap_frames, "Frames before a chunk that keep softmax")
      ->check(at_least(0))
      ->default_str("1");
  command.add_option("--rate", o.rate, "uniform: every RATE-th token keeps softmax")->check(at_least(1));
  add_choice(command, "--direction", o.direction, direction_names, "Which keys a chunk may see", "causal");
  add_choice(command, "--mode", o.mode, mode_names,
             "The whole clip in one call, or chunk by chunk through a state",
             "oneshot, recurrent with --state-in or --state-out");
  command.add_option("--state-in", o.state_in, "Continue the clip from the state that an earlier run wrote");
  command.add_option(
      "--state-out", o.state_out,
      "Write the state for a run that continues; frames are then a multiple of --chunk-frames");
  add_choice(command, "--stabilizer", o.stabilizer, stabilizer_names,
             "How the exponentials are scaled against the linear branch", "row_max");
  command.add_option("--scale", o.scale, "Factor of the scores")->default_str("1/sqrt(head dim)");
  command.add_option("--denominator-epsilon", o.denominator_epsilon, "Added to every denominator")
      ->default_str("0");
  command
      .add_option("--denominator-floor", o.denominator_floor, "Least magnitude of a denominator, sign kept")
      ->default_str("0");
}

}  // namespace

Chunking AttendOptions::chunking(std::int64_t tokens_per_frame) const {
  const std::int64_t default_overlap = schedule == Schedule::hybrid ? Chunking{}.overlap_frames : 0;
  return {.tokens_per_frame = tokens_per_frame,
          .chunk_frames = chunk_frames.value_or(Chunking{}.chunk_frames),
          .overlap_frames = overlap_frames.value_or(default_overlap)};
}

void add_attend_options(CLI::App& command, AttendOptions& o, bool required) {
  command.add_option("--q", o.q, "Queries, .npy [frames, tokens, heads, dim] or [N, heads, dim]")
      ->required(required);
  command.add_option("--k", o.k, "Keys, .npy; their heads divide those of q")->required(required);
  command.add_option("--v", o.v, "Values, .npy")->required(required);
  command.add_option("--frames", o.frames, "Frames of [N, heads, dim] arrays")->check(at_least(1));
  command.add_option("--out", o.out, "The result, float32 .npy; replaced as a whole or left alone")
      ->required(required);
  add_schedule(command, o);
  add_feature_map(command, o);
  add_choice(command, "--arithmetic", o.arithmetic, arithmetic_names, "What is multiplied in", "float32");
  add_choice(command, "--storage", o.storage, storage_names,
             "What q, k, v, given features and the tail are rounded to before anything else", "f32");
  command.add_option("--threads", o.threads, "Workers; the result does not depend on them")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command.add_option("--isa", o.isa, "Instruction set: auto, scalar, avx2, avx512 or neon")
      ->capture_default_str();
  command.add_option("--repeat", o.repeat, "Runs, of whose times the median is reported")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
}

}  // namespace rehyat::cli
