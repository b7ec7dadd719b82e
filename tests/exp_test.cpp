// The exponentials and activations of this unit's own instruction set (its flags say which) against double.

#include "rehyat/kernel/exp.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "rehyat/kernel/narrow_activation.hpp"
#include "rehyat/kernel/tile_shape.hpp"

namespace rehyat::kernel {
namespace {

constexpr float qnan = std::numeric_limits<float>::quiet_NaN();

/// Every `stride`-th float from -0 down to `lowest`.
std::vector<float> nonpositive_floats(float lowest_value, std::uint32_t stride) {
  std::vector<float> values;
  const std::uint32_t last = std::bit_cast<std::uint32_t>(lowest_value);
  for (std::uint32_t bits = 0x80000000u; bits <= last; bits += stride)
    values.push_back(std::bit_cast<float>(bits));
  values.push_back(lowest_value);
  return values;
}

std::vector<float> both_signs(std::vector<float> values) {
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  return values;
}

/// f of each value, a vector at a time.
template <class F>
std::vector<float> results_of(F f, const std::vector<float>& values) {
  std::vector<float> padded(values);
  padded.resize((values.size() + V::lanes - 1) / V::lanes * V::lanes, 0.0f);
  for (std::size_t i = 0; i < padded.size(); i += V::lanes)
    f(V::load(padded.data() + i)).store(padded.data() + i);
  padded.resize(values.size());
  return padded;
}

template <class F>
float result_of(F f, float value) {
  return results_of(f, std::vector<float>{value}).front();
}

/// |actual - exact| in units of the last place of a float near exact.
double ulps(float actual, double exact) {
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::abs(static_cast<double>(actual) - exact) / std::ldexp(1.0, exponent - 23);
}

struct Worst {
  double error = 0;
  float at = 0;
};

/// The largest error(actual, x) over all values.
template <class F, class E>
Worst worst(F f, const std::vector<float>& values, E error) {
  const std::vector<float> actual = results_of(f, values);
  Worst w;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double e = error(actual[i], values[i]);
    if (!(e <= w.error)) w = {e, values[i]};
  }
  return w;
}

class ExpTest : public testing::Test {
 protected:
  void SetUp() override {
#if defined(REHYAT_KERNEL_ISA_AVX512)
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) {
      GTEST_SKIP() << "this CPU has no AVX-512";
    }
#elif defined(REHYAT_KERNEL_ISA_AVX2)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
      GTEST_SKIP() << "this CPU has no AVX2";
#endif
    RecordProperty("isa", isa_name(native_isa));
  }
};

const auto exp2_of = [](V x) { return exp2_nonpositive(x); };
const auto exp_of = [](V x) { return exp_of_minus(V::broadcast(0.0f) - x); };

/// The scalar kernels have no fused multiply-add and round twice.
TEST_F(ExpTest, Exp2IsWithinOneAndAHalfUlpsOrTwoUnfused) {
  const std::vector<float> values = nonpositive_floats(-126.0f, 1009);
  EXPECT_GT(values.size(), 1000000u);
  const Worst w =
      worst(exp2_of, values, [](float y, float x) { return ulps(y, std::exp2(static_cast<double>(x))); });
  EXPECT_LE(w.error, native_isa == Isa::scalar ? 2.0 : 1.5) << "at " << w.at;
  RecordProperty("ulps", std::to_string(w.error));
}

TEST_F(ExpTest, Exp2OfNormalResultsIsTheSame) {
  const auto normal = [](V x) { return exp2_normal(x); };
  const std::vector<float> values = nonpositive_floats(-126.0f, 100003);
  EXPECT_EQ(results_of(normal, values), results_of(exp2_of, values));
  EXPECT_TRUE(std::isnan(result_of(normal, qnan)));
}

