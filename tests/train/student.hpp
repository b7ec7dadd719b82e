#pragma once
// A distillation of random clips, small enough to be run many times.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "rehyat/train/distillation.hpp"
#include "support/random.hpp"
#include "support/run.hpp"

namespace rehyat::support {

inline constexpr auto go_on = [](const train::DistillationProgress&) { return true; };

/// Clips whose queries look for keys like themselves, and what distilling them gives.
class Student {
 public:
  explicit Student(std::int64_t num_clips = 1, std::int64_t frames = 8) {
    Random random(1);
    for (std::int64_t c = 0; c < num_clips; ++c) {
      const std::int64_t tokens = (frames + c) * tokens_per_frame;
      q_.push_back(random.normals(tokens * heads * dim, 1.5f));
      k_.push_back(random.normals(tokens * kv_heads * dim));
      v_.push_back(random.normals(tokens * kv_heads * value_dim));
    }
    for (std::size_t c = 0; c < q_.size(); ++c) {
      const std::int64_t tokens = static_cast<std::int64_t>(k_[c].size()) / (kv_heads * dim);
      const auto view = [&](const std::vector<float>& values, std::int64_t num_heads, std::int64_t width) {
        return TensorView<const float>::token_major(values.data(), 1, tokens, num_heads, width);
      };
      clips_.push_back({view(q_[c], heads, dim), view(k_[c], kv_heads, dim), view(v_[c], kv_heads, value_dim),
                        tokens_per_frame});
    }
    p.clips = clips_;
    p.chunk_frames = 2, p.overlap_frames = 1, p.validation_frames = 2;
    p.map = {.kind = FeatureMap::Kind::polynomial,
             .num_layers = 2,
             .degree = 2,
             .output_activation = Activation::softplus};
    p.map.layers[0].out_dim = 24, p.map.layers[1].out_dim = 16;
    p.steps = 60, p.warmup_steps = 5, p.learning_rate = 0.02f;  // as high as so few steps need it
    allocate();
  }
  Student(const Student&) = delete;
  Student& operator=(const Student&) = delete;

  void allocate() {
    for (auto [memory, num_heads, arrays] :
         {std::tuple{&phi_q, heads, &p.phi_q}, std::tuple{&phi_k, kv_heads, &p.phi_k}}) {
      memory->assign(static_cast<std::size_t>(train::weight_count(p.map, num_heads, dim)), untouched);
      *arrays = train::weights_in(memory->data(), p.map, num_heads, dim);
    }
  }

  template <class E, class Observe>
  Status distill(E& executor, Observe observe) {
    results.assign(heads, {});
    const Result<std::size_t> size = train::workspace_size(p, executor.slots());
    if (!size.ok()) return size.status();
    NanWorkspace workspace(*size);
    return train::distill(p, results, workspace.get(), executor, observe);
  }
  template <class E>
  void distill(E& executor) {
    const Status status = distill(executor, go_on);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  std::vector<float> all_weights() const {
    std::vector<float> all = phi_q;
    all.insert(all.end(), phi_k.begin(), phi_k.end());
    return all;
  }
  std::vector<float>& values(std::size_t clip) { return v_[clip]; }
  std::vector<float>& queries(std::size_t clip) { return q_[clip]; }
  std::vector<float>& keys(std::size_t clip) { return k_[clip]; }

  static constexpr std::int64_t tokens_per_frame = 12, heads = 4, kv_heads = 2, dim = 6, value_dim = 5;
  static constexpr float untouched = -12345.5f;
  train::Distillation p;
  std::vector<float> phi_q, phi_k;
  std::vector<train::DistilledHead> results;

 private:
  std::vector<std::vector<float>> q_, k_, v_;
  std::vector<train::DistillationClip> clips_;
};

}  // namespace rehyat::support
