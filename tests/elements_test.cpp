// Tensors of 16-bit elements: conversion, and operators that give to the bit what they give on the same
// values as float32, rounded once where the output is narrower.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "support/clip_stream.hpp"
#include "support/element_tensor.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::ClipStream;
using support::ElementTensor;
using support::Geometry;
using support::OwnedState;
using support::Random;
using support::random_element;
using support::TestClip;
using support::Written;

constexpr std::array element_types = {ElementType::float32, ElementType::bfloat16, ElementType::float16};

/// A host's own type, made known in one line.
struct HostHalf {
  std::uint16_t x;
};

}  // namespace

template <>
struct ElementTraits<HostHalf> : StoredAs<ElementType::float16> {};

namespace {

static_assert(Element<float> && Element<const bfloat16> && Element<float16> && Element<HostHalf>);
static_assert(!Element<int> && !Element<double> && !Element<std::uint16_t>);

/// What a 16-bit float stores, by its definition.
double by_definition(unsigned bits, int exponent_bits, int mantissa_bits) {
  const unsigned exponent = bits >> mantissa_bits & ((1u << exponent_bits) - 1);
  const double mantissa = static_cast<double>(bits & ((1u << mantissa_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1, unit = 1 - bias - mantissa_bits;
  const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(mantissa, unit);
  return sign * std::ldexp(mantissa + std::ldexp(1.0, mantissa_bits), static_cast<int>(exponent) - 1 + unit);
}

/// Every value is read exactly and written back; of what lies between two the nearer one is taken, of the
/// middle the even one; NaN stays NaN and infinity infinity.
template <class T>
void check_conversion(int exponent_bits, int mantissa_bits) {
  const unsigned infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  const auto round = [](double x) { return T(static_cast<float>(x)).bits; };
  for (unsigned bits = 0; bits < 0x10000u; ++bits) {
    T element;
    element.bits = static_cast<std::uint16_t>(bits);
    const float value = static_cast<float>(element);
    const unsigned magnitude = bits & 0x7FFFu;
    if (magnitude > infinity) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_GT(T(value).bits & 0x7FFFu, infinity) << bits;
      EXPECT_EQ(T(value).bits & 0x8000u, bits & 0x8000u) << bits;
      continue;
    }
    ASSERT_EQ(T(value).bits, bits);
    if (magnitude == infinity) {
      ASSERT_TRUE(std::isinf(value)) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), by_definition(bits, exponent_bits, mantissa_bits)) << bits;
    const double next =
        by_definition(bits + 1, exponent_bits, mantissa_bits);  // past the largest: where infinity begins
    const double middle = (static_cast<double>(value) + next) / 2;
    const float below = std::nextafter(static_cast<float>(middle), value);
    const float above = std::nextafter(static_cast<float>(middle), static_cast<float>(2 * next));
    if (static_cast<double>(static_cast<float>(middle)) != middle)
      continue;  // beyond float32's own subnormals
    ASSERT_EQ(round(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(T(below).bits, bits);
    ASSERT_EQ(T(above).bits, bits + 1);
  }
}

/// Every NaN stays one of its sign, whatever its payload: the rounding of a number would carry into infinity.
template <class T>
void check_payloads() {
  for (const std::uint32_t bits :
       {0x7F800001u, 0x7F800002u, 0x7F801000u, 0x7FBFFFFFu, 0x7FC00000u, 0x7FFFFFFFu}) {
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
      const T element(std::bit_cast<float>(bits | sign));
      EXPECT_TRUE(std::isnan(static_cast<float>(element))) << bits;
      EXPECT_EQ(element.bits >> 15, sign >> 31) << bits;
    }
  }
}

TEST(ElementTest, NanPayloads) {
  check_payloads<float16>();
  check_payloads<bfloat16>();
}

TEST(ElementTest, Float16) { check_conversion<float16>(5, 10); }
TEST(ElementTest, Bfloat16) { check_conversion<bfloat16>(8, 7); }

class ElementsTest : public support::IsaTest {};

/// The kernels' own conversion, vectors and what is left of them, against the portable one: all exponents,
/// subnormals, NaN, infinity.
TEST_P(ElementsTest, RowsConvert) {
  Random random(3);
  for (const std::int64_t dim : {1, 7, 8, 16, 33, 512}) {
    std::vector<float> values(static_cast<std::size_t>(dim) * 40);
    for (float& x : values) {
      const std::uint32_t bits = static_cast<std::uint32_t>(random.integer(0, 0xFFFFFFFF));
      std::memcpy(&x, &bits, sizeof x);
    }
    values[0] = INFINITY, values.back() = NAN;
    const auto shape = TensorView<const float>::token_major(nullptr, 1, 40, 1, dim);
    for (const ElementType from : element_types) {
      for (const ElementType to : element_types) {
        ElementTensor source(from, shape), target(to, shape), expected(to, shape);
        source.assign(values);
        const OutputView out = target.output();
        kernels().convert({.from = {source.input().data, from, source.input().token_stride},
                           .to = out.data,
                           .to_type = to,
                           .to_stride = out.token_stride,
                           .dim = dim,
                           .count = 40});
        expected.assign(source.values());
        EXPECT_TRUE(bit_equal(target.values(), expected.values()))
            << element_name(from) << " to " << element_name(to);
        EXPECT_TRUE(target.gaps_untouched());
      }
    }
  }
}

/// The clip with its values rounded to element types, and tensors that hold them.
struct TypedClip {
  TestClip clip;
  ElementTensor q, k, v;

  TypedClip(TestClip from, ElementType q_type, ElementType k_type, ElementType v_type)
      : clip(std::move(from)), q(q_type, clip.q_view()), k(k_type, clip.k_view()), v(v_type, clip.v_view()) {
    q.assign(clip.q), k.assign(clip.k), v.assign(clip.v);
    clip.q = q.values(), clip.k = k.values(), clip.v = v.values();
  }

  template <class P>
  void feed(P& parameters) const {
    parameters.q = q.input(), parameters.k = k.input(), parameters.v = v.input();
  }
};

TypedClip random_clip(Random& random) {
  TestClip clip = TestClip::random(random, Geometry::random(random));
  const ElementType q = random_element(random), k = random_element(random), v = random_element(random);
  return {std::move(clip), q, k, v};
}

/// Runs an operator on typed tensors and compares with the same values as float32.
template <class P>
void expect_the_same(const TypedClip& typed, P parameters, ElementType out_type, const Kernels& kernels,
                     const char* name) {
  const Written wide = support::evaluate(parameters, kernels);
  const auto shape = TensorView<const float>::token_major(nullptr, parameters.q.batch, parameters.q.tokens,
                                                          parameters.q.heads, parameters.v.dim);
  ElementTensor out(out_type, shape), expected(out_type, shape);
  Written narrow = wide;
  out.assign(std::vector<float>(wide.out.size(), support::untouched));
  narrow.receive(parameters);
  typed.feed(parameters);
  parameters.out = out.output();
  support::run(parameters, kernels);
  narrow.out = wide.out;  // what was written is in `out`
  expected.assign(wide.out);
  EXPECT_TRUE(bit_equal(narrow, wide)) << name << ": statistics";
  EXPECT_TRUE(bit_equal(out.values(), expected.values())) << name;
  EXPECT_TRUE(out.gaps_untouched()) << name;
}

TEST_P(ElementsTest, OperatorsComputeInFloat32) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TypedClip typed = random_clip(random);
    typed.clip.for_each_operator([&](const char* name, const auto& parameters) {
      expect_the_same(typed, parameters, random_element(random), kernels(), name);
    });
  }
}

/// Steps a state through typed tensors.
Written stream(const TypedClip& typed, ElementType tail, RecurrentSchedule schedule, const Kernels& kernels) {
  const Geometry& g = typed.clip.geometry;
  RecurrentConfig config = typed.clip.recurrent(schedule);
  config.tail_type = tail;
  OwnedState state(config, 1, kernels);
  Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
  RecurrentChunk whole{.given = typed.clip.given()};
  typed.feed(whole);
  written.receive(whole);
  ClipStream chunks(typed.clip, whole);
  SerialExecutor executor;
  for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
    const Status status = state.step(chunks.chunk(t), executor);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return written;
}

/// With a tail of the keys' and values' own type, or a wider one.
TEST_P(ElementsTest, RecurrenceEqualsOneShot) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip = TestClip::random(random, Geometry::random(random));
    const ElementType type = random_element(random), tail = random.coin() ? type : ElementType::float32;
    const TypedClip typed{std::move(clip), random_element(random), type, type};
    EXPECT_TRUE(bit_equal(stream(typed, tail, RecurrentSchedule::hybrid, kernels()).out,
                          support::evaluate(typed.clip.hybrid(Direction::causal), kernels()).out));
    EXPECT_TRUE(bit_equal(stream(typed, tail, RecurrentSchedule::linear, kernels()).out,
                          support::evaluate(typed.clip.linear(Direction::causal), kernels()).out));
  }
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(sum);
}

