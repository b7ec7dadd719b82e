// Forward and gradients for training: against the double reference, and against differences of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/reference.hpp"
#include "support/compare.hpp"
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

/// The reference's output of all batch entries; what lies behind their frames is left as outputs are before.
std::vector<double> reference_output(const TestClip& clip, Direction direction) {
  const Geometry& g = clip.geometry;
  std::vector<double> out(static_cast<std::size_t>(g.batch * g.tokens() * g.heads() * g.value_dim),
                          support::untouched);
  for (std::int64_t b = 0; b < g.batch; ++b) {
    const reference::Output y = reference::by_sums(reference::case_of(clip.hybrid(direction), b));
    std::copy(y.y.values.begin(), y.y.values.end(),
              out.begin() + static_cast<std::ptrdiff_t>(b) * g.tokens() * g.heads() * g.value_dim);
  }
  return out;
}

TestClip random_clip(Random& random) {
  Geometry g = Geometry::random(random);
  g.tokens_per_frame = random.pick<std::int64_t>({1, 3, 13, 40});
  TestClip clip = TestClip::random(random, g);
  if (clip.stabilizer == Stabilizer::row_max) {
    clip.denominator_epsilon = random.pick({0.0f, 0.01f});
    clip.denominator_floor = random.pick({0.0f, 2.5f});
  }
  return clip;
}

template <class Real>
std::vector<Real> random_direction(Random& random, std::size_t size) {
  std::vector<Real> direction(size);
  for (Real& x : direction) x = static_cast<Real>(random.normal());
  return direction;
}

template <class Real>
double dot(const std::vector<Real>& a, const std::vector<Real>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

TEST(TrainForwardTest, IsTheReference) {
  SerialExecutor serial;
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = random_clip(random);
    for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
      const std::vector<double> expected = reference_output(clip, direction);
      EXPECT_LT(support::relative_error(RealClip<double>(clip, direction).forward(serial), expected), 1e-12);
      EXPECT_LT(support::relative_error(RealClip<float>(clip, direction).forward(serial), expected), 1e-4);
    }
  }
}

/// Scores of +-1e4, dead features: finite, as the definition is.
TEST(TrainForwardTest, LargeScoresAndDeadFeatures) {
  SerialExecutor serial;
  for (const float size : {-1.0f, 1.0f}) {
    Random random(5);
    TestClip clip(random, {.frames = 5, .tokens_per_frame = 4, .chunk_frames = 2, .overlap_frames = 1},
                  Features::relu);
    clip.stabilizer = Stabilizer::none;
    for (float& x : clip.q) x = 200 * size;
    for (float& x : clip.k) x = 20 + std::abs(x);  // relu of one side is dead where size is negative
    const std::vector<double> expected = reference_output(clip, Direction::causal);
    ASSERT_TRUE(support::all_finite(expected));
    RealClip<float> single(clip, Direction::causal);
    EXPECT_LT(support::relative_error(single.forward(serial), expected), 1e-4);
    single.backward(std::vector<float>(expected.size(), 1.0f), serial);
    for (const auto& x : single.all()) EXPECT_TRUE(support::all_finite(*x.gradient)) << x.name;
  }
}

/// The derivative along a random direction of everything that has a gradient, by central differences.
class GradientTest : public testing::Test {
 protected:
  void expect_gradients(Random& random, const TestClip& clip, Direction direction, const char* what) {
    RealClip<double> real(clip, direction);
    const std::vector<double> out = real.forward(serial_);
    std::vector<double> d_out = random_direction<double>(random, out.size());
    for (std::size_t i = 0; i < out.size(); ++i) d_out[i] = out[i] == support::untouched ? 0 : d_out[i];
    real.backward(d_out, serial_);
    for (const auto& x : real.all()) {
      const std::vector<double> values = *x.values,
                                along = valid(*x.gradient, random_direction<double>(random, values.size()));
      constexpr double step = 1e-6;
      const auto loss = [&](double sign) {
        for (std::size_t i = 0; i < values.size(); ++i) (*x.values)[i] = values[i] + sign * step * along[i];
        return dot(real.forward(serial_), d_out);
      };
      const double difference = (loss(1) - loss(-1)) / (2 * step), derivative = dot(*x.gradient, along);
      *x.values = values;
      EXPECT_NEAR(derivative, difference, 1e-5 * std::max(1.0, std::abs(difference)))
          << what << ": " << x.name;
    }
  }

