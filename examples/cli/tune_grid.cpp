#include "tune_grid.hpp"

#include <algorithm>
#include <cmath>

#include "bad_input.hpp"
#include "rehyat/operation_count.hpp"

namespace rehyat::cli {
namespace {

/// The layer of that name; a new one at the end where there is none.
TunedLayer& layer_named(std::vector<TunedLayer>& layers, const std::string& name) {
  const auto found =
      std::find_if(layers.begin(), layers.end(), [&](const TunedLayer& l) { return l.name == name; });
  return found != layers.end() ? *found : layers.emplace_back(TunedLayer{.name = name});
}

/// The operator's parameters for a video of the layer's `frames`: no data.
template <class Operator>
Operator sized(const TunedLayer& layer) {
  const train::DistillationClip& clip = layer.views[0];
  Operator p{.q = clip.q, .k = clip.k, .v = clip.v};
  p.q.tokens = p.k.tokens = p.v.tokens = layer.frames * clip.tokens_per_frame;
  return p;
}

double operations_of(const Setting& setting, const TunedLayer& layer, const TuneOptions& options) {
  if (setting.beyond == Beyond::softmax) return operation_count(sized<SoftmaxAttention>(layer)).total();
  HybridAttention p = sized<HybridAttention>(layer);
  p.chunking = {layer.views[0].tokens_per_frame, setting.chunk_frames, setting.overlap_frames};
  p.phi_q = p.phi_k = setting.beyond == Beyond::phi ? map_of(options, setting.features) : FeatureMap::elu1();
  const OperationCount count = operation_count(p);
  return setting.beyond == Beyond::nothing ? count.softmax : count.total();
}

void plan(TunedLayer& layer, const TuneOptions& options) {
  layer.settings = {{.beyond = Beyond::softmax, .error = SettingError{}}};
  for (const std::int64_t chunk : options.chunk_frames) {
    for (const std::int64_t overlap : options.overlap_frames) {
      layer.settings.push_back({Beyond::nothing, chunk, overlap});
      layer.settings.push_back({Beyond::elu1, chunk, overlap, layer.views[0].q.dim});
      for (const std::int64_t features : options.features) {
        if (options.training.steps > 0) layer.settings.push_back({Beyond::phi, chunk, overlap, features});
      }
    }
  }
  for (Setting& setting : layer.settings) setting.operations = operations_of(setting, layer, options);
  layer.settings[0].error->by_head.resize(static_cast<std::size_t>(layer.views[0].q.heads));
}

}  // namespace

std::string Setting::text() const {
  if (beyond == Beyond::softmax) return "softmax";
  std::string text = "chunk " + std::to_string(chunk_frames) + ", overlap " + std::to_string(overlap_frames) +
                     ", " + (beyond == Beyond::nothing ? "window alone" : name_of(beyond, beyond_names));
  if (beyond == Beyond::phi) text += " of " + std::to_string(features);
  return text;
}

FeatureMap map_of(const TuneOptions& options, std::int64_t features) {
  FeatureMap map = options.training.map;
  for (int i = 0; i < map.num_layers; ++i) {
    map.layers[i].out_dim = i + 1 == map.num_layers ? features : options.hidden.value_or(features);
  }
  return map;
}

std::vector<TunedLayer> load_layers(const TuneOptions& options) {
  std::vector<TunedLayer> layers;
  for (const std::string& given : options.layers) {
    const std::size_t equals = given.find('=');
    if (equals == 0 || equals == std::string::npos) {
      throw BadInput("--layer " + given + ": expected NAME=Q,K,V");
    }
    TunedLayer& layer = layer_named(layers, given.substr(0, equals));
    layer.clips.push_back(map_clip("--layer " + layer.name, given.substr(equals + 1)));
    check_finite(layer.clips.back());  // now rather than after the layers before have been trained
  }
  for (TunedLayer& layer : layers) {
    for (const Clip& clip : layer.clips) layer.views.push_back(clip.view());
    layer.frames = options.frames.value_or(layer.clips[0].q.frames());
    plan(layer, options);
  }
  return layers;
}

}  // namespace rehyat::cli
