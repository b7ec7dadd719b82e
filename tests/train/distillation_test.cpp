// What distillation promises: it learns, the same bits however it is run, heads that are never worse than
// their window, frames that are not looked at, and refusals.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "train/student.hpp"

namespace rehyat {
namespace {

using support::Student;
using train::DistillationProgress;
using train::DistilledHead;

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

void expect_silent(const Student& student, std::int64_t h) {
  EXPECT_TRUE(student.results[static_cast<std::size_t>(h)].fell_back);
  EXPECT_EQ(student.p.phi_q.bias[1][h * 16], -100);
  EXPECT_EQ(student.p.phi_q.weight[1][h * 16 * 24], 0);
}

/// Steps that are too large: the last look is not the best, and the report is about the best.
TEST(DistillationTest, WritesTheWeightsThatItReports) {
  SerialExecutor serial;
  Student student;
  student.p.learning_rate = 0.3f, student.p.evaluate_every = 1;
  double best[Student::kv_heads], last[Student::kv_heads];
  const auto note = [&](const DistillationProgress& progress) {
    best[progress.kv_head] = progress.best_validation, last[progress.kv_head] = progress.validation;
    return true;
  };
  ASSERT_TRUE(student.distill(serial, note).ok());
  constexpr std::int64_t group = Student::heads / Student::kv_heads;
  for (std::int64_t g = 0; g < Student::kv_heads; ++g) {
    train::DistillationError error;
    for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
      const DistilledHead& head = student.results[static_cast<std::size_t>(h)];
      ASSERT_FALSE(head.fell_back);
      error.difference += head.distilled.validation.difference;
      error.size += head.distilled.validation.size;
    }
    ASSERT_GT(last[g], 1.001 * best[g]);
    EXPECT_NEAR(error.relative_l1(), best[g], 1e-4 * best[g]);
  }
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
    expect_silent(student, h);
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

/// At once: of heads that have not begun not even the inputs are read.
TEST(DistillationTest, EndsBeforeItBeginsWhenItIsTold) {
  SerialExecutor serial;
  Student student;
  std::vector<float>& values = student.values(0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool is_of_head_1 = i / Student::value_dim % Student::kv_heads == 1;
    if (is_of_head_1) values[i] = std::numeric_limits<float>::quiet_NaN();
  }
  std::int64_t asked_of_head_1 = 0;
  const Status status = student.distill(serial, [&](const DistillationProgress& progress) {
    asked_of_head_1 += progress.kv_head;
    return progress.kv_head == 0 && progress.step < 20;
  });
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(asked_of_head_1, 1);
  EXPECT_TRUE(support::all_finite(student.all_weights()));
  for (std::int64_t h = 0; h < Student::heads; ++h) {
    const DistilledHead& head = student.results[static_cast<std::size_t>(h)];
    EXPECT_EQ(head.began, h < Student::heads / Student::kv_heads);
    EXPECT_EQ(head.steps, head.began ? 20 : 0);
    if (head.began) continue;
    EXPECT_EQ(head.window.train.size, 0);
    expect_silent(student, h);
  }
}

/// Calls with one thing wrong are refused, name it, and write nothing.
TEST(DistillationTest, Refusals) {
  const auto expect_refused = [](const char* says, auto change) {
    Student student;
    std::vector<train::DistillationClip> clips(student.p.clips.begin(), student.p.clips.end());
    student.p.clips = clips;
    change(student, clips);
    SerialExecutor serial;
    const Status status = student.distill(serial, support::go_on);
    EXPECT_FALSE(status.ok()) << says;
    EXPECT_NE(std::string(status.message()).find(says), std::string::npos) << status.message();
    const std::vector<float> weights = student.all_weights();
    EXPECT_TRUE(std::all_of(weights.begin(), weights.end(), [](float x) { return x == Student::untouched; }));
  };
  using Clips = std::vector<train::DistillationClip>;
  expect_refused("clips.size() is 0", [](Student& s, Clips&) { s.p.clips = {}; });
  expect_refused("chunk_frames is 0", [](Student& s, Clips&) { s.p.chunk_frames = 0; });
  expect_refused("overlap_frames is -1", [](Student& s, Clips&) { s.p.overlap_frames = -1; });
  expect_refused("validation_frames is 0", [](Student& s, Clips&) { s.p.validation_frames = 0; });
  expect_refused("clips[0] has 8 frames", [](Student& s, Clips&) { s.p.validation_frames = 7; });
  expect_refused("clips[0] has 8 frames", [](Student& s, Clips&) { s.p.overlap_frames = 8; });
  expect_refused("place_steps is -1", [](Student& s, Clips&) { s.p.place_steps = -1; });
  expect_refused("batch_clips is -1", [](Student& s, Clips&) { s.p.batch_clips = -1; });
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
