// Every wrong argument is refused by a message that names it, its value and what was expected; nothing is
// written.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "rehyat/attention.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();

constexpr Geometry geometry{
    .batch = 2, .frames = 4, .tokens_per_frame = 3, .heads_per_kv = 2, .dim = 6, .value_dim = 5};

/// The run refuses the parameters, and leaves everything alone.
template <class P>
void expect_run_refused(P parameters, Written& written, const std::string& message) {
  const Written before = written;
  std::vector<char> memory(1 << 20);
  SerialExecutor serial;
  const Status status = support::call(parameters, {memory.data(), memory.size()}, serial, default_kernels());
  EXPECT_EQ(status.message(), message);
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_TRUE(support::bit_equal(before, written));
}

/// Both the size query and the run refuse the parameters.
template <class P>
void expect_refused(P parameters, Written& written, const std::string& message) {
  const Result<std::size_t> size = workspace_size(parameters, 1);
  ASSERT_FALSE(size.ok()) << "accepted; expected: " << message;
  EXPECT_EQ(size.status().message(), message);
  EXPECT_EQ(size.status().code(), StatusCode::invalid_argument);
  expect_run_refused(parameters, written, message);
}

/// Good parameters of an operator, to be spoiled one by one.
template <class P>
class Spoiler {
 public:
  explicit Spoiler(const P& good)
      : good_(good), written_(good.q.batch, good.q.tokens, good.q.heads, good.v.dim) {
    written_.receive(good_);
    EXPECT_TRUE(workspace_size(good_, 1).ok()) << workspace_size(good_, 1).status().message();
  }

  template <class F>
  void refuse(const std::string& message, F spoil) {
    P bad = good_;
    spoil(bad);
    expect_refused(bad, written_, message);
  }

  /// Without memory behind a tensor the size is what it is with it, and the run refuses.
  template <class F>
  void refuse_to_run(const std::string& message, F take_memory) {
    P bad = good_;
    take_memory(bad);
    const Result<std::size_t> size = workspace_size(bad, 3);
    ASSERT_TRUE(size.ok()) << size.status().message();
    EXPECT_EQ(*size, *workspace_size(good_, 3));
    expect_run_refused(bad, written_, message);
  }

 private:
  P good_;
  Written written_;
};

class ErrorsTest : public testing::Test {
 protected:
  Random random_{1};
  TestClip clip_{random_, geometry, Features::elu1};
  TestClip polynomial_{random_, geometry, Features::polynomial};
  TestClip given_{random_, geometry, Features::given_separate};
};

TEST_F(ErrorsTest, ShapesOfTensors) {
  Spoiler<SoftmaxAttention> softmax(clip_.softmax());
  softmax.refuse("q.dim is 0, expected 1 to 512", [](auto& p) { p.q.dim = 0; });
  softmax.refuse("q.dim is 513, expected 1 to 512", [](auto& p) { p.q.dim = 513; });
  softmax.refuse("v.dim is 513, expected 1 to 512", [](auto& p) { p.v.dim = 513; });
  softmax.refuse("v.dim is -1, expected 1 to 512", [](auto& p) { p.v.dim = -1; });
  softmax.refuse("q.batch is 0, expected at least 1", [](auto& p) { p.q.batch = 0; });
  softmax.refuse("q.heads is 0, expected at least 1", [](auto& p) { p.q.heads = 0; });
  softmax.refuse("k.heads is 0, expected at least 1", [](auto& p) { p.k.heads = 0; });
  softmax.refuse("q.tokens is -1, expected at least 0", [](auto& p) { p.q.tokens = -1; });
  softmax.refuse("k.tokens is -3, expected at least 0", [](auto& p) { p.k.tokens = -3; });
  softmax.refuse("k.heads is 3, expected a divisor of q.heads (2)", [](auto& p) { p.k.heads = 3; });
  softmax.refuse("k.batch is 1, expected 2", [](auto& p) { p.k.batch = 1; });
  softmax.refuse("k.dim is 7, expected 6", [](auto& p) { p.k.dim = 7; });
  softmax.refuse("v.heads is 2, expected 1", [](auto& p) { p.v.heads = 2; });
  softmax.refuse("v.tokens is 11, expected 12", [](auto& p) { p.v.tokens = 11; });
  softmax.refuse("v.batch is 3, expected 2", [](auto& p) { p.v.batch = 3; });
  softmax.refuse("out.dim is 6, expected 5", [](auto& p) { p.out.dim = 6; });
  softmax.refuse("out.heads is 1, expected 2", [](auto& p) { p.out.heads = 1; });
  softmax.refuse("out.tokens is 13, expected 12", [](auto& p) { p.out.tokens = 13; });
  softmax.refuse("out.batch is 1, expected 2", [](auto& p) { p.out.batch = 1; });
  Spoiler<HybridAttention> hybrid(clip_.hybrid(Direction::causal));
  hybrid.refuse("k.tokens is 11, expected q.tokens (12)", [](auto& p) { p.k.tokens = 11; });
}

