// Arithmetic modes besides float32: what they cost in exactness, and that kernels without them refuse them.

#include "rehyat/arithmetic.hpp"

#include <gtest/gtest.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/plain_int8.hpp"
#include "rehyat/io/npy.hpp"
#include "rehyat/one_phase.hpp"
#include "rehyat/thread_pool.hpp"
#include "support/all_results.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/reach.hpp"
#include "support/typed_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::distance;
using support::evaluate;
using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

class ArithmeticTest : public support::IsaTest {
 protected:
  void SetUp() override {
    if (!has_arithmetic(kernels(), Arithmetic::int8)) GTEST_SKIP() << "no int8 kernels";
  }

  /// What the update of the sums may add, which the definition has in double: a value is off by 1/510 of its
  /// channel's range, and values that cancel leave less than they were. int8_linear_test.cpp has it exactly.
  static constexpr double update_bytes = 1.6e-2;

  /// Every batch entry of an operator against the definition of int8, from which it differs by roundings of
  /// float32 and the bytes that these turn over, and against exact attention: at most half as far again as
  /// the definition.
  template <class P>
  void expect_as_defined(const P& parameters, double allowed) {
    const Written written = evaluate(parameters, kernels());
    const std::int64_t row = parameters.q.heads * parameters.v.dim;
    for (std::int64_t b = 0; b < parameters.q.batch; ++b) {
      const reference::Case c = reference::case_of(parameters, b);
      const auto floats = [](const reference::Output& out) { return out.y.cast<float>().values; };
      const std::vector<float> defined = floats(reference::plain_int8(c)),
                               exact = floats(reference::by_sums(c));
      const auto begin = written.out.begin() + b * parameters.q.tokens * row;
      const std::vector<float> out(begin, begin + static_cast<std::int64_t>(exact.size()));
      EXPECT_LE(distance(out, defined).l2, allowed) << "batch entry " << b;
      EXPECT_LE(distance(out, exact).l2, 1.5 * distance(defined, exact).l2 + allowed) << "batch entry " << b;
    }
  }

  void expect_all_as_defined(TestClip& clip, double allowed) {
    clip.arithmetic = Arithmetic::int8;
    clip.for_each_operator([&](const char* name, const auto& parameters) {
      if constexpr (requires { parameters.arithmetic; }) {
        SCOPED_TRACE(name);
        expect_as_defined(parameters, allowed + (requires { parameters.phi_q; } ? update_bytes : 0));
      }
    });
  }
};

/// A byte that rounds the other way is off by 1/127 of its row's largest, or 1/255 of a block's largest
/// weight.
constexpr double turned_bytes = 2e-3;

TEST_P(ArithmeticTest, RandomClips) {
  for (const std::uint64_t seed : support::seeds(12)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip = TestClip::random(random, Geometry::random(random));
    expect_all_as_defined(clip, turned_bytes);
  }
}

/// Several blocks of keys in a range and of queries in a group, and one channel of K 50 times the others, as
/// real ones have it.
TEST_P(ArithmeticTest, ManyKeysAndAnOutlierChannel) {
  Random random(5);
  TestClip clip(random,
                {.frames = 3,
                 .tokens_per_frame = 151,
                 .chunk_frames = 2,
                 .overlap_frames = 1,
                 .heads_per_kv = 2,
                 .dim = 64,
                 .value_dim = 70},
                Features::elu1);
  for (std::size_t i = 7; i < clip.k.size(); i += 64) clip.k[i] = 50 + clip.k[i] / 8;
  expect_all_as_defined(clip, turned_bytes);
  clip.arithmetic = Arithmetic::int8;
  const SoftmaxAttention p = clip.softmax();
  const std::vector<float> exact = reference::by_sums(reference::case_of(p)).y.cast<float>().values;
  EXPECT_LE(distance(evaluate(p, kernels()).out, exact).l2, 1.5e-2);
}

/// Logits up to 60. A score is then off by about 0.3, which no mode of 8 bits avoids; a byte that turns over
/// moves it by as much.
TEST_P(ArithmeticTest, LargeLogits) {
  Random random(6);
  TestClip clip(random,
                {.frames = 3,
                 .tokens_per_frame = 50,
                 .chunk_frames = 2,
                 .overlap_frames = 1,
                 .dim = 32,
                 .value_dim = 16},
                Features::elu1);
  clip.scale = 60.0f / 32;
  expect_all_as_defined(clip, 1e-2);
}

/// All logits equal: every weight is exactly 1.
TEST_P(ArithmeticTest, EqualLogits) {
  Random random(7);
  TestClip clip(random, {.frames = 1, .tokens_per_frame = 300, .chunk_frames = 1}, Features::elu1);
  std::fill(clip.k.begin(), clip.k.end(), 0.75f);
  clip.arithmetic = Arithmetic::int8;
  for (const float row_sum : evaluate(clip.softmax(), kernels()).row_sum) EXPECT_EQ(row_sum, 300.0f);
}