TEST_F(ExpTest, Exp2AtTheEdges) {
  EXPECT_EQ(result_of(exp2_of, 0.0f), 1.0f);
  EXPECT_EQ(result_of(exp2_of, -0.0f), 1.0f);
  EXPECT_EQ(result_of(exp2_of, -std::numeric_limits<float>::denorm_min()), 1.0f);
  for (int n = 0; n <= 126; ++n)
    EXPECT_EQ(result_of(exp2_of, -static_cast<float>(n)), std::ldexp(1.0f, -n)) << n;
  for (const float x : {std::nextafter(-126.0f, -1000.0f), -126.5f, -127.0f, -150.0f, -1e4f, -1e9f, -3e38f,
                        -std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(result_of(exp2_of, x)), 0u) << x;
  }
  EXPECT_TRUE(std::isnan(result_of(exp2_of, qnan)));
  EXPECT_TRUE(std::isnan(result_of(exp2_of, -qnan)));
}

TEST_F(ExpTest, Exp2NeverRisesAboveOne) {
  for (const float y : results_of(exp2_of, nonpositive_floats(-1.0f, 4001))) ASSERT_LE(y, 1.0f);
}

TEST_F(ExpTest, ExpIsWithinTwoUlps) {
  const std::vector<float> values = nonpositive_floats(-87.33f, 1009);
  const Worst w =
      worst(exp_of, values, [](float y, float x) { return ulps(y, std::exp(static_cast<double>(x))); });
  EXPECT_LE(w.error, 2) << "at " << w.at;
  RecordProperty("ulps", std::to_string(w.error));
  EXPECT_EQ(result_of(exp_of, 0.0f), 1.0f);
  for (const float x : {-87.4f, -100.0f, -1e9f, -std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(result_of(exp_of, x)), 0u) << x;
  }
  EXPECT_TRUE(std::isnan(result_of(exp_of, qnan)));
}

/// Relative to the exact value, or to the smallest normal number where that is larger.
double relative(float actual, double exact) {
  return std::abs(static_cast<double>(actual) - exact) / std::max(std::abs(exact), 0x1p-126);
}

TEST_F(ExpTest, SoftplusKeepsItsRelativeAccuracy) {
  const std::vector<float> values = both_signs(nonpositive_floats(-87.0f, 4001));
  const Worst w = worst([](V x) { return softplus(x); }, values,
                        [](float y, float x) {
                          const double d = static_cast<double>(x);
                          return relative(y, std::max(d, 0.0) + std::log1p(std::exp(-std::abs(d))));
                        });
  EXPECT_LE(w.error, 4e-7) << "at " << w.at;
}

TEST_F(ExpTest, SiluKeepsItsRelativeAccuracy) {
  const std::vector<float> values = both_signs(nonpositive_floats(-87.0f, 4001));
  const Worst w = worst([](V x) { return silu(x); }, values,
                        [](float y, float x) {
                          const double d = static_cast<double>(x);
                          return relative(y, d / (1 + std::exp(-d)));
                        });
  EXPECT_LE(w.error, 4e-7) << "at " << w.at;
}

TEST_F(ExpTest, Elu1KeepsItsRelativeAccuracy) {
  const std::vector<float> values = both_signs(nonpositive_floats(-87.0f, 4001));
  const Worst w = worst([](V x) { return elu1(x); }, values,
                        [](float y, float x) {
                          const double d = static_cast<double>(x);
                          return relative(y, d > 0 ? d + 1 : std::exp(d));
                        });
  EXPECT_LE(w.error, 3e-7) << "at " << w.at;
}

/// x^2 / 2 is rounded before it goes into the exponential, so the relative error grows with it.
TEST_F(ExpTest, GeluKeepsItsRelativeAccuracy) {
  const std::vector<float> values = both_signs(nonpositive_floats(-13.0f, 4001));
  const Worst w = worst([](V x) { return gelu(x); }, values,
                        [](float y, float x) {
                          const double d = static_cast<double>(x);
                          const double allowed_growth = 1 + (x < 0 ? d * d / 4 : 0);
                          return relative(y, d / 2 * std::erfc(-d / std::numbers::sqrt2)) / allowed_growth;
                        });
  EXPECT_LE(w.error, 5e-7) << "at " << w.at;
}