TEST_F(ErrorsTest, PointersAndStrides) {
  Spoiler<SoftmaxAttention> p(clip_.softmax());
  p.refuse_to_run("q.data is null, expected memory", [](auto& x) { x.q.data = nullptr; });
  p.refuse_to_run("k.data is null, expected memory", [](auto& x) { x.k.data = nullptr; });
  p.refuse_to_run("v.data is null, expected memory", [](auto& x) { x.v.data = nullptr; });
  p.refuse_to_run("out.data is null, expected memory", [](auto& x) { x.out.data = nullptr; });
  const auto reach = [](const char* name, std::int64_t b, std::int64_t t, std::int64_t h) {
    return std::string(name) + " strides are " + std::to_string(b) + ", " + std::to_string(t) + ", " +
           std::to_string(h) + ", expected ones whose reach does not overflow";
  };
  p.refuse(reach("q", 144, huge / 4, 6), [](auto& x) { x.q.token_stride = huge / 4; });
  p.refuse(reach("q", 144, -huge, 6), [](auto& x) { x.q.token_stride = -huge; });
  p.refuse(reach("k", 72, 6, huge / 4),
           [](auto& x) { x.k.heads = 2, x.k.head_stride = huge / 4, x.v.heads = 2; });
  p.refuse(reach("v", -huge - 1, 5, 5), [](auto& x) { x.v.batch_stride = -huge - 1; });
  p.refuse(reach("out", huge / 8, 10, 5), [](auto& x) { x.out.batch_stride = huge / 8; });
  const auto overlap = [](const char* name, std::int64_t b, std::int64_t t, std::int64_t h) {
    return std::string(name) + " strides are " + std::to_string(b) + ", " + std::to_string(t) + ", " +
           std::to_string(h) + ", expected ones that give every element its own address";
  };
  p.refuse(overlap("out", 120, 10, 4), [](auto& x) { x.out.head_stride = 4; });
  p.refuse(overlap("out", 120, 9, 5), [](auto& x) { x.out.token_stride = 9; });
  p.refuse(overlap("out", 119, 10, 5), [](auto& x) { x.out.batch_stride = 119; });
  p.refuse(overlap("out", 0, 10, 5), [](auto& x) { x.out.batch_stride = 0; });
  p.refuse(overlap("out", 120, -9, 5), [](auto& x) { x.out.token_stride = -9; });
  p.refuse(overlap("statistics.row_max", 24, 1, 1), [](auto& x) { x.statistics.row_max.token_stride = 1; });
}

