// What the gradients promise beside their values: the same bits however they are run, no allocation, memory
// that grows linearly, only what is wanted, and refusals.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/allocation_counter.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/real_clip.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::RealClip;
using support::TestClip;

template <class Real>
using Bits = std::vector<std::vector<Real>>;

/// Output and gradients, compared as bytes: NaN marks what was not written.
template <class Real, class E>
Bits<Real> everything(const TestClip& clip, Direction direction, E& executor) {
  RealClip<Real> real(clip, direction);
  Bits<Real> result{real.forward(executor)};
  real.backward(result[0], executor);
  for (const auto& x : real.all()) result.push_back(*x.gradient);
  return result;
}

template <class Real>
bool same_bits(const Bits<Real>& a, const Bits<Real>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(Real)) != 0) return false;
  }
  return a.size() == b.size();
}

template <class Real>
void expect_the_same_bits_from_all_executors(const TestClip& clip, Direction direction) {
  SerialExecutor serial;
  ThreadPool two(2), eight(8);
  support::Shuffling shuffling(3);
  support::Wasteful wasteful;
  const Bits<Real> expected = everything<Real>(clip, direction, serial);
  EXPECT_TRUE(same_bits(everything<Real>(clip, direction, two), expected));
  EXPECT_TRUE(same_bits(everything<Real>(clip, direction, eight), expected));
  EXPECT_TRUE(same_bits(everything<Real>(clip, direction, shuffling), expected));
  EXPECT_TRUE(same_bits(everything<Real>(clip, direction, wasteful), expected));
}

TEST(TrainPromisesTest, TheBitsDoNotDependOnTheExecutor) {
  for (const std::uint64_t seed : support::seeds(12)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Geometry g = Geometry::random(random);
    g.batch = 3;
    const TestClip clip = TestClip::random(random, g);
    expect_the_same_bits_from_all_executors<float>(clip, Direction::causal);
    expect_the_same_bits_from_all_executors<double>(clip, Direction::bidirectional);
  }
}

TestClip clip_of(std::int64_t frames, Features features = Features::polynomial) {
  Random random(4);
  return TestClip(
      random,
      {.frames = frames, .tokens_per_frame = 70, .chunk_frames = 2, .overlap_frames = 1, .heads_per_kv = 2},
      features);
}

/// Wide enough that every product is cut: 300 features of 160-dimensional heads.
TEST(TrainPromisesTest, AllocatesNothing) {
  if (!support::AllocationCounter::works()) GTEST_SKIP() << "malloc cannot be replaced in this build";
  Random random(6);
  TestClip clip(random,
                {.frames = 3,
                 .tokens_per_frame = 70,
                 .chunk_frames = 1,
                 .overlap_frames = 1,
                 .dim = 160,
                 .value_dim = 140},
                Features::elu1);
  const support::FeatureMapShape shape{.hidden_dim = 280, .feature_dim = 300};
  for (FeatureMap* map : {&clip.phi_q, &clip.phi_k}) {
    clip.weights.emplace_back(random, 1, 160, shape);
    *map = clip.weights.back().map();
  }
  RealClip<double> real(clip, Direction::bidirectional);
  std::vector<double> out = real.empty_output(), d_out(out.size(), 1.0);
  const auto p = real.parameters();
  const auto d = real.gradients();
  support::NanWorkspace workspace(*train::workspace_size(p, d, 1));
  SerialExecutor serial;
  const TensorView<const double> d_view = real.output_view(d_out);
  support::AllocationCounter counter;
  const bool ok = train::hybrid_attention(p, real.output_view(out), workspace.get(), serial).ok() &&
                  train::hybrid_attention_gradients(p, d_view, d, workspace.get(), serial).ok();
  EXPECT_EQ(counter.stop(), 0);
  EXPECT_TRUE(ok);
}

std::size_t bytes_for(std::int64_t frames, Direction direction) {
  const TestClip clip = clip_of(frames, Features::elu1);
  RealClip<float> real(clip, direction);
  return *train::workspace_size(real.parameters(), real.gradients(), 1);
}

/// Twice the frames, twice what is added; and of that the scores of even one row of queries would be many
/// times.
TEST(TrainPromisesTest, MemoryIsLinear) {
  for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
    const std::size_t one = bytes_for(20, direction), two = bytes_for(40, direction),
                      four = bytes_for(80, direction);
    EXPECT_EQ(four - two, 2 * (two - one));
  }
  const std::size_t tokens = 40 * 70;  // two numbers a token and query head
  EXPECT_EQ(bytes_for(80, Direction::causal) - bytes_for(40, Direction::causal),
            2 * 2 * tokens * sizeof(float));
}

/// Each gradient alone is what it is among all.
TEST(TrainPromisesTest, WhatIsNotWantedChangesNothing) {
  SerialExecutor serial;
  for (const Features features : {Features::polynomial, Features::given_separate}) {
    const TestClip clip = clip_of(5, features);
    RealClip<float> real(clip, Direction::bidirectional);
    std::vector<float> d_out(real.empty_output().size(), 0.5f);
    real.backward(d_out, serial);
    const train::HybridGradients<float> all = real.gradients();
    std::vector<train::HybridGradients<float>> alone(features == Features::polynomial ? 5 : 7);
    alone[0].q = all.q, alone[1].k = all.k, alone[2].v = all.v;
    if (features == Features::polynomial) {
      alone[3].phi_q = all.phi_q, alone[4].phi_k = all.phi_k;
    } else {
      alone[3].given.q = all.given.q, alone[4].given.k = all.given.k;
      alone[5].given.q_denominator = all.given.q_denominator;
      alone[6].given.k_denominator = all.given.k_denominator;
    }
    Bits<float> expected, found;
    for (const auto& x : real.all()) {
      expected.push_back(*x.gradient);
      std::fill(x.gradient->begin(), x.gradient->end(), -1.0f);
    }
    const TensorView<const float> d_view = real.output_view(d_out);
    for (const train::HybridGradients<float>& d : alone) {
      support::NanWorkspace workspace(*train::workspace_size(real.parameters(), d, 1));
      const Status status =
          train::hybrid_attention_gradients(real.parameters(), d_view, d, workspace.get(), serial);
      ASSERT_TRUE(status.ok()) << status.message();
    }
    for (const auto& x : real.all()) found.push_back(*x.gradient);
    EXPECT_TRUE(same_bits(found, expected));
  }
}