/// Magnitudes below 2^-100 count as 0; above, they are like any other.
TEST_P(ArithmeticTest, TinyAndHugeInputs) {
  Random random(8);
  TestClip clip(random, {.frames = 2, .tokens_per_frame = 9, .dim = 5, .value_dim = 4}, Features::elu1);
  clip.arithmetic = Arithmetic::int8;
  const Written plain = evaluate(clip.softmax(), kernels());
  const std::vector<float> q = clip.q, k = clip.k, v = clip.v;
  const auto scaled = [](std::vector<float> values, float factor) {
    for (float& x : values) x *= factor;
    return values;
  };
  for (const float factor : {0x1p-60f, 0x1p-90f, 0x1p+90f}) {
    clip.q = scaled(q, factor), clip.k = scaled(k, 1 / factor), clip.v = scaled(v, factor);
    EXPECT_TRUE(bit_equal(evaluate(clip.softmax(), kernels()).out, scaled(plain.out, factor))) << factor;
  }
  clip.v = scaled(v, 0x1p-130f), clip.q = scaled(q, 0x1p-140f), clip.k = scaled(k, 0x1p-140f);
  for (const float x : evaluate(clip.softmax(), kernels()).out) EXPECT_EQ(x, 0.0f);
}

/// 16-bit tensors give what the same values as float32 give.
TEST_P(ArithmeticTest, ElementTypes) {
  for (const std::uint64_t seed : support::seeds(4)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip = TestClip::random(random, Geometry::random(random));
    clip.arithmetic = Arithmetic::int8;
    support::ElementTypes types = support::ElementTypes::random(random);
    types.out = ElementType::float32;
    types.round(clip);
    const support::TypedInputs typed(clip, types);
    HybridAttention p = clip.hybrid(Direction::causal);
    const Written expected = evaluate(p, kernels());
    typed.feed(p);
    EXPECT_TRUE(bit_equal(evaluate(p, kernels()), expected));
  }
}

/// The same bits from any number of workers, and chunk by chunk.
TEST_P(ArithmeticTest, SameBits) {
  Random random(9);
  TestClip clip(random, Geometry::random(random), Features::elu1);
  clip.arithmetic = Arithmetic::int8;
  const std::vector<support::NamedResult> expected = support::all_results(clip, kernels());
  ThreadPool pool(3);
  support::expect_bit_equal(support::all_results(clip, pool, kernels()), expected);
  for (const std::uint64_t seed : support::seeds(6)) {
    SCOPED_TRACE(support::replay(seed));
    Random another(seed);
    TestClip streamed = TestClip::random(another, Geometry::random(another));
    streamed.arithmetic = Arithmetic::int8;
    SerialExecutor serial;
    EXPECT_TRUE(bit_equal(support::streamed(streamed, RecurrentSchedule::hybrid, serial, kernels()),
                          evaluate(streamed.hybrid(Direction::causal), kernels())));
  }
}

/// NaN and infinity, though no byte is either.
TEST_P(ArithmeticTest, NonfiniteValuesReachWhatDependsOnThem) {
  for (const std::uint64_t seed : support::seeds(4)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip(random, Geometry::random(random), Features::elu1);
    clip.arithmetic = Arithmetic::int8;
    clip.stabilizer = random.pick({Stabilizer::row_max, Stabilizer::none});
    support::ReachCheck(clip, random, kernels()).every_schedule();
  }
}

/// What is promised on the real arrays of examples/data, head by head: relative L2 and cosine. The queries of
/// frame 3 on the keys of the first 4.
TEST_P(ArithmeticTest, RealClip) {
  const auto load = [](const char* name) {
    const std::string path = std::string(REHYAT_EXAMPLE_DATA_DIR) + "/vtest_l2_" + name + ".npy";
    return std::move(*read_npy(path.c_str()));
  };
  const NpyArray q = load("q"), k = load("k"), v = load("v");
  constexpr std::int64_t frames = 4, tokens = 432, heads = 3, dim = 64;
  const auto view = [&](const NpyArray& a) {
    return TensorView<const float>::token_major(a.data.data(), 1, frames * tokens, heads, dim);
  };
  SoftmaxAttention p;
  p.q = view(q).slice_tokens((frames - 1) * tokens, tokens), p.k = view(k), p.v = view(v);
  p.arithmetic = Arithmetic::int8;
  const std::vector<float> out = evaluate(p, kernels()).out;
  p.arithmetic = Arithmetic::float32;
  const std::vector<float> exact = evaluate(p, kernels()).out;
  for (std::int64_t h = 0; h < heads; ++h) {
    double difference = 0, norm = 0, product = 0, own = 0;
    for (std::int64_t i = 0; i < tokens * dim; ++i) {
      const auto at = static_cast<std::size_t>((i / dim * heads + h) * dim + i % dim);
      const double a = out[at], e = exact[at];
      difference += (a - e) * (a - e), norm += e * e, product += a * e, own += a * a;
    }
    const double l2 = std::sqrt(difference / norm), cosine = product / std::sqrt(norm * own);
    std::printf("head %d: relative L2 %.2e, cosine %.6f\n", static_cast<int>(h), l2, cosine);
    EXPECT_LE(l2, 1.5e-2);
    EXPECT_GE(cosine, 0.9999);
  }
}

