// What distillation promises: it learns, the same bits however it is run, heads that are never worse than
// their window, frames that are not looked at, and refusals.

#include "rehyat/train/distillation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/run.hpp"

namespace rehyat {
namespace {

using support::Random;
using train::DistillationProgress;
using train::DistilledHead;

constexpr auto go_on = [](const DistillationProgress&) { return true; };

/// Clips whose queries look for keys like themselves, and what distilling them gives.
class Student {
 public:
  explicit Student(std::int64_t num_clips = 1, float sharpness = 1.5f) {
    Random random(1);
    for (std::int64_t c = 0; c < num_clips; ++c) {
      const std::int64_t tokens = (8 + c) * tokens_per_frame;
      q_.push_back(random.normals(tokens * heads * dim, sharpness));
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
      memory->assign(static_cast<std::size_t>(train::weight_count(p.map, num_heads, dim)), support_untouched);
      *arrays = train::weights_in(memory->data(), p.map, num_heads, dim);
    }
  }

  template <class E, class Observe>
  Status distill(E& executor, Observe observe) {
    results.assign(heads, {});
    const Result<std::size_t> size = train::workspace_size(p, executor.slots());
    if (!size.ok()) return size.status();
    support::NanWorkspace workspace(*size);
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
  std::vector<float>& keys(std::size_t clip) { return k_[clip]; }

  static constexpr std::int64_t tokens_per_frame = 12, heads = 4, kv_heads = 2, dim = 6, value_dim = 5;
  static constexpr float support_untouched = -12345.5f;
  train::Distillation p;
  std::vector<float> phi_q, phi_k;
  std::vector<DistilledHead> results;

 private:
  std::vector<std::vector<float>> q_, k_, v_;
  std::vector<train::DistillationClip> clips_;
};

TEST(DistillationTest, Learns) {
  for (const train::Teacher teacher : {train::Teacher::causal, train::Teacher::full}) {
    for (const Activation activation : {Activation::softplus, Activation::relu, Activation::elu1}) {
      Student student;
      student.p.teacher = teacher, student.p.map.output_activation = activation;
      SerialExecutor serial;
      student.distill(serial);
      for (const DistilledHead& head : student.results) {
        EXPECT_LT(head.distilled.train.relative_l1(), 0.9 * head.window.train.relative_l1());
        EXPECT_GT(head.elu1.train.relative_l1(), 0);
      }
    }
  }
}

/// What the report says is what hybrid attention gives with the weights as written.
TEST(DistillationTest, ReportsWhatHybridAttentionGives) {
  Student student;
  SerialExecutor serial;
  student.distill(serial);
  const train::DistillationClip& clip = student.p.clips[0];
  std::vector<float> memory(static_cast<std::size_t>(clip.q.tokens * Student::heads * Student::value_dim)),
      exact = memory;
  const auto view = [&](std::vector<float>& values) {
    return TensorView<float>::token_major(values.data(), 1, clip.q.tokens, Student::heads,
                                          Student::value_dim);
  };
  HybridAttention hybrid{.q = clip.q, .k = clip.k, .v = clip.v, .out = view(memory)};
  hybrid.chunking = {Student::tokens_per_frame, 2, 1};
  hybrid.phi_q = train::distilled_map(student.p.map, student.p.phi_q, Student::heads);
  hybrid.phi_k = train::distilled_map(student.p.map, student.p.phi_k, Student::kv_heads);
  support::run(hybrid, default_kernels());
  HybridAttention causal = hybrid;
  causal.out = view(exact), causal.chunking.overlap_frames = 8;  // all that came before
  support::run(causal, default_kernels());
  for (std::int64_t h = 0; h < Student::heads; ++h) {
    train::FrameErrors errors;
    for (std::int64_t i = 2 * Student::tokens_per_frame; i < clip.q.tokens; ++i) {
      auto& error = i < 6 * Student::tokens_per_frame ? errors.train : errors.validation;
      for (std::int64_t c = 0; c < Student::value_dim; ++c) {
        const auto at = static_cast<std::size_t>((i * Student::heads + h) * Student::value_dim + c);
        error.difference += std::abs(static_cast<double>(memory[at]) - static_cast<double>(exact[at]));
        error.size += std::abs(static_cast<double>(exact[at]));
      }
    }
    const train::FrameErrors& reported = student.results[static_cast<std::size_t>(h)].distilled;
    EXPECT_NEAR(reported.train.relative_l1(), errors.train.relative_l1(), 1e-5);
    EXPECT_NEAR(reported.validation.relative_l1(), errors.validation.relative_l1(), 1e-5);
  }
}

/// Several clips, small batches.
TEST(DistillationTest, TheBitsDoNotDependOnTheExecutor) {
  for (const std::uint64_t seed : support::seeds(4)) {
    SCOPED_TRACE(support::replay(seed));
    const auto distilled = [&](auto&& executor) {
      Student student(2);
      student.p.seed = seed;
      student.p.batch_chunks = seed % 2 == 0 ? 0 : 3;
      student.p.loss = seed % 3 == 0 ? train::DistillationLoss::l2 : train::DistillationLoss::l1;
      student.p.steps = 15;
      student.distill(executor);
      EXPECT_TRUE(support::all_finite(student.all_weights()));
      return student.all_weights();
    };
    const std::vector<float> expected = distilled(SerialExecutor());
    EXPECT_TRUE(support::bit_equal(distilled(SerialExecutor()), expected));
    EXPECT_TRUE(support::bit_equal(distilled(ThreadPool(3)), expected));
    EXPECT_TRUE(support::bit_equal(distilled(support::Shuffling(seed)), expected));
    EXPECT_TRUE(support::bit_equal(distilled(support::Wasteful()), expected));
  }
}

TEST(DistillationTest, TheSeedMatters) {
  SerialExecutor serial;
  Student one, other;
  other.p.seed = 1;
  one.p.steps = other.p.steps = 3;
  one.distill(serial), other.distill(serial);
  EXPECT_FALSE(support::bit_equal(one.all_weights(), other.all_weights()));
}

/// Training does not see the last frames: with other values there, what a step leads to is the same.
TEST(DistillationTest, ValidationFramesAreNotTrainedOn) {
  SerialExecutor serial;
  Student one, other;
  for (auto* values : {&other.values(0), &other.keys(0)}) {
    const std::size_t held_out = values->size() / 8 * 2;
    for (std::size_t i = values->size() - held_out; i < values->size(); ++i) (*values)[i] *= 3;
  }
  const auto losses_of = [&](Student& student) {
    std::vector<double> losses;
    student.p.evaluate_every = 1;
    EXPECT_TRUE(student
                    .distill(serial,
                             [&](const DistillationProgress& progress) {
                               if (progress.kv_head == 0 && progress.step > 0)
                                 losses.push_back(progress.loss);
                               return true;
                             })
                    .ok());
    return losses;
  };
  EXPECT_EQ(losses_of(one), losses_of(other));
  EXPECT_NE(one.results[0].distilled.validation.size, other.results[0].distilled.validation.size);
}

/// One step with a rate that ruins everything: the weights are the first ones or none.
TEST(DistillationTest, KeepsTheBestWeights) {
  SerialExecutor serial;
  Student student;
  student.p.steps = 4, student.p.warmup_steps = 0, student.p.learning_rate = 1e4f,
  student.p.evaluate_every = 1;
  student.distill(serial);
  for (const DistilledHead& head : student.results) {
    EXPECT_LE(head.distilled.validation.difference, head.window.validation.difference);
  }
  EXPECT_EQ(student.results[0].best_step, 0);
}

/// A window that is all: the teacher sees no more than it, and any linear branch makes it worse.
TEST(DistillationTest, FallsBackToTheWindow) {
  Student student;
  for (std::size_t i = 0; i < student.keys(0).size(); ++i) {
    // each frame's keys are a hundred times those of the frame before: the window holds the teacher's mass
    const std::size_t frame = i / (Student::tokens_per_frame * Student::kv_heads * Student::dim);
    student.keys(0)[i] *= static_cast<float>(std::pow(30.0, static_cast<double>(frame)) * 1e-3);
  }
  student.p.steps = 2, student.p.learning_rate = 3, student.p.warmup_steps = 0;
  SerialExecutor serial;
  student.distill(serial);
  int silent = 0;
  for (std::int64_t h = 0; h < Student::heads; ++h) {
    const DistilledHead& head = student.results[static_cast<std::size_t>(h)];
    EXPECT_LE(head.distilled.validation.difference, head.window.validation.difference);
    if (!head.fell_back) continue;
    ++silent;
    EXPECT_EQ(head.distilled.train.difference, head.window.train.difference);
    EXPECT_EQ(student.p.phi_q.bias[1][h * 16], -100);
    EXPECT_EQ(student.p.phi_q.weight[1][h * 16 * 24], 0);
  }
  EXPECT_GT(silent, 0);
}

TEST(DistillationTest, StopsWhenItIsTold) {
  SerialExecutor serial;
  Student student;
  EXPECT_TRUE(student.distill(serial, [](const DistillationProgress& p) { return p.step < 20; }).ok());
  for (const DistilledHead& head : student.results) EXPECT_EQ(head.steps, 20);
  student.p.patience = 1, student.p.evaluate_every = 1, student.p.learning_rate = 1e4f;
  student.distill(serial);
  for (const DistilledHead& head : student.results) EXPECT_LT(head.steps, 10);
}

/// Calls with one thing wrong are refused, name it, and write nothing.
TEST(DistillationTest, Refusals) {
  const auto expect_refused = [](const char* says, auto change) {
    Student student;
    std::vector<train::DistillationClip> clips(student.p.clips.begin(), student.p.clips.end());
    student.p.clips = clips;
    change(student, clips);
    SerialExecutor serial;
    const Status status = student.distill(serial, go_on);
    EXPECT_FALSE(status.ok()) << says;
    EXPECT_NE(std::string(status.message()).find(says), std::string::npos) << status.message();
    const std::vector<float> weights = student.all_weights();
    EXPECT_TRUE(
        std::all_of(weights.begin(), weights.end(), [](float x) { return x == Student::support_untouched; }));
  };
  using Clips = std::vector<train::DistillationClip>;
  expect_refused("clips.size() is 0", [](Student& s, Clips&) { s.p.clips = {}; });
  expect_refused("chunk_frames is 0", [](Student& s, Clips&) { s.p.chunk_frames = 0; });
  expect_refused("overlap_frames is -1", [](Student& s, Clips&) { s.p.overlap_frames = -1; });
  expect_refused("validation_frames is 0", [](Student& s, Clips&) { s.p.validation_frames = 0; });
  expect_refused("clips[0] has 8 frames", [](Student& s, Clips&) { s.p.validation_frames = 7; });
  expect_refused("clips[0] has 8 frames", [](Student& s, Clips&) { s.p.overlap_frames = 8; });
  expect_refused("learning_rate is 0", [](Student& s, Clips&) { s.p.learning_rate = 0; });
  expect_refused("map.kind", [](Student& s, Clips&) { s.p.map = FeatureMap::elu1(); });
  expect_refused("map.output_activation",
                 [](Student& s, Clips&) { s.p.map.output_activation = Activation::identity; });
  expect_refused("map.feature_dim", [](Student& s, Clips&) { s.p.map.degree = 3; });
  expect_refused("phi_q is null", [](Student& s, Clips&) { s.p.phi_q.bias[1] = nullptr; });
  expect_refused("clips[0]: tokens_per_frame is 7", [](Student&, Clips& c) { c[0].tokens_per_frame = 7; });
  expect_refused("clips[0]: k.dim is 5", [](Student&, Clips& c) { c[0].k.dim = 5; });
  expect_refused("clips[0]: v", [](Student&, Clips& c) { c[0].v.data = nullptr; });
  expect_refused("clips[0] of kv head 0 has a NaN", [](Student& s, Clips&) {
    for (float& x : s.values(0)) x = std::numeric_limits<float>::quiet_NaN();
  });
}

}  // namespace
}  // namespace rehyat
