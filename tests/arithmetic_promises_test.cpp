// Arithmetic modes besides float32: what they promise as float32 does, and that kernels without them refuse
// them.

#include <gtest/gtest.h>

#include "rehyat/arithmetic.hpp"
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

#include <string>
#include <vector>

#include "rehyat/one_phase.hpp"
#include "rehyat/thread_pool.hpp"
#include "support/all_results.hpp"
#include "support/narrow_modes.hpp"
#include "support/random.hpp"
#include "support/reach.hpp"
#include "support/typed_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::evaluate;
using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

using ArithmeticPromisesTest = support::NarrowModesTest;

/// All logits equal: every weight is exactly 1.
TEST_P(ArithmeticPromisesTest, EqualLogits) {
  for_each_mode([&](Arithmetic mode) {
    Random random(7);
    TestClip clip(random, {.frames = 1, .tokens_per_frame = 300, .chunk_frames = 1}, Features::elu1);
    std::fill(clip.k.begin(), clip.k.end(), 0.75f);
    clip.arithmetic = mode;
    for (const float row_sum : evaluate(clip.softmax(), kernels()).row_sum) EXPECT_EQ(row_sum, 300.0f);
  });
}

/// Magnitudes below 2^-100 count as 0; above, they are like any other.
TEST_P(ArithmeticPromisesTest, TinyAndHugeInputs) {
  for_each_mode([&](Arithmetic mode) {
    Random random(8);
    TestClip clip(random, {.frames = 2, .tokens_per_frame = 9, .dim = 5, .value_dim = 4}, Features::elu1);
    clip.arithmetic = mode;
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
  });
}

/// Logits of thousands to millions of millions: the nearest key alone counts.
TEST_P(ArithmeticPromisesTest, HugeLogitsLeaveOneKey) {
  for (const float factor : {1e2f, 1e3f, 1e4f, 1e6f}) {
    for_each_mode([&](Arithmetic mode) {
      Random random(9);
      constexpr std::int64_t tokens = 8;
      TestClip clip(
          random, {.frames = 1, .tokens_per_frame = tokens, .chunk_frames = 1, .dim = tokens, .value_dim = 4},
          Features::elu1);
      for (std::size_t i = 0; i < clip.q.size(); ++i)
        clip.q[i] = clip.k[i] = i % (tokens + 1) == 0 ? factor : 0;
      clip.arithmetic = mode;
      EXPECT_LE(support::distance(evaluate(clip.softmax(), kernels()).out, clip.v).l2, 1e-2) << factor;
    });
  }
}

/// 16-bit tensors give what the same values as float32 give.
TEST_P(ArithmeticPromisesTest, ElementTypes) {
  for_each_mode([&](Arithmetic mode) {
    for (const std::uint64_t seed : support::seeds(4)) {
      SCOPED_TRACE(support::replay(seed));
      Random random(seed);
      TestClip clip = TestClip::random(random, Geometry::random(random));
      clip.arithmetic = mode;
      support::ElementTypes types = support::ElementTypes::random(random);
      types.out = ElementType::float32;
      types.round(clip);
      const support::TypedInputs typed(clip, types);
      HybridAttention p = clip.hybrid(Direction::causal);
      const Written expected = evaluate(p, kernels());
      typed.feed(p);
      EXPECT_TRUE(bit_equal(evaluate(p, kernels()), expected));
    }
  });
}

/// The same bits from any number of workers, and chunk by chunk.
TEST_P(ArithmeticPromisesTest, SameBits) {
  for_each_mode([&](Arithmetic mode) {
    Random random(9);
    TestClip clip(random, Geometry::random(random), Features::elu1);
    clip.arithmetic = mode;
    const std::vector<support::NamedResult> expected = support::all_results(clip, kernels());
    ThreadPool pool(3);
    support::expect_bit_equal(support::all_results(clip, pool, kernels()), expected);
    for (const std::uint64_t seed : support::seeds(6)) {
      SCOPED_TRACE(support::replay(seed));
      Random another(seed);
      TestClip streamed = TestClip::random(another, Geometry::random(another));
      streamed.arithmetic = mode;
      SerialExecutor serial;
      EXPECT_TRUE(bit_equal(support::streamed(streamed, RecurrentSchedule::hybrid, serial, kernels()),
                            evaluate(streamed.hybrid(Direction::causal), kernels())));
    }
  });
}

/// NaN and infinity, though no byte is either.
TEST_P(ArithmeticPromisesTest, NonfiniteValuesReachWhatDependsOnThem) {
  for_each_mode([&](Arithmetic mode) {
    for (const std::uint64_t seed : support::seeds(4)) {
      SCOPED_TRACE(support::replay(seed));
      Random random(seed);
      TestClip clip(random, Geometry::random(random), Features::elu1);
      clip.arithmetic = mode;
      clip.stabilizer = random.pick({Stabilizer::row_max, Stabilizer::none});
      support::ReachCheck(clip, random, kernels()).every_schedule();
    }
  });
}

REHYAT_TEST_ALL_ISAS(ArithmeticPromisesTest);

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
               "config.arithmetic is int8, expected float32 for linear attention alone");
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
  EXPECT_EQ(blocks_per_group(4, 432), 3);    // 9 tasks instead of 27: groups of 4 or less that are alike
  EXPECT_EQ(blocks_per_group(4, 100), 3);    // all of them
  EXPECT_EQ(blocks_per_group(4, 0), 1);      // scratch for one, though there is none
  EXPECT_EQ(blocks_per_group(4, 9600), 13);  // 200 blocks a head in 16 groups
}

/// What the processor has is there, and nothing else.
TEST(ArithmeticModesTest, AreThoseOfTheCpu) {
  EXPECT_STREQ(arithmetic_name(Arithmetic::float32), "float32");
  EXPECT_STREQ(arithmetic_name(Arithmetic::int8), "int8");
  EXPECT_STREQ(arithmetic_name(Arithmetic::float16), "float16");
  for (const Isa isa : support::tested_isas()) {
    const Kernels& kernels = **find_kernels(isa_name(isa));
    EXPECT_TRUE(has_arithmetic(kernels, Arithmetic::float32));
    bool expected = isa == Isa::scalar, halves = false;
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (isa == Isa::avx512) expected = __builtin_cpu_supports("avx512vnni");
    if (isa == Isa::avx512) halves = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & 1u << 23) != 0;
    if (isa == Isa::avx2) expected = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 16u) != 0;
#elif defined(__aarch64__)  // under qemu-user true, but for older cores (-cpu cortex-a53)
    if (isa == Isa::neon) expected = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    if (isa == Isa::neon) halves = (getauxval(AT_HWCAP) & HWCAP_ASIMDHP) != 0;
#endif
    EXPECT_EQ(has_arithmetic(kernels, Arithmetic::int8), expected) << isa_name(isa);
    EXPECT_EQ(has_arithmetic(kernels, Arithmetic::float16), halves) << isa_name(isa);
  }
  EXPECT_EQ(&arithmetic_kernels(), &default_kernels());
}

}  // namespace
}  // namespace rehyat
