#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model.hpp"
#include "sampler.hpp"

namespace rehyat::minidit {

struct CommonOptions {
  std::vector<std::string> weights;
  std::optional<std::string> phi;
  std::vector<std::string> attention;
  Index chunk_frames = 3;
  Index overlap_frames = 1;
  int threads = 1;
  bool json = false;
};

struct DenoiseOptions : CommonOptions {
  std::vector<std::string> clips;
  std::vector<float> noise_levels = {0.4f, 0.7f};
  std::uint64_t seed = 1;
};

struct SampleOptions : CommonOptions {
  std::string clip;
  Index frames = 63;
  SamplerSettings settings;
  std::string out;
};

void add_denoise_options(CLI::App& command, DenoiseOptions& options);
void add_sample_options(CLI::App& command, SampleOptions& options);

/// Prints the error of every model, way of attention, clip and noise level.
void denoise_command(const DenoiseOptions& options);
/// Writes a video, and prints what it took.
void sample_command(const SampleOptions& options);

}  // namespace rehyat::minidit