 private:
  /// NaN is left of gradients behind the valid frames, where nothing is to be written.
  static std::vector<double> valid(std::vector<double>& gradient, std::vector<double> along) {
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      if (std::isnan(gradient[i])) gradient[i] = along[i] = 0;
    }
    return along;
  }

  SerialExecutor serial_;
};

TEST_F(GradientTest, AreDifferencesOfTheForwardPass) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = random_clip(random);
    expect_gradients(random, clip, Direction::causal, "causal");
    expect_gradients(random, clip, Direction::bidirectional, "bidirectional");
  }
}

/// Signed features, every activation as the last one: the gradient of phi alone is what varies.
TEST_F(GradientTest, OfEveryActivation) {
  for (const Activation activation : {Activation::identity, Activation::relu, Activation::gelu,
                                      Activation::silu, Activation::softplus, Activation::elu1}) {
    Random random(static_cast<std::uint64_t>(activation) + 1);
    TestClip clip(random, {.kv_heads = 2, .heads_per_kv = 2, .dim = 6}, Features::polynomial);
    clip.phi_q.output_activation = clip.phi_k.output_activation = activation;
    clip.phi_q.activation = clip.phi_k.activation = activation;
    clip.denominator_epsilon = 50;  // signed features may bring a denominator near zero
    expect_gradients(random, clip, Direction::bidirectional, "activation");
    clip.phi_q = clip.phi_k = FeatureMap::elementwise(activation);
    expect_gradients(random, clip, Direction::causal, "elementwise");
  }
}

/// One query, whose chunk has one other key; a shift of every score of the row. Softmax alone does not
/// notice; beside a linear branch the row's maximum moves with the scores, and softmax weights stay as they
/// are.
TEST_F(GradientTest, FlowsThroughTheMaximumToTheFirstKeyThatAttainsIt) {
  Random random(1);
  TestClip clip(
      random,
      {.frames = 2, .tokens_per_frame = 2, .chunk_frames = 1, .overlap_frames = 0, .dim = 1, .value_dim = 1},
      Features::elu1);
  clip.scale = 1;
  clip.q = {0, 0, 1, 0};        // token 2 attends to tokens 2 and 3, linearly to 0 and 1
  clip.k = {0, 0, 0.5f, 0.5f};  // a tie: token 2 is the first
  clip.v = {1, 1, 3, 3};
  RealClip<double> real(clip, Direction::causal);
  std::vector<double> d_out = {0, 0, 1, 0};
  SerialExecutor serial;
  real.backward(d_out, serial);
  const std::vector<double>& d_k = *real.all()[1].gradient;
  // weights exp(s - max) = 1, 1; linear 2 * 2 * 1: y = (3 + 3 + 4) / (1 + 1 + 4), dy / d score = (3 - y) / 6
  const double y = 10.0 / 6, d_score = (3 - y) / 6;
  EXPECT_NEAR(d_k[3], d_score, 1e-12);                // not the first: only its own weight
  EXPECT_NEAR(d_k[2], d_score - 2 * d_score, 1e-12);  // its weight, and the maximum below both
}

/// float32 gradients against those in double.
TEST_F(GradientTest, InSinglePrecision) {
  SerialExecutor serial;
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip = random_clip(random);
    clip.frames.clear();
    clip.denominator_floor = 0;  // a denominator at the floor may be on either side
    RealClip<double> exact(clip, Direction::bidirectional);
    RealClip<float> single(clip, Direction::bidirectional);
    const std::vector<float> d_out = random_direction<float>(random, single.empty_output().size());
    exact.backward(std::vector<double>(d_out.begin(), d_out.end()), serial);
    single.backward(d_out, serial);
    for (std::size_t i = 0; i < exact.all().size(); ++i) {
      EXPECT_LT(support::relative_error(*single.all()[i].gradient, *exact.all()[i].gradient), 1e-3)
          << exact.all()[i].name;
    }
  }
}

}  // namespace
}  // namespace rehyat
