// What C's structs begin as, member by member, and C's numbers against C++'s enumerators.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rehyat/attention.hpp"
#include "rehyat/recurrent.hpp"
#include "rehyat/rehyat.h"

namespace rehyat {
namespace {

template <class E>
constexpr bool same(E cpp, std::int32_t c) {
  return static_cast<std::int32_t>(cpp) == c;
}

static_assert(same(StatusCode::ok, REHYAT_OK) &&
              same(StatusCode::invalid_argument, REHYAT_INVALID_ARGUMENT) &&
              same(StatusCode::workspace_too_small, REHYAT_WORKSPACE_TOO_SMALL) &&
              same(StatusCode::sequence_finished, REHYAT_SEQUENCE_FINISHED) &&
              same(StatusCode::unsupported_isa, REHYAT_UNSUPPORTED_ISA) &&
              same(StatusCode::invalid_file, REHYAT_INVALID_FILE));
static_assert(same(ElementType::float32, REHYAT_FLOAT32) && same(ElementType::bfloat16, REHYAT_BFLOAT16) &&
              same(ElementType::float16, REHYAT_FLOAT16));
static_assert(same(Direction::causal, REHYAT_CAUSAL) && same(Direction::bidirectional, REHYAT_BIDIRECTIONAL));
static_assert(same(Stabilizer::row_max, REHYAT_STABILIZER_ROW_MAX) &&
              same(Stabilizer::none, REHYAT_STABILIZER_NONE));
static_assert(same(Arithmetic::float32, REHYAT_ARITHMETIC_FLOAT32) &&
              same(Arithmetic::int8, REHYAT_ARITHMETIC_INT8) &&
              same(Arithmetic::float16, REHYAT_ARITHMETIC_FLOAT16));
static_assert(same(Activation::identity, REHYAT_IDENTITY) && same(Activation::relu, REHYAT_RELU) &&
              same(Activation::gelu, REHYAT_GELU) && same(Activation::silu, REHYAT_SILU) &&
              same(Activation::softplus, REHYAT_SOFTPLUS) && same(Activation::elu1, REHYAT_ELU1));
static_assert(same(FeatureMap::Kind::unset, REHYAT_FEATURES_UNSET) &&
              same(FeatureMap::Kind::elementwise, REHYAT_FEATURES_ELEMENTWISE) &&
              same(FeatureMap::Kind::polynomial, REHYAT_FEATURES_POLYNOMIAL) &&
              same(FeatureMap::Kind::given, REHYAT_FEATURES_GIVEN));
static_assert(same(WeightLayout::rows, REHYAT_WEIGHT_ROWS) &&
              same(WeightLayout::panels, REHYAT_WEIGHT_PANELS));
static_assert(same(RecurrentSchedule::hybrid, REHYAT_RECURRENT_HYBRID) &&
              same(RecurrentSchedule::linear, REHYAT_RECURRENT_LINEAR));
static_assert(same(Isa::scalar, REHYAT_ISA_SCALAR) && same(Isa::avx2, REHYAT_ISA_AVX2) &&
              same(Isa::avx512, REHYAT_ISA_AVX512) && same(Isa::neon, REHYAT_ISA_NEON));

void expect_equal(const auto& c, const InputView& cpp) {
  EXPECT_EQ(c.data, cpp.data);
  EXPECT_TRUE(same(cpp.type, c.type));
  EXPECT_EQ(c.batch, cpp.batch);
  EXPECT_EQ(c.tokens, cpp.tokens);
  EXPECT_EQ(c.heads, cpp.heads);
  EXPECT_EQ(c.dim, cpp.dim);
  EXPECT_EQ(c.batch_stride, cpp.batch_stride);
  EXPECT_EQ(c.token_stride, cpp.token_stride);
  EXPECT_EQ(c.head_stride, cpp.head_stride);
}

InputView input(const OutputView& out) {
  return TensorView<const float>{static_cast<const float*>(out.data),
                                 out.batch,
                                 out.tokens,
                                 out.heads,
                                 out.dim,
                                 out.batch_stride,
                                 out.token_stride,
                                 out.head_stride};
}

void expect_equal(const rehyat_feature_map& c, const FeatureMap& cpp) {
  EXPECT_EQ(c.struct_size, sizeof c);
  EXPECT_TRUE(same(cpp.kind, c.kind));
  EXPECT_EQ(c.num_layers, cpp.num_layers);
  EXPECT_EQ(c.degree, cpp.degree);
  EXPECT_TRUE(same(cpp.activation, c.activation));
  EXPECT_TRUE(same(cpp.output_activation, c.output_activation));
  EXPECT_TRUE(same(cpp.layout, c.layout));
  for (int i = 0; i < max_feature_layers; ++i) {
    EXPECT_EQ(c.layers[i].weight, cpp.layers[i].weight);
    EXPECT_EQ(c.layers[i].bias, cpp.layers[i].bias);
    EXPECT_EQ(c.layers[i].out_dim, cpp.layers[i].out_dim);
  }
  EXPECT_EQ(c.heads, cpp.heads);
  EXPECT_EQ(c.given_dim, cpp.given_dim);
}

void expect_equal(const rehyat_chunking& c, const Chunking& cpp) {
  EXPECT_EQ(c.tokens_per_frame, cpp.tokens_per_frame);
  EXPECT_EQ(c.chunk_frames, cpp.chunk_frames);
  EXPECT_EQ(c.overlap_frames, cpp.overlap_frames);
}

/// Members by whichever of the structs has them.
void expect_equal_parameters(const auto& c, const auto& cpp) {
  EXPECT_EQ(c.struct_size, sizeof c);
  if constexpr (requires { cpp.out; }) {
    expect_equal(c.q, cpp.q);
    expect_equal(c.k, cpp.k);
    expect_equal(c.v, cpp.v);
    expect_equal(c.out, input(cpp.out));
    expect_equal(c.statistics.row_max, cpp.statistics.row_max);
    expect_equal(c.statistics.row_sum, cpp.statistics.row_sum);
    expect_equal(c.statistics.linear_denominator, cpp.statistics.linear_denominator);
    EXPECT_EQ(c.report, nullptr);
    EXPECT_EQ(cpp.report, nullptr);
  }
  if constexpr (requires { cpp.given; }) {
    expect_equal(c.given.q, cpp.given.q);
    expect_equal(c.given.k, cpp.given.k);
    expect_equal(c.given.q_denominator, cpp.given.q_denominator);
    expect_equal(c.given.k_denominator, cpp.given.k_denominator);
  }
  if constexpr (requires { cpp.phi_q; }) {
    expect_equal(c.phi_q, cpp.phi_q);
    expect_equal(c.phi_k, cpp.phi_k);
    EXPECT_EQ(c.denominator_epsilon, cpp.denominator_epsilon);
    EXPECT_EQ(c.denominator_floor, cpp.denominator_floor);
  }
  if constexpr (requires { cpp.chunking; }) {
    expect_equal(c.chunking, cpp.chunking);
  }
  if constexpr (requires { cpp.direction; }) {
    EXPECT_TRUE(same(cpp.direction, c.direction));
  }
  if constexpr (requires { cpp.stabilizer; }) {
    EXPECT_TRUE(same(cpp.stabilizer, c.stabilizer));
  }
  if constexpr (requires { cpp.arithmetic; }) {
    EXPECT_TRUE(same(cpp.arithmetic, c.arithmetic));
  }
  if constexpr (requires { cpp.scale; }) {
    EXPECT_EQ(c.scale == nullptr, !cpp.scale.has_value());
  }
  if constexpr (requires { cpp.frames; }) {
    EXPECT_EQ(c.frames, cpp.frames.data());
  }
}

TEST(CDefaults, AreThoseOfCpp) {
  expect_equal(rehyat_feature_map_defaults(), FeatureMap{});
  expect_equal(rehyat_feature_map_elementwise(REHYAT_RELU), FeatureMap::relu());
  expect_equal(rehyat_feature_map_given(7), FeatureMap::given(7));
  const rehyat_softmax_parameters softmax = rehyat_softmax_defaults();
  expect_equal_parameters(softmax, SoftmaxAttention{});
  EXPECT_EQ(softmax.query_tokens, nullptr);
  EXPECT_EQ(softmax.key_tokens, nullptr);
  expect_equal_parameters(rehyat_hybrid_defaults(), HybridAttention{});
  expect_equal_parameters(rehyat_linear_defaults(), LinearAttention{});
  const rehyat_uniform_parameters uniform = rehyat_uniform_defaults();
  expect_equal_parameters(uniform, UniformAttention{});
  EXPECT_EQ(uniform.tokens, nullptr);
  EXPECT_EQ(uniform.rate, UniformAttention{}.rate);
  expect_equal_parameters(rehyat_recurrent_chunk_defaults(), RecurrentChunk{});

  const rehyat_recurrent_config config = rehyat_recurrent_config_defaults();
  const RecurrentConfig expected;
  expect_equal_parameters(config, expected);
  EXPECT_TRUE(same(expected.schedule, config.schedule));
  EXPECT_TRUE(same(expected.tail_type, config.tail_type));
  EXPECT_EQ(config.batch, expected.batch);
  EXPECT_EQ(config.heads, expected.heads);
  EXPECT_EQ(config.kv_heads, expected.kv_heads);
  EXPECT_EQ(config.head_dim, expected.head_dim);
  EXPECT_EQ(config.value_dim, expected.value_dim);
  EXPECT_EQ(config.separate_denominator, expected.separate_denominator ? 1 : 0);
}

TEST(CTensors, HaveTheStridesOfCpp) {
  std::vector<float> values(2 * 3 * 4 * 5);
  const auto token_major = TensorView<float>::token_major(values.data(), 2, 3, 4, 5);
  const auto head_major = TensorView<float>::head_major(values.data(), 2, 3, 4, 5);
  expect_equal(rehyat_token_major(values.data(), REHYAT_FLOAT32, 2, 3, 4, 5), token_major);
  expect_equal(rehyat_const_token_major(values.data(), REHYAT_FLOAT32, 2, 3, 4, 5), token_major);
  expect_equal(rehyat_head_major(values.data(), REHYAT_FLOAT32, 2, 3, 4, 5), head_major);
  const rehyat_const_tensor c = rehyat_const_head_major(values.data(), REHYAT_FLOAT32, 2, 3, 4, 5);
  expect_equal(c, head_major);
  expect_equal(rehyat_const_slice_tokens(c, 1, 2), head_major.slice_tokens(1, 2));

  rehyat_tensor half = rehyat_token_major(values.data(), REHYAT_FLOAT16, 2, 3, 4, 5);
  half = rehyat_slice_tokens(half, 2, 1);
  EXPECT_EQ(half.data, reinterpret_cast<char*>(values.data()) + 2 * 20 * 2);
  EXPECT_EQ(half.tokens, 1);
  half.data = nullptr;
  EXPECT_EQ(rehyat_slice_tokens(half, 1, 1).data, nullptr);
  half.type = 9;
  EXPECT_EQ(rehyat_slice_tokens(half, 0, 1).type, 9) << "an unknown type must stay, to be refused";
}

TEST(CIsa, IsThatOfCpp) {
  EXPECT_EQ(rehyat_active_isa(), static_cast<rehyat_isa>(active()));
  for (rehyat_isa i = 0; i < num_isas; ++i) {
    EXPECT_EQ(rehyat_isa_available(i), available(static_cast<Isa>(i)) ? 1 : 0);
    EXPECT_STREQ(rehyat_isa_name(i), isa_name(static_cast<Isa>(i)));
  }
  for (const rehyat_isa i : {-1, num_isas}) {
    EXPECT_EQ(rehyat_isa_available(i), 0);
    EXPECT_EQ(rehyat_isa_name(i), nullptr);
  }
  EXPECT_EQ(rehyat_version(), std::to_string(REHYAT_VERSION_MAJOR) + "." +
                                  std::to_string(REHYAT_VERSION_MINOR) + "." +
                                  std::to_string(REHYAT_VERSION_PATCH));
}

}  // namespace
}  // namespace rehyat
