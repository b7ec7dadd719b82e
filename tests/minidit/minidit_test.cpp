// examples/minidit: the model against PyTorch, and chunk by chunk against the whole clip at once.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../../examples/cli/bad_input.hpp"
#include "attention.hpp"
#include "denoise.hpp"
#include "model.hpp"
#include "noise.hpp"
#include "pictures.hpp"
#include "rehyat/io/npy.hpp"
#include "rehyat/thread_pool.hpp"
#include "sampler.hpp"

namespace rehyat::minidit {
namespace {

using cli::BadInput;
using cli::require;

const std::string data_folder = REHYAT_MINIDIT_TEST_DATA_DIR;

const TensorFile& shipped_weights() {
  static const TensorFile file = require(TensorFile::read(REHYAT_MINIDIT_WEIGHTS));
  return file;
}
const Model& model() {
  static const Model shipped(shipped_weights());
  return shipped;
}
const TensorFile& golden_phi() {
  static const TensorFile file = require(TensorFile::read((data_folder + "/phi.safetensors").c_str()));
  return file;
}

// As in make_golden.py.
constexpr Grid grid{3, 4};
constexpr Index frames = 7, first_frame = 3;
constexpr float noise_level = 0.6f;
const std::string mixed = "softmax,hybrid,window,causal";
const std::vector<std::string> recurrent = {"causal", "window", "hybrid", "hybrid,window,causal,hybrid"};

Matrix load(const std::string& name) {
  const NpyArray array = require(read_npy((data_folder + "/" + name + ".npy").c_str()));
  return Eigen::Map<const Matrix>(array.data.data(), array.shape[0] * array.shape[1], array.shape[2]);
}

AttentionPlan plan_of(const std::string& choice, Index chunk_frames = 3, Index overlap_frames = 1) {
  return make_plan(
      choice, model(), golden_phi(),
      {.tokens_per_frame = grid.tokens(), .chunk_frames = chunk_frames, .overlap_frames = overlap_frames});
}

Clip clip_of(const Matrix& latents, Index clean_frames = 1) {
  return {.latents = latents,
          .grid = grid,
          .noise_level = noise_level,
          .clean_frames = clean_frames,
          .first_frame = first_frame};
}

Matrix at_once(const AttentionPlan& plan, const Clip& clip, ExecutorRef executor) {
  OneShotAttention attention(plan, executor);
  return model().velocity(clip, attention, executor);
}

bool same_bits(const Matrix& a, const Matrix& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

TEST(Minidit, ComputesWhatPyTorchDoes) {
  SerialExecutor executor;
  const std::string choices[] = {"softmax", "causal", "window", "hybrid", mixed};
  const Matrix latents = load("latents");
  std::vector<Matrix> results;
  for (int i = 0; i < 5; ++i) {
    const Matrix expected = load("velocity_" + std::to_string(i));
    results.push_back(at_once(plan_of(choices[i]), clip_of(latents), executor));
    const float error = (results.back() - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff();
    EXPECT_LT(error, 5e-5f) << choices[i];  // float32 in another order: seen below 1e-5
    for (int other = 0; other < i; ++other) {
      const float difference =
          (results.back() - results[static_cast<std::size_t>(other)]).cwiseAbs().maxCoeff();
      EXPECT_GT(difference, 0.01f) << choices[i] << " is told from " << choices[other];
    }
  }
}

TEST(Minidit, ChunkByChunkEqualsTheWholeClip) {
  SerialExecutor executor;
  const Matrix latents = load("latents");
  for (const Index overlap : {1, 0, 4}) {
    for (const std::string& choice : recurrent) {
      if (overlap != 1 && choice != recurrent.back()) continue;  // it has all; a model takes its time
      const AttentionPlan plan = plan_of(choice, 3, overlap);
      const Matrix whole = at_once(plan, clip_of(latents), executor);
      StreamingAttention attention(plan, model().heads(), executor);
      Matrix parts(latents.rows(), latents.cols());
      for (Index begin = 0; begin < frames; begin += 3) {
        const Index rows = std::min<Index>(3, frames - begin) * grid.tokens();
        const Matrix chunk = latents.middleRows(begin * grid.tokens(), rows);
        Clip clip = clip_of(chunk, begin == 0 ? 1 : 0);
        clip.first_frame += begin;
        const Matrix peeked = model().velocity(clip, attention, executor);
        attention.commit(true);
        const Matrix committed = model().velocity(clip, attention, executor);
        attention.commit(false);
        EXPECT_TRUE(same_bits(peeked, committed)) << choice << ", a peek leaves no trace";
        parts.middleRows(begin * grid.tokens(), rows) = committed;
      }
      EXPECT_TRUE(same_bits(parts, whole)) << choice << ", overlap " << overlap;
    }
  }
}

TEST(Minidit, ThreadsDoNotMatter) {
  const Matrix latents = load("latents");
  SerialExecutor serial;
  ThreadPool pool(3);
  const AttentionPlan plan = plan_of(mixed);
  EXPECT_TRUE(same_bits(at_once(plan, clip_of(latents), serial), at_once(plan, clip_of(latents), pool)));
}

TEST(Minidit, DenoisingErrorLeavesOutTheGivenFrame) {
  SerialExecutor executor;
  class Nothing final : public Attention {
    void attend(const LayerTensors& t) override {
      std::fill_n(t.out.data, t.out.tokens * t.out.token_stride, 0.0f);
    }
  } attention;
  Matrix latents = load("latents");
  const DenoisingError error = denoising_error(model(), latents, grid, 0.5f, 1, attention, executor);
  latents.topRows(grid.tokens()).setConstant(100);
  const DenoisingError other = denoising_error(model(), latents, grid, 0.5f, 1, attention, executor);
  EXPECT_EQ(error.noisy, other.noisy);
  EXPECT_EQ(error.predicted, other.predicted);
  const Index noised = latents.rows() - grid.tokens();
  const Matrix drawn = noise(1, grid.tokens(), noised, latents.cols());
  const Matrix difference = 0.5f * (drawn - latents.bottomRows(noised));
  EXPECT_NEAR(error.noisy, difference.squaredNorm() / static_cast<float>(difference.size()), 1e-5);
}

TEST(Minidit, NoiseIsStandardNormalHoweverItIsCut) {
  const Matrix whole = noise(5, 0, 1000, 64);
  EXPECT_NEAR(whole.mean(), 0, 0.02);
  EXPECT_NEAR(whole.squaredNorm() / static_cast<float>(whole.size()), 1, 0.03);
  EXPECT_TRUE(same_bits(noise(5, 300, 7, 64), whole.middleRows(300, 7)));
  EXPECT_FALSE(same_bits(noise(6, 0, 1000, 64), whole));
}

/// All frames that a sampler makes, with one Euler step a chunk.
Matrix sample(const AttentionPlan& plan, Index count, SamplerSettings settings,
              std::vector<std::size_t>& bytes) {
  SerialExecutor executor;
  Sampler sampler(model(), plan, grid, settings, executor);
  const Matrix given = load("latents").topRows(grid.tokens());
  Matrix video(count * grid.tokens(), model().channels());
  for (Index begin = 0; begin < count; begin += 3) {
    const Index chunk = std::min<Index>(3, count - begin);
    video.middleRows(begin * grid.tokens(), chunk * grid.tokens()) = sampler.next(chunk, given);
    bytes.push_back(sampler.state_bytes());
  }
  return video;
}

/// What one Euler step from noise gives for frames [begin, end) after the frames before, all at once.
Matrix one_step(const AttentionPlan& plan, const Matrix& before, Index begin, Index end) {
  SerialExecutor executor;
  const Index tokens = grid.tokens(), rows = (end - begin) * tokens;
  const Matrix start = noise(1, begin * tokens, rows, model().channels());
  Matrix x(before.rows() + rows, model().channels());
  x << before, start;
  const Clip clip{.latents = x, .grid = grid, .noise_level = 1, .clean_frames = before.rows() / tokens};
  return start + at_once(plan, clip, executor).bottomRows(rows);
}

TEST(Sampler, EachChunkIsTheOneShotModelAfterCleanFrames) {
  for (const std::string& choice : recurrent) {
    const AttentionPlan plan = plan_of(choice);
    std::vector<std::size_t> bytes;
    const Matrix video = sample(plan, 8, {.steps = 1, .seed = 1, .context_frames = 0}, bytes);
    const Index tokens = grid.tokens();
    EXPECT_TRUE(same_bits(video.topRows(tokens), load("latents").topRows(tokens))) << "the given frame";
    for (const Index begin : {3, 6}) {
      const Index end = std::min<Index>(begin + 3, 8);
      const Matrix expected = one_step(plan, video.topRows(begin * tokens), begin, end);
      const Matrix made = video.middleRows(begin * tokens, (end - begin) * tokens);
      EXPECT_LT((made - expected).cwiseAbs().maxCoeff(), 1e-5f) << choice << ", frames from " << begin;
    }
  }
}

TEST(Sampler, StaysInItsContextAndInConstantMemory) {
  const AttentionPlan plan = plan_of("hybrid,window,hybrid,window");
  std::vector<std::size_t> bytes;
  const Matrix video = sample(plan, 15, {.steps = 1, .seed = 1, .context_frames = 9}, bytes);
  EXPECT_EQ(bytes, std::vector<std::size_t>(5, bytes.front()));
  // Chunk 3 would be at positions 9 to 11: chunk 2 is at 0 to 2 again, and it comes behind.
  const Index tokens = grid.tokens();
  const Matrix before = video.middleRows(6 * tokens, 3 * tokens);
  const Matrix expected = one_step(plan, before, 9, 12);
  EXPECT_LT((video.middleRows(9 * tokens, 3 * tokens) - expected).cwiseAbs().maxCoeff(), 1e-5f);
}

TEST(Pictures, PutEachPatchInItsPlace) {
  const PatchBasis basis(shipped_weights(), model().channels());
  Matrix latents = Matrix::Zero(basis.grid().tokens(), model().channels());
  const Picture plain = basis.picture(latents);
  ASSERT_EQ(plain.height, 288);
  ASSERT_EQ(plain.width, 384);
  latents(2 * basis.grid().width + 5, 0) = 1;  // row 2, column 5
  const Picture changed = basis.picture(latents);
  for (Index y = 0; y < plain.height; ++y) {
    for (Index x = 0; x < plain.width; ++x) {
      const auto i = static_cast<std::size_t>((y * plain.width + x) * 3);
      const bool same =
          std::equal(plain.rgb.begin() + static_cast<Index>(i), plain.rgb.begin() + static_cast<Index>(i) + 3,
                     changed.rgb.begin() + static_cast<Index>(i));
      EXPECT_EQ(same, y / 16 != 2 || x / 16 != 5) << x << ", " << y;
    }
  }
}

TEST(Minidit, Refuses) {
  SerialExecutor executor;
  EXPECT_THROW(plan_of("hybrid,softmax"), BadInput);
  EXPECT_THROW(plan_of("flash"), BadInput);
  EXPECT_THROW(plan_of(""), BadInput);
  EXPECT_THROW(make_plan("hybrid", model(), shipped_weights(), {.tokens_per_frame = 12}), BadInput);
  EXPECT_THROW(StreamingAttention(plan_of(mixed), model().heads(), executor), BadInput);
  EXPECT_THROW(Sampler(model(), plan_of("window"), grid, {.context_frames = 5}, executor), BadInput);
  EXPECT_THROW(Model{golden_phi()}, BadInput);
  EXPECT_THROW(PatchBasis(golden_phi(), 64), BadInput);
}

}  // namespace
}  // namespace rehyat::minidit
