// A host may have set the rounding mode, or that subnormals are flushed: results stay near those without, the
// rules of NaN hold, and the environment is left as it was.

#include "support/float_environment.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/all_results.hpp"
#include "support/compare.hpp"
#include "support/edge_clips.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/reach.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::all_results;
using support::Features;
using support::FloatEnvironment;
using support::Geometry;
using support::NamedResult;
using support::Random;
using support::ScopedEnvironment;
using support::TestClip;

/// Published, of the largest output. Measured over 300 seeds: 2e-5; 0 where only subnormals are flushed.
constexpr double allowed_rounded = 1e-4, allowed_flushed = 1e-6;

class FloatEnvironmentTest : public support::IsaTest {
 protected:
  std::vector<NamedResult> results_in(const FloatEnvironment& e, const TestClip& clip) {
    const ScopedEnvironment environment(e);
    return all_results(clip, kernels());
  }

  template <class F>
  void in_every_other_environment(F check) {
    for (const FloatEnvironment& e : support::other_environments) {
      SCOPED_TRACE(e.name);
      check(e);
    }
  }
};

/// Or the other tests would show nothing.
TEST(FloatEnvironment, IsReal) {
  const volatile float one = 1, three = 3, tiny = 1e-30f, small = 1e-10f;
  float quotients[4];
  for (int i = 0; i < 4; ++i) {
    const int rounding[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    const ScopedEnvironment environment({"", rounding[i], false});
    quotients[i] = one / three;
    EXPECT_GT(tiny * small, 0);
  }
  EXPECT_LT(quotients[2], quotients[1]);
  EXPECT_EQ(quotients[2], quotients[3]);
  const ScopedEnvironment environment({"", FE_TONEAREST, true});
  EXPECT_EQ(tiny * small, 0);
}

TEST_P(FloatEnvironmentTest, IsLeftAsItWas) {
  Random random(1);
  TestClip clip = TestClip::random(random, support::edge_geometry);
  clip.q[3] = std::numeric_limits<float>::quiet_NaN(), clip.v[5] = 1e-40f;
  for (const FloatEnvironment& e : support::other_environments) {
    SCOPED_TRACE(e.name);
    const ScopedEnvironment environment(e);
    const std::uint64_t before = support::float_control();
    const int rounding = fegetround();
    all_results(clip, kernels());
    EXPECT_EQ(support::float_control(), before);
    EXPECT_EQ(fegetround(), rounding);
  }
}

TEST_P(FloatEnvironmentTest, OrdinaryNumbersGiveNearlyTheSame) {
  for (const std::uint64_t seed : support::seeds(10)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    const std::vector<NamedResult> usual = all_results(clip, kernels());
    in_every_other_environment([&](const FloatEnvironment& e) {
      const double allowed = e.rounding == FE_TONEAREST ? allowed_flushed : allowed_rounded;
      const std::vector<NamedResult> results = results_in(e, clip);
      for (std::size_t i = 0; i < results.size(); ++i) {
        const support::Distance d = support::distance(results[i].written.out, usual[i].written.out);
        EXPECT_LE(d.element, allowed) << results[i].name;
        EXPECT_LE(d.l2, allowed) << results[i].name;
      }
    });
  }
}

/// Exponents far apart, overflows and subnormals: where those decide, results are still finite.
TEST_P(FloatEnvironmentTest, NumbersAtTheEdgeGiveTheirFiniteResult) {
  Random random(2);
  for (const Stabilizer stabilizer : {Stabilizer::row_max, Stabilizer::none}) {
    for (const support::EdgeClip& edge : support::edge_clips(random, stabilizer)) {
      SCOPED_TRACE(edge.name + (stabilizer == Stabilizer::none ? ", none" : ", row_max"));
      const std::vector<std::vector<double>> exact = support::exact_results(edge.clip);
      in_every_other_environment([&](const FloatEnvironment& e) {
        const std::vector<NamedResult> results = results_in(e, edge.clip);
        for (std::size_t i = 0; i < results.size(); ++i) {
          SCOPED_TRACE(results[i].name);
          const std::vector<float>& out = results[i].written.out;
          const bool linear = results[i].name.find("linear") != std::string::npos;
          if (linear && (!edge.has_linear_sums || (edge.subnormal && e.flush))) continue;
          EXPECT_TRUE(support::all_finite(out));
          EXPECT_EQ(results[i].written.report.nan_count, 0);
          if (edge.subnormal && e.flush) continue;
          EXPECT_LE(support::relative_error(out, exact[i]), 4 * edge.tolerance + allowed_rounded);
        }
      });
    }
  }
}

/// What is lost with a subnormal operand or result is at most 2^-126 a term.
TEST_P(FloatEnvironmentTest, FlushedSubnormalsCountAsZero) {
  Random random(3);
  TestClip clip = support::clip_with_scores(random, 1, 1);
  for (float& x : clip.v) x *= 1e-41f;
  for (const NamedResult& r : results_in({"flush", FE_TONEAREST, true}, clip)) {
    for (const float x : r.written.out) ASSERT_EQ(x, 0) << r.name;
  }
}

TEST_P(FloatEnvironmentTest, StreamsEqualOneShotToTheBit) {
  for (const std::uint64_t seed : support::seeds(5)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip = TestClip::random(random, Geometry::random(random));
    in_every_other_environment([&](const FloatEnvironment& e) {
      const std::vector<NamedResult> results = results_in(e, clip);
      EXPECT_TRUE(support::bit_equal(results[6].written, results[1].written));  // hybrid
      EXPECT_TRUE(support::bit_equal(results[7].written, results[3].written));  // linear
    });
  }
}

TEST_P(FloatEnvironmentTest, NanAndInfinityReachTheSameOutputs) {
  in_every_other_environment([&](const FloatEnvironment& e) {
    Random random(4);
    for (const Stabilizer stabilizer : {Stabilizer::row_max, Stabilizer::none}) {
      const bool none = stabilizer == Stabilizer::none;
      TestClip clip(random, support::edge_geometry, none ? Features::given_separate : Features::polynomial);
      clip.stabilizer = stabilizer;
      const ScopedEnvironment environment(e);
      support::ReachCheck(clip, random, kernels()).every_schedule();
    }
  });
}

/// The environment that counts is that of the thread that runs a task; the pool's threads have that of its
/// maker.
TEST_P(FloatEnvironmentTest, ThreadsOfAPoolHaveTheEnvironmentOfItsMaker) {
  Random random(5);
  const TestClip clip(random, support::edge_geometry, Features::polynomial);
  in_every_other_environment([&](const FloatEnvironment& e) {
    const std::vector<NamedResult> serial = results_in(e, clip);
    const ScopedEnvironment environment(e);
    ThreadPool pool(3);
    support::expect_bit_equal(all_results(clip, pool, kernels()), serial);
  });
}

REHYAT_TEST_ALL_ISAS(FloatEnvironmentTest);

}  // namespace
}  // namespace rehyat
