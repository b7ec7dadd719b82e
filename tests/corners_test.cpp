// Cases that random clips hardly ever meet, each of which shows a mistake that nothing else does.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/reference.hpp"
#include "support/clip_stream.hpp"
#include "support/compare.hpp"
#include "support/guard_pages.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/random_feature_map.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::evaluate;
using support::Features;
using support::GuardedTensor;
using support::Random;
using support::TestClip;
using support::Written;

class CornersTest : public support::IsaTest {
 protected:
  /// Bytes of workspace of an operator that has outputs.
  template <class P>
  std::size_t bytes(P parameters) {
    Written written(parameters.q.batch, parameters.q.tokens, parameters.q.heads, parameters.v.dim);
    written.receive(parameters);
    const Result<std::size_t> size = workspace_size(parameters, 1, kernels());
    EXPECT_TRUE(size.ok()) << size.status().message();
    return size.ok() ? *size : 0;
  }
};

/// Scratch holds the widest layer of either map. Everything else is so small that the arrays of these layers
/// are the end of it.
TEST_P(CornersTest, FeatureMapsOfUnlikeWidths) {
  Random random(1);
  TestClip clip(random, {.frames = 5, .overlap_frames = 0, .dim = 1, .value_dim = 1}, Features::elu1);
  for (const auto& [q, k] : {std::pair{1, 90}, {90, 1}, {65, 64}, {64, 65}}) {
    SCOPED_TRACE(testing::Message() << q << " and " << k << " hidden units");
    const support::RandomFeatureMap phi_q(random, 1, 1, {.hidden_dim = q, .feature_dim = 2}),
        phi_k(random, 1, 1, {.hidden_dim = k, .feature_dim = 2});
    clip.phi_q = phi_q.map(), clip.phi_k = phi_k.map();
    for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
      const HybridAttention p = clip.hybrid(direction);
      const reference::Output exact = reference::by_sums(reference::case_of(p, 0));
      const Written written = evaluate(p, kernels());
      EXPECT_LE(support::relative_error(written.out, exact.y.values), 1e-5);
      EXPECT_NEAR(written.report.smallest, exact.report().smallest, 1e-4);
    }
  }
}

/// Sums of nothing are exactly zero, also where a segment of the clip has no frames.
TEST_P(CornersTest, DeadKeysLeaveNoTrace) {
  Random random(2);
  for (const std::int64_t overlap : {0, 1, 2, 3}) {
    TestClip clip(random, {.frames = 7, .chunk_frames = 2, .overlap_frames = overlap}, Features::relu);
    for (float& x : clip.q) x = std::abs(x);
    for (float& x : clip.k) x = -std::abs(x);
    for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
      for (const float sum : evaluate(clip.hybrid(direction), kernels()).linear_denominator)
        ASSERT_EQ(sum, 0);
      for (const float sum : evaluate(clip.linear(direction), kernels()).linear_denominator)
        ASSERT_EQ(sum, 0);
    }
  }
}

/// Every key is a softmax key: nothing is left of the linear branch, its memory neither.
TEST_P(CornersTest, UniformOfRateOneIsSoftmax) {
  Random random(3);
  TestClip clip(random, {.frames = 5, .tokens_per_frame = 30}, Features::polynomial);
  clip.rate = 1;
  EXPECT_TRUE(bit_equal(evaluate(clip.uniform(), kernels()), evaluate(clip.softmax(), kernels())));
  EXPECT_EQ(bytes(clip.uniform()), bytes(clip.softmax()));
}

/// A key of -inf is looked for where a score is -inf: in the keys of the block and in no row after them.
TEST_P(CornersTest, InfiniteKeyAtTheEndOfAView) {
  Random random(4);
  for (const std::int64_t keys : {1, 5, 128, 130}) {
    SCOPED_TRACE(keys);
    GuardedTensor k(1, keys, 1, 1);
    std::vector<float> values(static_cast<std::size_t>(keys), 1.0f);
    values.back() = -INFINITY;
    k.assign(values);
    const std::vector<float> q(3, 1.0f);
    const auto q_view = TensorView<const float>::token_major(q.data(), 1, 3, 1, 1);
    const SoftmaxAttention p{.q = q_view, .k = k.input(), .v = k.input()};
    for (const float y : evaluate(p, kernels()).out) EXPECT_TRUE(std::isnan(y));
  }
}

/// Nobody reads what the last chunk would leave, and its increment may end behind the clip.
TEST_P(CornersTest, AShortLastChunkIsNotAbsorbed) {
  Random random(8);
  for (const std::int64_t frames : {1, 3}) {
    const TestClip clip(random, {.frames = frames, .tokens_per_frame = 40, .overlap_frames = 0, .dim = 4},
                        Features::elu1);
    HybridAttention p = clip.hybrid(Direction::causal);
    const Written expected = evaluate(p, kernels());
    GuardedTensor k(1, p.k.tokens, 1, p.k.dim), v(1, p.v.tokens, 1, p.v.dim);
    k.assign(clip.k), v.assign(clip.v);
    p.k = k.input(), p.v = v.input();
    EXPECT_TRUE(bit_equal(evaluate(p, kernels()), expected));
  }
}