/// Broadcast views have any sizes they like, and sums over chunks grow with them.
TEST_F(ErrorsTest, Sizes) {
  Spoiler<SoftmaxAttention> p(clip_.softmax());
  p.refuse("k is 2 x 4611686018427387904 x 1 x 6, expected sizes whose product does not overflow",
           [](auto& x) {
             x.k.tokens = x.v.tokens = huge / 2 + 1;
             x.k.token_stride = x.v.token_stride = 0;
             x.key_tokens = {};
           });
  const std::int64_t frames = std::int64_t{1} << 50;
  Spoiler<HybridAttention> hybrid(clip_.hybrid(Direction::bidirectional));
  hybrid.refuse("q.tokens is 1125899906842624, expected a workspace whose size does not overflow",
                [&](auto& x) {
                  for (InputView* view : {&x.q, &x.k, &x.v}) view->tokens = frames, view->token_stride = 0;
                  x.out.tokens = frames, x.out.batch_stride = frames * x.out.token_stride;
                  x.statistics = {};
                  x.chunking = {.tokens_per_frame = 1, .chunk_frames = 1, .overlap_frames = 1};
                  x.phi_q = x.phi_k = FeatureMap::elu1();
                  x.frames = {};
                });
}

TEST_F(ErrorsTest, Statistics) {
  Spoiler<HybridAttention> p(clip_.hybrid(Direction::bidirectional));
  p.refuse("statistics.row_max.dim is 2, expected 1", [](auto& x) { x.statistics.row_max.dim = 2; });
  p.refuse("statistics.row_sum.heads is 1, expected 2", [](auto& x) { x.statistics.row_sum.heads = 1; });
  p.refuse("statistics.linear_denominator.tokens is 3, expected 12",
           [](auto& x) { x.statistics.linear_denominator.tokens = 3; });
}

TEST_F(ErrorsTest, ChunkingRateAndCounts) {
  Spoiler<HybridAttention> hybrid(clip_.hybrid(Direction::causal));
  hybrid.refuse("chunking.tokens_per_frame is 0, expected at least 1",
                [](auto& p) { p.chunking.tokens_per_frame = 0; });
  hybrid.refuse("chunking.tokens_per_frame is 5, expected a divisor of q.tokens (12)",
                [](auto& p) { p.chunking.tokens_per_frame = 5; });
  hybrid.refuse("chunking.chunk_frames is 0, expected at least 1",
                [](auto& p) { p.chunking.chunk_frames = 0; });
  hybrid.refuse("chunking.overlap_frames is -1, expected at least 0",
                [](auto& p) { p.chunking.overlap_frames = -1; });
  const std::int64_t three[] = {1, 2, 3}, negative[] = {1, -1}, many[] = {1, 5}, tokens[] = {13, 1},
                     none[] = {0, 1};
  hybrid.refuse("frames.size() is 3, expected q.batch (2) or none", [&](auto& p) { p.frames = three; });
  hybrid.refuse("frames[1] is -1, expected 0 to 4", [&](auto& p) { p.frames = negative; });
  hybrid.refuse("frames[1] is 5, expected 0 to 4", [&](auto& p) { p.frames = many; });
  Spoiler<LinearAttention> linear(clip_.linear(Direction::causal));
  linear.refuse("chunking.overlap_frames is 1, expected 0 for linear attention",
                [](auto& p) { p.chunking.overlap_frames = 1; });
  linear.refuse("frames[1] is 5, expected 0 to 4", [&](auto& p) { p.frames = many; });
  Spoiler<UniformAttention> uniform(clip_.uniform());
  uniform.refuse("rate is 0, expected at least 1", [](auto& p) { p.rate = 0; });
  uniform.refuse("tokens[0] is 13, expected 0 to 12", [&](auto& p) { p.tokens = tokens; });
  Spoiler<SoftmaxAttention> softmax(clip_.softmax());
  softmax.refuse("query_tokens[0] is 13, expected 0 to 12", [&](auto& p) { p.query_tokens = tokens; });
  softmax.refuse("key_tokens.size() is 3, expected q.batch (2) or none",
                 [&](auto& p) { p.key_tokens = three; });
  softmax.refuse("key_tokens is 0, expected at least 1 where there are queries",
                 [&](auto& p) { p.key_tokens = none; });
  softmax.refuse("k.tokens is 0, expected at least 1 where there are queries",
                 [](auto& p) { p.k.tokens = p.v.tokens = 0; });
}