/// Heads first, tokens backwards, gradients with gaps, and a broadcast d_out: the same bits.
TEST(TrainPromisesTest, AnyStrides) {
  const TestClip clip = clip_of(3, Features::relu);
  RealClip<float> real(clip, Direction::causal);
  SerialExecutor serial;
  real.backward(std::vector<float>(real.empty_output().size(), 2.0f), serial);
  const auto expected = real.gradients();

  train::HybridAttention<float> p = real.parameters();
  const auto [tokens, heads, dim] = std::tuple(p.q.tokens, p.q.heads, p.q.dim);
  std::vector<float> q(static_cast<std::size_t>(tokens * heads * dim)), d_q(q.size() * 2, 7.0f);
  TensorView<float> backwards{q.data() + (tokens - 1) * dim, 1, tokens, heads, dim, 0, -dim, tokens * dim};
  TensorView<float> gaps{d_q.data(), 1, tokens, heads, dim, 0, heads * dim * 2, dim * 2};
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) std::copy_n(p.q.row(0, t, h), dim, backwards.row(0, t, h));
  }
  p.q = backwards;
  const std::vector<float> row(static_cast<std::size_t>(p.v.dim), 2.0f);
  const TensorView<const float> d_out{row.data(), 1, tokens, heads, p.v.dim, 0, 0, 0};
  const train::HybridGradients<float> d{.q = gaps};
  support::NanWorkspace workspace(*train::workspace_size(p, d, 1));
  ASSERT_TRUE(train::hybrid_attention_gradients(p, d_out, d, workspace.get(), serial).ok());
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < dim; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(gaps.row(0, t, h)[i]),
                  std::bit_cast<std::uint32_t>(expected.q.row(0, t, h)[i]));
        ASSERT_EQ(gaps.row(0, t, h)[dim + i], 7.0f);
      }
    }
  }
}

using Change = std::function<void(train::HybridAttention<float>&, train::HybridGradients<float>&)>;

/// Refused with this message, and nothing is written.
void expect_refusal(const std::string& message, const Change& change) {
  const TestClip clip = clip_of(3);
  RealClip<float> real(clip, Direction::causal);
  train::HybridAttention<float> p = real.parameters();
  train::HybridGradients<float> d = real.gradients();
  change(p, d);
  const Result<std::size_t> size = train::workspace_size(p, d, 1);
  ASSERT_FALSE(size.ok()) << message;
  EXPECT_EQ(size.status().message(), message);
  SerialExecutor serial;
  std::vector<float> d_out(real.empty_output().size());
  const TensorView<const float> d_view = real.output_view(d_out);
  EXPECT_EQ(train::hybrid_attention_gradients(p, d_view, d, {}, serial).message(), message);
  for (const auto& x : real.all()) {
    for (const float e : *x.gradient) ASSERT_EQ(e, 0.0f);
  }
}

TEST(TrainPromisesTest, Refusals) {
  expect_refusal("q.dim is 513, expected 1 to 512", [](auto& p, auto&) { p.q.dim = 513; });
  expect_refusal("k.heads is 3, expected a divisor of q.heads (2)", [](auto& p, auto&) { p.k.heads = 3; });
  expect_refusal("chunking.chunk_frames is 0, expected at least 1",
                 [](auto& p, auto&) { p.chunking.chunk_frames = 0; });
  expect_refusal("phi_q is unset, expected a feature map (linear keys need one)",
                 [](auto& p, auto&) { p.phi_q.map.kind = FeatureMap::Kind::unset; });
  expect_refusal("phi_k.layers[].weight of layer is 0, expected not null",
                 [](auto& p, auto&) { p.phi_k.weight[0] = nullptr; });
  expect_refusal("denominator_floor is 1, expected 0 with Stabilizer::none", [](auto& p, auto&) {
    p.stabilizer = Stabilizer::none;
    p.denominator_floor = 1;
  });
  expect_refusal("phi.map.layout (0: rows) is 1, expected 0",
                 [](auto& p, auto&) { p.phi_q.map.layout = WeightLayout::panels; });
  expect_refusal("gradients.k.tokens is 4, expected 210", [](auto&, auto& d) { d.k.tokens = 4; });
  expect_refusal("gradients.given.q.data is set, expected null: no such features are given",
                 [](auto&, auto& d) { d.given.q = d.q; });
  expect_refusal("gradients.q strides are 0, 0, 8, expected ones that give every element its own address",
                 [](auto&, auto& d) { d.q.batch_stride = d.q.token_stride = 0; });
  expect_refusal(
      "gradients.phi_q lacks the gradient of layer 0's weight, or its bias does not go with the map's",
      [](auto& p, auto& d) { p.phi_q.bias[0] = d.phi_q.bias[0] == nullptr ? p.q.data : nullptr; });
  const TestClip clip = clip_of(3);
  RealClip<float> real(clip, Direction::causal);
  EXPECT_STREQ(train::workspace_size(real.parameters(), 0).status().message(),
               "slots is 0, expected at least 1");
}

}  // namespace
}  // namespace rehyat
