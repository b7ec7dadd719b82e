#pragma once
// Clips of finite numbers at the edge of what float holds, whose outputs are finite all the same.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "random.hpp"
#include "reference/case_of.hpp"
#include "reference/reference.hpp"
#include "test_clip.hpp"

namespace rehyat::support {

struct EdgeClip {
  std::string name;
  TestClip clip;
  bool has_linear_sums = true;  ///< otherwise linear attention alone is 0/0
  bool subnormal = false;       ///< the results depend on numbers below 2^-126
  double tolerance = 1e-5;      ///< of the largest output
};

inline constexpr Geometry edge_geometry{.batch = 2,
                                        .frames = 6,
                                        .tokens_per_frame = 5,
                                        .chunk_frames = 2,
                                        .overlap_frames = 1,
                                        .kv_heads = 2,
                                        .heads_per_kv = 2,
                                        .dim = 17,
                                        .value_dim = 19};

/// A clip with features of size `feature` whose scores are about `score`, and differ by up to 2 or so.
inline TestClip clip_with_scores(Random& random, float score, float feature) {
  TestClip clip(random, edge_geometry, Features::given);
  const std::size_t dim = static_cast<std::size_t>(edge_geometry.dim);
  clip.scale = 1.0f;
  const float size = std::sqrt(std::abs(score));
  for (std::size_t i = 0; i < clip.q.size(); ++i) clip.q[i] = i % dim == 0 ? size : clip.q[i] / 4;
  for (std::size_t i = 0; i < clip.k.size(); ++i) clip.k[i] = i % dim == 0 ? score / size : clip.k[i] / 2;
  for (float& x : clip.given_q) x *= feature;
  for (float& x : clip.given_k) x *= feature;
  return clip;
}

inline void scale_by(std::vector<float>& values, float factor) {
  for (float& x : values) x *= factor;
}

/// What all_results() of a clip should be: exactly, in its order.
inline std::vector<std::vector<double>> exact_results(const TestClip& clip) {
  std::vector<std::vector<double>> all;
  clip.for_each_operator([&](const char*, const auto& p) {
    std::vector<double>& outputs = all.emplace_back();
    for (std::int64_t b = 0; b < p.q.batch; ++b) {
      const std::vector<double> entry = reference::by_sums(reference::case_of(p, b)).y.values;
      outputs.insert(outputs.end(), entry.begin(), entry.end());
    }
  });
  all.push_back(all[1]);  // the recurrences: as hybrid and linear, causal
  all.push_back(all[3]);
  return all;
}

/// With `none` the tiny and the huge features weigh about as much as the softmax keys.
inline std::vector<EdgeClip> edge_clips(Random& random, Stabilizer stabilizer) {
  std::vector<EdgeClip> all;
  const auto add = [&](EdgeClip edge) {
    edge.clip.stabilizer = stabilizer;
    all.push_back(std::move(edge));
  };
  for (const float logit : {1e4f, -1e4f}) {
    const std::string name = logit > 0 ? "logits of 1e4" : "logits of -1e4";
    // a score of 1e4 is known to half a unit in its last place, 5e-4
    add({.name = name, .clip = clip_with_scores(random, logit, 1), .tolerance = 1e-2});
    EdgeClip dead{.name = name + ", dead features", .clip = clip_with_scores(random, logit, 0)};
    dead.has_linear_sums = false, dead.tolerance = 1e-2;
    add(std::move(dead));
  }
  add({.name = "tiny features", .clip = clip_with_scores(random, -72, 1e-16f), .tolerance = 3e-5});
  add({.name = "huge features", .clip = clip_with_scores(random, 82, 1e18f), .tolerance = 3e-5});
  add({.name = "subnormal products of features",
       .clip = clip_with_scores(random, -90, 1e-20f),
       .subnormal = true,
       .tolerance = 1e-3});
  EdgeClip equal{.name = "equal logits", .clip = clip_with_scores(random, 1, 1)};
  for (float& x : equal.clip.q) x = 0;
  add(std::move(equal));
  EdgeClip small_values{.name = "subnormal values", .clip = clip_with_scores(random, 1, 1)};
  scale_by(small_values.clip.v, 1e-41f);
  small_values.subnormal = true, small_values.tolerance = 3e-3;  // of 1e-41, or 2^-149 * 30
  add(std::move(small_values));
  EdgeClip small_scores{.name = "subnormal queries and keys", .clip = clip_with_scores(random, 1, 1)};
  scale_by(small_scores.clip.q, 1e-40f), scale_by(small_scores.clip.k, 1e-40f);
  add(std::move(small_scores));
  EdgeClip overflow{.name = "scores of -infinity", .clip = clip_with_scores(random, 1, 1)};
  for (std::size_t i = 0; i < overflow.clip.q.size(); i += 17) overflow.clip.q[i] = 1e30f;
  for (std::size_t i = 0; i < overflow.clip.k.size(); i += 17)
    overflow.clip.k[i] = i / 34 % 3 == 0 ? 1e-30f : -1e30f;
  add(std::move(overflow));
  return all;
}

}  // namespace rehyat::support