TEST_F(ErrorsTest, ScaleEpsilonAndFloor) {
  Spoiler<HybridAttention> p(clip_.hybrid(Direction::causal));
  p.refuse("scale is nan, expected a finite number", [](auto& x) { x.scale = nan; });
  p.refuse("scale is inf, expected a finite number", [](auto& x) { x.scale = inf; });
  p.refuse("scale is 3e+38, expected one whose product with log2(e) is finite",
           [](auto& x) { x.scale = 3e38f; });
  p.refuse("denominator_epsilon is -1, expected a finite number >= 0",
           [](auto& x) { x.denominator_epsilon = -1; });
  p.refuse("denominator_epsilon is nan, expected a finite number >= 0",
           [](auto& x) { x.denominator_epsilon = nan; });
  p.refuse("denominator_epsilon is inf, expected a finite number >= 0",
           [](auto& x) { x.denominator_epsilon = inf; });
  p.refuse("denominator_floor is -0.5, expected a finite number >= 0",
           [](auto& x) { x.denominator_floor = -0.5f; });
  p.refuse("denominator_floor is inf, expected a finite number >= 0",
           [](auto& x) { x.denominator_floor = inf; });
  p.refuse("denominator_epsilon is 0.5, expected 0 with Stabilizer::none",
           [](auto& x) { x.stabilizer = Stabilizer::none, x.denominator_epsilon = 0.5f; });
  p.refuse("denominator_floor is 0.5, expected 0 with Stabilizer::none",
           [](auto& x) { x.stabilizer = Stabilizer::none, x.denominator_floor = 0.5f; });
}

TEST_F(ErrorsTest, FeatureMaps) {
  Spoiler<UniformAttention> p(polynomial_.uniform());
  p.refuse("phi_q is unset, expected a feature map (linear keys need one)", [](auto& x) { x.phi_q = {}; });
  p.refuse("phi_k is unset, expected a feature map (linear keys need one)", [](auto& x) { x.phi_k = {}; });
  p.refuse("phi_q.num_layers is 0, expected 1 to 3", [](auto& x) { x.phi_q.num_layers = 0; });
  p.refuse("phi_k.num_layers is 4, expected 1 to 3", [](auto& x) { x.phi_k.num_layers = 4; });
  p.refuse("phi_q.degree is 0, expected 1 to 4", [](auto& x) { x.phi_q.degree = 0; });
  p.refuse("phi_q.degree is 5, expected 1 to 4", [](auto& x) { x.phi_q.degree = 5; });
  p.refuse("phi_q.heads is 1, expected the heads of its side (2)", [](auto& x) { x.phi_q.heads = 1; });
  p.refuse("phi_k.heads is 2, expected the heads of its side (1)", [](auto& x) { x.phi_k.heads = 2; });
  p.refuse("phi_q.layers[].weight of layer is 0, expected not null",
           [](auto& x) { x.phi_q.layers[0].weight = nullptr; });
  p.refuse("phi_k.layers[].out_dim is 0, expected 1 to 16384",
           [](auto& x) { x.phi_k.layers[0].out_dim = 0; });
  p.refuse("phi_k.layers[].out_dim is 16385, expected 1 to 16384",
           [](auto& x) { x.phi_k.layers[0].out_dim = 16385; });
  const auto last = [](FeatureMap& map) -> std::int64_t& { return map.layers[map.num_layers - 1].out_dim; };
  p.refuse("phi_q.feature_dim is 7, expected a multiple of its degree",
           [&](auto& x) { x.phi_q.degree = 2, last(x.phi_q) = 7; });
  p.refuse("phi_k.feature_dim is 24, expected that of phi_q (12)",
           [&](auto& x) { x.phi_q.degree = x.phi_k.degree = 1, last(x.phi_q) = 12, last(x.phi_k) = 24; });
  p.refuse("phi_q is given, expected given features on both sides or on neither",
           [](auto& x) { x.phi_q = FeatureMap::given(5); });
  p.refuse("phi_k is given, expected given features on both sides or on neither",
           [](auto& x) { x.phi_k = FeatureMap::given(5); });
}