/// A tail narrower than keys and values costs at most twice what rounding all of them costs, and holds half.
TEST_P(ElementsTest, NarrowTailCostsItsRounding) {
  const Geometry g{.batch = 1,
                   .frames = 9,
                   .tokens_per_frame = 7,
                   .chunk_frames = 2,
                   .overlap_frames = 3,
                   .kv_heads = 2,
                   .heads_per_kv = 2,
                   .dim = 33,
                   .value_dim = 17,
                   .given_dim = 5};
  for (const ElementType tail : {ElementType::bfloat16, ElementType::float16}) {
    for (const std::uint64_t seed : support::seeds(4)) {
      SCOPED_TRACE(support::replay(seed));
      Random random(seed), again(seed);
      constexpr ElementType wide = ElementType::float32;
      const TypedClip exact{TestClip(random, g, support::Features::elu1), wide, wide, wide};
      const TypedClip rounded{TestClip(again, g, support::Features::elu1), wide, tail, tail};
      const std::vector<float> expected = stream(exact, wide, RecurrentSchedule::hybrid, kernels()).out;
      const double error = distance(stream(exact, tail, RecurrentSchedule::hybrid, kernels()).out, expected);
      EXPECT_LE(error,
                2 * distance(stream(rounded, wide, RecurrentSchedule::hybrid, kernels()).out, expected));
      EXPECT_GT(error, 0);
      RecurrentConfig config = exact.clip.recurrent(RecurrentSchedule::hybrid);
      const std::size_t whole = *RecurrentState::size_bytes(config);
      config.tail_type = tail;
      const std::int64_t tail_elements =
          g.overlap_frames * g.tokens_per_frame * g.kv_heads * (g.dim + g.value_dim);
      EXPECT_NEAR(static_cast<double>(whole - *RecurrentState::size_bytes(config)),
                  2.0 * static_cast<double>(tail_elements), 128);
    }
  }
}

/// What lies beyond float16's range becomes infinite in the output, and an infinite element is one.
TEST_P(ElementsTest, Float16Overflow) {
  const std::vector<float> ones(3, 1.0f), large = {70000.0f, -70000.0f, 65519.0f};
  const auto shape = TensorView<const float>::token_major(nullptr, 1, 1, 1, 3);
  ElementTensor qk(ElementType::float16, shape), v(ElementType::float32, shape),
      out(ElementType::float16, shape);
  qk.assign(ones), v.assign(large);
  SoftmaxAttention p{.q = qk.input(), .k = qk.input(), .v = v.input(), .out = out.output()};
  support::run(p, kernels());
  EXPECT_EQ(out.values(), (std::vector<float>{INFINITY, -INFINITY, 65504.0f}));
  ElementTensor narrow(ElementType::float16, shape);
  narrow.assign(large);
  p.v = narrow.input();
  support::run(p, kernels());
  EXPECT_FALSE(std::isfinite(out.values()[0]) || std::isfinite(out.values()[1]));
  EXPECT_EQ(out.values()[2], 65504.0f);
}

REHYAT_TEST_ALL_ISAS(ElementsTest);

}  // namespace
}  // namespace rehyat