/// relu(-inf) is 0 and leaves no trace by itself, be it the only feature or the last of many.
TEST_P(CornersTest, ReluHidesNoInfinity) {
  Random random(6);
  for (const std::int64_t dim : {1, 17, 40}) {
    for (const std::int64_t at : {std::int64_t{0}, dim / 2, dim - 1}) {
      SCOPED_TRACE(testing::Message() << "element " << at << " of " << dim);
      TestClip clip(random, {.dim = dim, .value_dim = 1}, Features::relu);
      for (auto* values : {&clip.q, &clip.k}) {
        for (float& x : *values) x = std::abs(x);
      }
      const auto out_with_infinity_in = [&](std::vector<float>& values) {
        const std::vector<float> before = values;
        values[static_cast<std::size_t>(dim + at)] = -INFINITY;  // of the second token
        const Written written = evaluate(clip.linear(Direction::bidirectional), kernels());
        values = before;
        return written.out;
      };
      const std::vector<float> keys = out_with_infinity_in(clip.k), queries = out_with_infinity_in(clip.q);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        EXPECT_FALSE(std::isfinite(keys[i])) << i;
        EXPECT_EQ(std::isfinite(queries[i]), i != 1) << i;
      }
    }
  }
}

/// Guards that are round numbers, alone and together, against the division done by hand.
TEST_P(CornersTest, GuardedDenominators) {
  const float q = 0.5f, k = 0.5f, v = 4;
  const auto view = [](const float& x) { return TensorView<const float>::token_major(&x, 1, 1, 1, 1); };
  LinearAttention p{.q = view(q),
                    .k = view(k),
                    .v = view(v),
                    .phi_q = FeatureMap::identity(),
                    .phi_k = FeatureMap::identity()};
  for (const float epsilon : {0.0f, 0.25f, 1.0f}) {
    for (const float floor : {0.0f, 0.25f, 0.5f, 1.0f, 2.0f}) {
      SCOPED_TRACE(testing::Message() << "epsilon " << epsilon << ", floor " << floor);
      p.denominator_epsilon = epsilon, p.denominator_floor = floor;
      EXPECT_FLOAT_EQ(evaluate(p, kernels()).out[0], 1 / std::max(0.25f + epsilon, floor));
    }
  }
}

/// Rows of the state's sums are padded: with zeros, never with what the workspace held.
TEST_P(CornersTest, StatesHoldNothingOfTheWorkspace) {
  Random random(7);
  for (const std::int64_t value_dim : {1, 5, 16, 17}) {
    const TestClip clip(random, {.frames = 6, .dim = 3, .value_dim = value_dim}, Features::elu1);
    support::OwnedState state(clip.recurrent(RecurrentSchedule::hybrid), 1,
                              kernels());  // its workspace is NaN
    SerialExecutor serial;
    support::stream(clip, state, serial);
    const float* memory = reinterpret_cast<const float*>(state.memory().data());
    for (std::size_t i = 0; i < 2 * state.memory().size(); ++i) ASSERT_TRUE(std::isfinite(memory[i])) << i;
  }
}

/// The workspace is what its arrays take, to 5 %: a block of queries, keys and values, a state or two.
TEST_P(CornersTest, WorkspaceHasNoSlack) {
  Random random(5);
  TestClip clip(random, {.frames = 3, .tokens_per_frame = 60, .chunk_frames = 1, .dim = 64, .value_dim = 96},
                Features::elu1);
  const support::RandomFeatureMap map(random, 1, 64, {.hidden_dim = 256, .feature_dim = 128});
  clip.phi_q = clip.phi_k = map.map();
  const std::int64_t block = kernels().query_block, blocks = ceil_div(60, block), groups = 1, spans = 2;
  const std::int64_t attend =
      blocks * block * (64 + 96) + block * (128 + 128 + 2 * 256 + 96) + 128 * (64 + 96);
  const std::int64_t absorb = 192 * (128 + 96) + block * 2 * 256, sums = 128 * 96 + 128;
  const std::int64_t floats = std::max(attend, absorb) + (2 + groups + spans - 1) * sums;
  EXPECT_LE(bytes(clip.hybrid(Direction::causal)),
            static_cast<std::size_t>(floats) * sizeof(float) * 105 / 100);
}

REHYAT_TEST_ALL_ISAS(CornersTest);

}  // namespace
}  // namespace rehyat
