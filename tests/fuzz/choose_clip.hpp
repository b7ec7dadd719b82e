#pragma once
// A clip with everything that operators need, decided byte by byte; only the bulk of its values is drawn from
// a seed.

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "byte_reader.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat::fuzz {

inline constexpr std::int64_t far = std::int64_t{1} << 40;  ///< frames or tokens that no clip has

/// At most this many elements of k, v and of the queries' rows: thousands of cases a minute.
inline constexpr std::int64_t most_elements = 6000;

inline support::Geometry choose_geometry(ByteReader& bytes) {
  using Choices = std::initializer_list<std::int64_t>;
  static constexpr Choices dims = {4, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 130};
  support::Geometry g{.batch = bytes.pick(Choices{1, 2, 3}),
                      .frames = bytes.pick(Choices{3, 1, 2, 4, 5, 7, 9, 0}),
                      .tokens_per_frame = bytes.pick(Choices{2, 1, 3, 5, 11, 13, 40, 100}),
                      .chunk_frames = bytes.pick(Choices{1, 2, 3, 5, far}),
                      .overlap_frames = bytes.pick(Choices{1, 0, 2, 3, 7, 12, far}),
                      .kv_heads = bytes.pick(Choices{1, 2, 3}),
                      .heads_per_kv = bytes.pick(Choices{1, 2, 3}),
                      .dim = bytes.pick(dims),
                      .value_dim = bytes.pick(dims),
                      .given_dim = bytes.pick(dims)};
  const auto elements = [&] {
    return g.batch * g.tokens() * g.heads() * (g.dim + g.value_dim + g.given_dim);
  };
  while (elements() > most_elements && g.tokens_per_frame > 1)
    g.tokens_per_frame = (g.tokens_per_frame + 1) / 2;
  while (elements() > most_elements && g.frames > 3) --g.frames;
  return g;
}

inline Activation choose_activation(ByteReader& bytes) {
  return bytes.pick({Activation::elu1, Activation::relu, Activation::softplus, Activation::gelu,
                     Activation::silu, Activation::identity});
}

/// Numbers where single precision ends, and what is none.
inline float choose_edge(ByteReader& bytes) {
  constexpr float huge = std::numeric_limits<float>::max(), inf = std::numeric_limits<float>::infinity();
  return bytes.pick({0.0f, -0.0f, 1.0f, -87.0f, 100.0f, -100.0f, 1e4f, -1e4f, 1e-20f,
                     std::numeric_limits<float>::min(), std::numeric_limits<float>::denorm_min(),
                     -std::numeric_limits<float>::denorm_min(), 1e18f, huge, -huge, inf, -inf,
                     std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::signaling_NaN()});
}

inline void choose_values(ByteReader& bytes, support::TestClip& clip) {
  std::vector<std::vector<float>*> tensors;
  for (auto* t : {&clip.q, &clip.k, &clip.v, &clip.given_q, &clip.given_k, &clip.given_q_denominator,
                  &clip.given_k_denominator}) {
    if (!t->empty()) tensors.push_back(t);
  }
  const auto any = [&]() -> std::vector<float>& {
    return *tensors[static_cast<std::size_t>(
        bytes.integer(0, static_cast<std::int64_t>(tensors.size()) - 1))];
  };
  for (std::int64_t i = bytes.integer(0, 3); i > 0; --i) {  // a whole tensor
    std::vector<float>& tensor = any();
    const float factor = bytes.pick({1.0f, -1.0f, 0.0f, 10.0f, 100.0f, 1e-3f, 1e-19f});
    for (float& x : tensor) x *= factor;
  }
  if (bytes.one_in(8)) {
    std::vector<float>& tensor = any();
    std::fill(tensor.begin(), tensor.end(), choose_edge(bytes));
  }
  for (std::int64_t i = bytes.pick({0, 0, 0, 1, 2, 5}); i > 0; --i) {
    std::vector<float>& tensor = any();
    tensor[static_cast<std::size_t>(bytes.integer(0, 65535)) % tensor.size()] = choose_edge(bytes);
  }
}

inline void choose_counts(ByteReader& bytes, support::TestClip& clip) {
  const support::Geometry& g = clip.geometry;
  if (!bytes.coin()) return;
  for (std::int64_t b = 0; b < g.batch; ++b) {
    clip.frames.push_back(bytes.integer(0, g.frames));
    clip.tokens.push_back(bytes.coin() ? clip.frames.back() * g.tokens_per_frame
                                       : bytes.integer(0, g.tokens()));
  }
}

inline support::TestClip choose_clip(ByteReader& bytes) {
  using support::Features;
  support::Geometry geometry = choose_geometry(bytes);
  const bool no_frames = std::exchange(geometry.frames, std::max<std::int64_t>(geometry.frames, 1)) == 0;
  support::Random random(bytes.seed());
  const Features features =
      bytes.pick({Features::polynomial, Features::elu1, Features::given, Features::given_separate});
  support::TestClip clip(random, geometry, features);
  if (no_frames) clip.geometry.frames = 0;  // its views keep their other sizes
  for (FeatureMap* map : {&clip.phi_q, &clip.phi_k}) {
    map->output_activation = choose_activation(bytes);
    map->activation = choose_activation(bytes);
  }
  clip.stabilizer = bytes.pick({Stabilizer::row_max, Stabilizer::none});
  if (bytes.coin()) clip.scale = bytes.pick({1.0f, 0.0f, -0.5f, 0.07f, 10.0f});
  if (clip.stabilizer == Stabilizer::row_max) {
    clip.denominator_epsilon = bytes.pick({0.0f, 0.0f, 1e-3f, 1e-30f, 2.0f});
    clip.denominator_floor = bytes.pick({0.0f, 0.0f, 1.5f, 1e-6f});
  }
  clip.rate = bytes.pick<std::int64_t>({3, 1, 2, 5, 7, far});
  choose_counts(bytes, clip);
  choose_values(bytes, clip);
  return clip;
}

}  // namespace rehyat::fuzz
