// What a step of distillation is drawn from.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "rehyat/train/detail/batch.hpp"
#include "support/compare.hpp"
#include "train/student.hpp"

namespace rehyat {
namespace {

using support::Student;
using train::DistillationProgress;

using Observe = std::function<bool(const DistillationProgress&)>;

/// One instantiation for all.
void distill(Student& student, ExecutorRef executor, const Observe& observe = support::go_on) {
  const Status status = student.distill(executor, observe);
  ASSERT_TRUE(status.ok()) << status.message();
}

TEST(BatchTest, TakesSomeClipsAndSomeOfTheirChunks) {
  const Student student(3);
  train::Distillation p = student.p;
  train::detail::RandomStream random(1, 0);
  std::set<std::size_t> seen;
  for (int i = 0; i < 60; ++i) {
    p.batch_clips = 2, p.batch_chunks = i % 3;
    const auto batch = train::detail::draw_batch(p, random);
    std::set<std::size_t> taken;
    bool whole = true;
    for (std::size_t c = 0; c < batch.size(); ++c) {
      if (batch[c].chunks.empty()) continue;
      taken.insert(c);
      whole &= batch[c].chunks == train::detail::training_cut(p, p.clips[c], batch[c].shift).scored_chunks();
    }
    if (p.batch_chunks == 0) {
      EXPECT_TRUE(whole);
      EXPECT_EQ(taken.size(), 2);
    } else {
      EXPECT_EQ(train::detail::count_chunks(batch), p.batch_chunks);
      EXPECT_LE(taken.size(), 2);
    }
    seen.insert(taken.begin(), taken.end());
  }
  EXPECT_EQ(seen.size(), 3);
}

/// Every clip's distance is by its own teacher's size: how large its values are does not matter.
TEST(BatchTest, NoClipOutweighsTheOthers) {
  const auto losses_with = [](float factor) {
    Student student(2);
    for (float& value : student.values(0)) value *= factor;
    student.p.steps = 8, student.p.evaluate_every = 1;
    std::vector<double> losses;
    SerialExecutor serial;
    distill(student, serial, [&](const DistillationProgress& progress) {
      if (progress.step > 0) losses.push_back(progress.loss);
      return true;
    });
    return losses;
  };
  EXPECT_EQ(losses_with(1), losses_with(0x1p10f));
}

/// Of clips and steps that have nothing to be relative to, nothing is learnt.
TEST(BatchTest, AClipOfZerosDoesNoHarm) {
  Student student(2);
  std::fill(student.values(0).begin(), student.values(0).end(), 0.0f);
  SerialExecutor serial;
  distill(student, serial);
  EXPECT_TRUE(support::all_finite(student.all_weights()));
  for (const train::DistilledHead& head : student.results) EXPECT_FALSE(head.fell_back);
}

}  // namespace
}  // namespace rehyat
