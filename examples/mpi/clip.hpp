#pragma once
// The clip that rank 0 has, and the feature maps that all have.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention.hpp"
#include "rehyat/io/npy.hpp"
#include "rehyat/io/safetensors.hpp"

namespace rehyat::mpi {

/// What the options say. A size of 0 is that of the query side.
struct Options {
  std::int64_t frames = 24, tokens = 64, batch = 1, heads = 4, kv_heads = 0, head_dim = 64, value_dim = 0;
  std::int64_t feature_dim = 64;  ///< of random feature maps, and the width of their hidden layer
  std::int64_t chunk_frames = 3, overlap_frames = 1;
  std::string q, k, v, phi;  ///< files; empty for random numbers
  std::uint32_t seed = 1;
};

/// The arrays of a clip's files [frames, tokens, heads, dim].
struct ClipFiles {
  NpyArray q, k, v;
};

/// Reads them, and takes their sizes to `options`. Throws std::runtime_error.
ClipFiles read_files(Options& options);

/// Standard normal numbers for q, k and v.
void fill_random(RankTensors& clip, std::uint32_t seed);

/// phi_q and phi_k with the memory they view.
class FeatureMaps {
 public:
  /// Those of options.phi; or random ones of two layers, gelu between and softplus after them, powers 1
  /// and 2. Throws std::runtime_error.
  explicit FeatureMaps(const Options& options);
  FeatureMaps(const FeatureMaps&) = delete;
  FeatureMaps& operator=(const FeatureMaps&) = delete;

  FeatureMap phi_q = {}, phi_k = {};

 private:
  FeatureMap random_map(const Options& options, std::int64_t heads, std::uint32_t seed);

  std::vector<std::vector<float>> random_;
  std::optional<FeatureMapWeights> stored_;
};

/// The recurrence that the options name. Throws std::runtime_error where the library refuses it.
RecurrentConfig config_of(const Options& options, const FeatureMaps& maps);

}  // namespace rehyat::mpi