TEST_F(ErrorsTest, GivenFeatures) {
  Spoiler<HybridAttention> p(given_.hybrid(Direction::causal));
  p.refuse("phi_q.given_dim is 0, expected 1 to 16384",
           [](auto& x) { x.phi_q = x.phi_k = FeatureMap::given(0); });
  p.refuse("phi_q.given_dim is 16385, expected 1 to 16384",
           [](auto& x) { x.phi_q = x.phi_k = FeatureMap::given(16385); });
  p.refuse("phi_k.feature_dim is 4, expected that of phi_q (5)", [](auto& x) { x.phi_k.given_dim = 4; });
  p.refuse("given.k.batch is 0, expected 2",
           [](auto& x) { x.given.k = TensorView<const float>{.batch = 0}; });
  p.refuse_to_run("given.k.data is null, expected memory", [](auto& x) { x.given.k.data = nullptr; });
  p.refuse_to_run("given.q.data is null, expected memory", [](auto& x) { x.given.q.data = nullptr; });
  p.refuse("given.q.dim is 4, expected 5", [](auto& x) { x.given.q.dim = 4; });
  p.refuse("given.q.heads is 1, expected 2", [](auto& x) { x.given.q.heads = 1; });
  p.refuse("given.k_denominator.tokens is 9, expected 12", [](auto& x) { x.given.k_denominator.tokens = 9; });
  p.refuse("given.q_denominator.dim is 6, expected 5", [](auto& x) { x.given.q_denominator.dim = 6; });
  p.refuse("given.q_denominator (its counterpart is set) is null, expected memory",
           [](auto& x) { x.given.q_denominator = {}; });
  p.refuse("given.k_denominator (its counterpart is set) is null, expected memory",
           [](auto& x) { x.given.k_denominator = {}; });
}

TEST_F(ErrorsTest, WorkspaceAndSlots) {
  HybridAttention p = clip_.hybrid(Direction::causal);
  Written written(2, 12, 2, 5);
  written.receive(p);
  const Written before = written;
  EXPECT_STREQ(workspace_size(p, 0).status().message(), "slots is 0, expected at least 1");
  EXPECT_STREQ(workspace_size(p, -2).status().message(), "slots is -2, expected at least 1");
  const std::size_t needed = *workspace_size(p, 1);
  std::vector<char> memory(needed);
  SerialExecutor serial;
  Status status = hybrid_attention(p, {memory.data(), needed - 1}, serial);
  EXPECT_EQ(status.code(), StatusCode::workspace_too_small);
  EXPECT_EQ(status.message(), "workspace.size is " + std::to_string(needed - 1) + ", expected at least " +
                                  std::to_string(needed) + " bytes for 1 slots");
  status = hybrid_attention(p, {nullptr, needed}, serial);
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_STREQ(status.message(), "workspace.data is null, expected memory");
  EXPECT_TRUE(support::bit_equal(before, written));
  EXPECT_TRUE(hybrid_attention(p, {memory.data(), needed}, serial).ok());
  EXPECT_FALSE(support::bit_equal(before, written));
}

TEST(StatusTest, MessagesAreCutAtTheirCapacity) {
  const Status status = Status::error(StatusCode::invalid_file, "%s", std::string(1000, 'x').c_str());
  EXPECT_EQ(status.message(), std::string(246, 'x'));
  EXPECT_EQ(status.code(), StatusCode::invalid_file);
  EXPECT_TRUE(Status().ok());
  EXPECT_STREQ(Status().message(), "");
}

}  // namespace
}  // namespace rehyat
