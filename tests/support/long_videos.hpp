#pragma once
// Endless videos of small frames, real ones and ones that float sums do badly on, with features that are
// known exactly.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "random.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/io/npy.hpp"

namespace rehyat::support::long_video {

inline constexpr std::int64_t tokens = 2, features = 8, values = 8;  // of a frame, a key, a value

/// The keys, values and given features of one frame: a chunk.
struct Frame {
  float k[tokens][features] = {}, v[tokens][values] = {};
  float given[tokens][features] = {}, given_denominator[tokens][features] = {};
};

/// A video: fills one frame after the other.
using Video = std::function<void(std::int64_t frame, Frame&)>;

/// Calls set(k, v) for every channel of every token of a frame.
template <class F>
void fill(Frame& f, F set) {
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t d = 0; d < features; ++d) set(f.k[i][d], f.v[i][d]);
  }
}
static_assert(features == values);

inline constexpr int seed = 1;
inline float uniform(Random& random, double low, double high) {
  return static_cast<float>(random.uniform(low, high));
}

/// Keys and values of a real model, repeated with a jitter of 1 %.
inline Video real_arrays() {
  const auto read = [](const char* name) {
    const std::string path = std::string(REHYAT_EXAMPLE_DATA_DIR "/vtest_l2_") + name + ".npy";
    Result<NpyArray> array = read_npy(path.c_str());
    EXPECT_TRUE(array.ok()) << array.status().message();
    return array.ok() ? std::make_shared<NpyArray>(std::move(*array)) : nullptr;
  };
  return [k = read("k"), v = read("v"), random = Random(seed)](std::int64_t frame, Frame& f) mutable {
    if (k == nullptr || v == nullptr) return;
    const std::int64_t row = k->shape[2] * k->shape[3], rows = k->shape[0] * k->shape[1];
    for (std::int64_t i = 0; i < tokens; ++i) {
      const std::int64_t at = (frame * tokens + i) % rows * row;
      for (std::int64_t d = 0; d < features; ++d) {
        f.k[i][d] = k->data.data()[at + d] * uniform(random, 0.99, 1.01);
        f.v[i][d] = v->data.data()[at + d] * uniform(random, 0.99, 1.01);
      }
    }
  };
}

/// What comes later is below half a unit in the last place of what the first frame left in A.
inline Video huge_then_small() {
  return [random = Random(seed)](std::int64_t frame, Frame& f) mutable {
    fill(f, [&](float& k, float& v) {
      k = frame == 0 ? 3e4f : uniform(random, 0.1, 1);
      v = frame == 0 ? 3e4f : uniform(random, 0.5, 1.5);
    });
  };
}

/// Values of 1,000 and -1,000 in turn: sums stay small beside what went into them.
inline Video alternating_signs() {
  return [random = Random(seed)](std::int64_t frame, Frame& f) mutable {
    fill(f, [&](float& k, float& v) {
      k = uniform(random, 0.9, 1.1);
      v = (frame % 2 == 0 ? 1000.0f : -1000.0f) * uniform(random, 0.9, 1.1);
    });
    std::copy_n(&f.k[0][0], tokens * features, &f.given[0][0]);
    for (auto& row : f.given_denominator) {
      for (float& x : row) x = (frame % 2 == 0 ? 1.0f : -1.0f) * uniform(random, 0.9, 1.1);
    }
  };
}

inline Video mean_far_from_zero() {
  return [random = Random(seed)](std::int64_t, Frame& f) mutable {
    fill(f, [&](float& k, float& v) { k = uniform(random, 100, 102), v = uniform(random, -1001, -1000); });
  };
}

inline Video growing() {
  return [random = Random(seed)](std::int64_t frame, Frame& f) mutable {
    const float size = static_cast<float>(frame + 1) / 2;  // within float16
    fill(f, [&](float& k, float& v) { k = size * uniform(random, 0, 1), v = size * uniform(random, 0, 1); });
  };
}

/// A video with a feature map whose float features are known exactly.
struct Signal {
  const char* name;
  Video (*video)();
  FeatureMap phi;
  float (*feature)(float);  ///< of an element of k; unused where the features are given
  bool plain_sums_fail;     ///< float sums of this length are off by more than is allowed to the state
};
inline constexpr Signal signals[] = {
    {"real_arrays", real_arrays, FeatureMap::relu(), [](float x) { return x > 0 ? x : 0.0f; }, true},
    {"huge_then_small", huge_then_small, FeatureMap::elu1(), [](float x) { return x + 1.0f; }, true},
    {"alternating_signs", alternating_signs, FeatureMap::given(features), nullptr, false},
    {"mean_far_from_zero", mean_far_from_zero, FeatureMap::identity(), [](float x) { return x; }, true},
    {"growing", growing, FeatureMap::relu(), [](float x) { return x; }, true},
};

}  // namespace rehyat::support::long_video