REHYAT_TEST_ALL_ISAS(ArithmeticTest);

class RefusedArithmeticTest : public support::IsaTest {
 protected:
  RefusedArithmeticTest() : lacking_(kernels()), clip_(random_, Geometry{}, Features::elu1) {
    lacking_.in = nullptr;
    clip_.arithmetic = Arithmetic::int8;
    message_ = std::string("arithmetic is int8, expected one that the kernels in use (") +
               isa_name(GetParam()) + ") have: none of its kind was built in, or this CPU does not run it";
  }

  void expect_refused(const Status& status) {
    EXPECT_EQ(status.code(), StatusCode::unsupported_isa);
    EXPECT_EQ(status.message(), message_);
  }

  Kernels lacking_;
  Random random_{1};
  TestClip clip_;
  std::string message_;
  SerialExecutor serial_;
};

TEST_P(RefusedArithmeticTest, ByEveryOperator) {
  clip_.for_each_operator([&](const char* name, auto p) {
    if constexpr (requires { p.arithmetic; }) {
      SCOPED_TRACE(name);
      Written written(p.q.batch, p.q.tokens, p.q.heads, p.v.dim);
      const Written before = written;
      written.receive(p);
      expect_refused(workspace_size(p, 1, lacking_).status());
      std::vector<char> memory(1 << 20);
      expect_refused(support::call(p, {memory.data(), memory.size()}, serial_, lacking_));
      EXPECT_TRUE(bit_equal(written, before));
      expect_refused(one_phase_workspace_size(p, 1, lacking_).status());
    }
  });
}

TEST_P(RefusedArithmeticTest, ByTheRecurrence) {
  const RecurrentConfig config = clip_.recurrent(RecurrentSchedule::hybrid);
  expect_refused(RecurrentState::workspace_size(config, 1, lacking_).status());
  RecurrentConfig linear = clip_.recurrent(RecurrentSchedule::linear);
  linear.arithmetic = Arithmetic::int8;
  EXPECT_STREQ(RecurrentState::size_bytes(linear).status().message(),
               "config.arithmetic is int8, expected float32 for linear attention: it has no softmax keys");
}

REHYAT_TEST_ALL_ISAS(RefusedArithmeticTest);

/// Groups of query blocks are as large as the kernels ask, where there are as many blocks.
TEST(ArithmeticModesTest, SayHowLargeAGroupIs) {
  Kernels kernels = default_kernels();
  kernels.query_block = 48;
  const detail::Call call{.kernels = &kernels, .batch = 1, .heads = 3, .kv_heads = 3};
  const auto blocks_per_group = [&](std::int64_t least_group, std::int64_t queries) {
    kernels.least_group = least_group;
    const detail::AttendGrid grid = detail::attend_grid(call, 1, queries);
    EXPECT_EQ(grid.groups, ceil_div(ceil_div(queries, 48), grid.blocks_per_group));
    return grid.blocks_per_group;
  };
  EXPECT_EQ(blocks_per_group(1, 432), 1);    // 9 blocks a head, so that there are many tasks
  EXPECT_EQ(blocks_per_group(4, 432), 4);    // 9 tasks instead of 27
  EXPECT_EQ(blocks_per_group(4, 100), 3);    // all of them
  EXPECT_EQ(blocks_per_group(4, 0), 1);      // scratch for one, though there is none
  EXPECT_EQ(blocks_per_group(4, 9600), 13);  // 200 blocks a head in 16 groups
}

/// What the processor has is there, and nothing else.
TEST(ArithmeticModesTest, AreThoseOfTheCpu) {
  EXPECT_STREQ(arithmetic_name(Arithmetic::float32), "float32");
  EXPECT_STREQ(arithmetic_name(Arithmetic::int8), "int8");
  for (const Isa isa : support::tested_isas()) {
    const Kernels& kernels = **find_kernels(isa_name(isa));
    EXPECT_TRUE(has_arithmetic(kernels, Arithmetic::float32));
    bool expected = isa == Isa::scalar;
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (isa == Isa::avx512) expected = __builtin_cpu_supports("avx512vnni");
    if (isa == Isa::avx2) expected = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 16u) != 0;
#elif defined(__aarch64__)  // under qemu-user true, but for older cores (-cpu cortex-a53)
    if (isa == Isa::neon) expected = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
    EXPECT_EQ(has_arithmetic(kernels, Arithmetic::int8), expected) << isa_name(isa);
  }
  EXPECT_EQ(&arithmetic_kernels(), &default_kernels());
}

}  // namespace
}  // namespace rehyat
