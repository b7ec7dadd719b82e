#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "clips.hpp"
#include "tune.hpp"

namespace rehyat::cli {

/// What reads the keys that are outside the window.
enum class Beyond { softmax, nothing, elu1, phi };
inline constexpr const char* beyond_names[] = {"softmax", "window", "elu1", "phi"};

/// sum |y - teacher| / sum |teacher| on the validation frames.
struct SettingError {
  double of_layer = 0;
  std::vector<double> by_head = {};
  std::int64_t silent_heads = 0;  ///< that learnt nothing better than their window
};

/// One way to run a layer.
struct Setting {
  Beyond beyond = Beyond::softmax;
  std::int64_t chunk_frames = 0, overlap_frames = 0;  ///< not of softmax
  std::int64_t features = 0;                          ///< of elu1 and phi
  double operations = 0;
  std::optional<SettingError> error = {};  ///< once measured

  std::string text() const;
};

/// A layer, its clips, and the ways to run it.
struct TunedLayer {
  std::string name;
  std::vector<Clip> clips = {};
  std::vector<train::DistillationClip> views = {};
  std::int64_t frames = 0;             ///< that operations are counted for
  std::vector<Setting> settings = {};  ///< softmax first

  const Setting& softmax() const { return settings[0]; }
};

/// The map that a setting of so many features trains.
FeatureMap map_of(const TuneOptions& options, std::int64_t features);

/// Loads the layers that the options name, and plans their settings. Throws BadInput.
std::vector<TunedLayer> load_layers(const TuneOptions& options);

}  // namespace rehyat::cli