/// What is rounded to bytes or halves next.
TEST_F(ExpTest, ShortForms) {
  const std::vector<float> exponents = nonpositive_floats(-126.0f, 4001);
  const auto exp2_error = [](float y, float x) { return relative(y, std::exp2(static_cast<double>(x))); };
  const Worst of_exp2 = worst([](V x) { return short_exp2(x); }, exponents, exp2_error);
  EXPECT_LE(of_exp2.error, 3.1e-6) << "at " << of_exp2.at;
  EXPECT_EQ(result_of([](V x) { return short_exp2(x); }, 0.0f), 1.0f);

  const std::vector<float> values = both_signs(nonpositive_floats(-80.0f, 4001));
  const auto softplus_error = [](float y, float x) {
    const double d = static_cast<double>(x);
    return relative(y, std::max(d, 0.0) + std::log1p(std::exp(-std::abs(d))));
  };
  const Worst of_softplus = worst([](V x) { return short_softplus(x); }, values, softplus_error);
  EXPECT_LE(of_softplus.error, 7e-5) << "at " << of_softplus.at;

  const auto gelu_error = [](float y, float x) {
    const double d = static_cast<double>(x);
    return std::abs(static_cast<double>(y) - d / 2 * std::erfc(-d / std::numbers::sqrt2));
  };
  const Worst of_gelu = worst([](V x) { return short_gelu(x); }, values, gelu_error);
  EXPECT_LE(of_gelu.error, 2.1e-4) << "at " << of_gelu.at;
  for (const float x : {1e-30f, -1e-6f, 1e-3f}) {
    EXPECT_NEAR(result_of([](V y) { return short_gelu(y); }, x) / x, 0.5f, 1e-3f);
  }
}

/// As IEEE says, whatever the divisor: denominators may be subnormal, or nearly overflow.
TEST_F(ExpTest, DivisionIsRoundedCorrectly) {
  std::uint32_t bits = 1;
  for (int i = 0; i < 100000; ++i) {
    bits = bits * 1664525u + 1013904223u;
    const float x = std::bit_cast<float>(bits);
    if (std::isnan(x)) continue;
    const float y = result_of([](V v) { return V::broadcast(3.0f) / v; }, x);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(y), std::bit_cast<std::uint32_t>(3.0f / x)) << x;
  }
}

TEST_F(ExpTest, ActivationsAtTheEdges) {
  constexpr Activation all[] = {Activation::identity, Activation::relu,     Activation::gelu,
                                Activation::silu,     Activation::softplus, Activation::elu1};
  const auto activated = [](Activation a, float x) {
    return result_of(
        [a](V v) {
          float lanes[V::lanes];
          v.store(lanes);
          activate<V>(a, lanes, V::lanes);
          return V::load(lanes);
        },
        x);
  };
  for (const Activation a : all) EXPECT_TRUE(std::isnan(activated(a, qnan))) << static_cast<int>(a);
  for (const Activation a : {Activation::relu, Activation::gelu, Activation::silu}) {
    EXPECT_EQ(activated(a, 0.0f), 0.0f);
    for (const float x : {100.0f, 1e10f, 3e38f}) EXPECT_EQ(activated(a, x), x) << static_cast<int>(a);
    for (const float x : {-100.0f, -1e10f}) EXPECT_EQ(activated(a, x), 0.0f) << static_cast<int>(a);
  }
  EXPECT_EQ(activated(Activation::relu, -std::numeric_limits<float>::denorm_min()), 0.0f);
  EXPECT_EQ(activated(Activation::elu1, 0.0f), 1.0f);
  EXPECT_EQ(activated(Activation::elu1, -1e10f), 0.0f);
  EXPECT_EQ(activated(Activation::softplus, 1e10f), 1e10f);
  EXPECT_EQ(activated(Activation::softplus, -1e10f), 0.0f);
  EXPECT_FLOAT_EQ(activated(Activation::softplus, 0.0f), std::numbers::ln2_v<float>);
  EXPECT_EQ(activated(Activation::identity, -1.5f), -1.5f);
}

}  // namespace
}  // namespace rehyat::kernel
