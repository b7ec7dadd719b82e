// examples/onnxruntime_op, on the stand-in for ONNX Runtime or on ONNX Runtime itself: the bits of the
// library's own calls for any number of threads and every type, and its refusals as the session's errors.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "onnxruntime_host.hpp"
#include "support/element_tensor.hpp"
#include "support/isas.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using guides::Node;
using guides::NodeInput;
using guides::Outcome;
using support::Geometry;
using support::Random;
using support::TestClip;

ONNXTensorElementDataType onnx_type(ElementType type) {
  return type == ElementType::float32   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
         : type == ElementType::float16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                        : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
}

std::vector<std::byte> stored(std::span<const float> values, ElementType type) {
  const auto size = static_cast<std::size_t>(element_size(type));
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i)
    support::store_element(bytes.data() + i * size, type, values[i]);
  return bytes;
}

const char* name_of(Activation a) {
  constexpr const char* names[] = {"identity", "relu", "gelu", "silu", "softplus", "elu1"};
  return names[static_cast<int>(a)];
}

NodeInput activations(const TensorView<const float>& v, ElementType type) {
  const std::vector<std::int64_t> shape{v.batch, v.tokens, v.heads * v.dim};
  const auto count = static_cast<std::size_t>(v.batch * v.tokens * v.heads * v.dim);
  return {onnx_type(type), shape, stored({v.data, count}, type)};
}

/// Weight and bias as a grouped Conv1d has them; a bias that is not there is 0.
void add_layer(Node& node, const FeatureMap& phi, int index, std::int64_t in) {
  const DenseLayer& layer = phi.layers[index];
  const std::int64_t rows = phi.heads * layer.out_dim;
  const std::vector<float> zeros(static_cast<std::size_t>(rows));
  const auto add = [&](std::vector<std::int64_t> shape, const float* data, std::int64_t count) {
    const std::span<const float> values(data, static_cast<std::size_t>(count));
    node.inputs.push_back(
        {onnx_type(ElementType::float32), shape, stored(values, ElementType::float32), true});
  };
  add({rows, in, 1}, layer.weight, rows * in);
  add({rows}, layer.bias == nullptr ? zeros.data() : layer.bias, rows);
}

Node node_of(const TestClip& clip, Direction direction, ElementType type) {
  const Geometry& g = clip.geometry;
  Node node{.attributes = {{"num_heads", g.heads()},
                           {"kv_num_heads", g.kv_heads},
                           {"tokens_per_frame", g.tokens_per_frame},
                           {"chunk_frames", g.chunk_frames},
                           {"overlap_frames", g.overlap_frames},
                           {"direction", direction == Direction::causal ? "causal" : "bidirectional"},
                           {"stabilizer", clip.stabilizer == Stabilizer::none ? "none" : "row_max"},
                           {"activation", name_of(clip.phi_q.activation)},
                           {"output_activation", name_of(clip.phi_q.output_activation)},
                           {"degree", std::int64_t{clip.phi_q.degree}}},
            .inputs = {activations(clip.q_view(), type), activations(clip.k_view(), type),
                       activations(clip.v_view(), type)}};
  if (clip.scale) node.attributes.push_back({"scale", *clip.scale});
  std::int64_t in = g.dim;
  for (int i = 0; i < clip.phi_q.num_layers; ++i) {
    add_layer(node, clip.phi_q, i, in);
    add_layer(node, clip.phi_k, i, in);
    in = clip.phi_q.layers[i].out_dim;
  }
  return node;
}

TestClip random_clip(Random& random, ElementType type) {
  using support::Features;
  TestClip clip(random, Geometry::random(random),
                random.pick({Features::elu1, Features::relu, Features::polynomial, Features::polynomial}));
  clip.stabilizer = random.pick({Stabilizer::row_max, Stabilizer::none});
  if (random.coin()) clip.scale = static_cast<float>(random.uniform(0.05, 1));
  for (auto* values : {&clip.q, &clip.k, &clip.v}) *values = support::rounded(*values, type);
  return clip;
}

TEST(OnnxRuntimeOp, GivesTheBitsOfTheLibrarysOwnCall) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const ElementType type = support::random_element(random);
    const TestClip clip = random_clip(random, type);
    const Geometry& g = clip.geometry;
    for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
      const support::Written expected = support::evaluate(clip.hybrid(direction), default_kernels());
      for (const int threads : {0, 1, 2, 3, 8}) {
        const Outcome outcome = guides::run_node(node_of(clip, direction, type), threads);
        ASSERT_EQ(outcome.error, "");
        EXPECT_EQ(outcome.shape, (std::vector{g.batch, g.tokens(), g.heads() * g.value_dim}));
        EXPECT_TRUE(outcome.data == stored(expected.out, type))
            << element_name(type) << ", " << threads << " threads";
      }
    }
  }
}

/// A good node of two heads, to be spoiled.
class OnnxRuntimeOpRefusals : public testing::Test {
 protected:
  OnnxRuntimeOpRefusals() : random_(1), clip_(random_, {.kv_heads = 2}, support::Features::polynomial) {}

  template <class Spoil>
  void expect_refused(const Spoil& spoil, const std::string& words) {
    Node node = node_of(clip_, Direction::causal, ElementType::float32);
    spoil(node);
    const std::string error = guides::run_node(node, 2).error;
    EXPECT_NE(error.find(words), std::string::npos) << "got: " << error << "\nexpected: " << words;
  }
  void expect_attribute_refused(const char* name, const std::variant<std::int64_t, float, std::string>& value,
                                const std::string& words) {
    expect_refused([&](Node& node) { *value_of(node, name) = value; }, words);
  }

  static std::variant<std::int64_t, float, std::string>* value_of(Node& node, const std::string& name) {
    for (guides::NodeAttribute& a : node.attributes) {
      if (a.name == name) return &a.value;
    }
    return nullptr;
  }

  Random random_;
  TestClip clip_;
};

TEST_F(OnnxRuntimeOpRefusals, OfAttributes) {
  for (const char* name :
       {"num_heads", "tokens_per_frame", "chunk_frames", "overlap_frames", "output_activation"}) {
    expect_refused(
        [&](Node& node) {
          std::erase_if(node.attributes, [&](const guides::NodeAttribute& a) { return a.name == name; });
        },
        std::string("rehyat: attribute ") + name + " is missing");
  }
  expect_attribute_refused("num_heads", std::int64_t{0}, "attribute num_heads is 0, expected at least 1");
  expect_attribute_refused("kv_num_heads", std::int64_t{-1}, "attribute kv_num_heads is -1");
  expect_attribute_refused("stabilizer", "max", "attribute stabilizer is max, expected one of row_max, none");
  expect_attribute_refused("direction", "both", "attribute direction is both, expected one of causal, bidir");
  expect_attribute_refused("activation", "tanh",
                           "attribute activation is tanh, expected one of identity, relu");
  expect_attribute_refused("degree", std::int64_t{5}, "degree is 5, expected 1 to 4");
  expect_attribute_refused("chunk_frames", std::int64_t{0}, "chunk_frames is 0, expected at least 1");
  expect_attribute_refused("tokens_per_frame", std::int64_t{5},
                           "tokens_per_frame is 5, expected a divisor of");
}

TEST_F(OnnxRuntimeOpRefusals, OfInputs) {
  expect_refused([](Node& node) { node.inputs.pop_back(); },
                 "inputs, expected query, key, value and, for each");
  expect_refused([](Node& node) { node.inputs[3].initializer = false; },
                 "input 3 is computed, expected an init");
  expect_refused([](Node& node) { node.inputs[4].shape.insert(node.inputs[4].shape.begin(), 1); },
                 "a bias of phi has 2 dimensions, expected 1");
  expect_refused([](Node& node) { std::swap(node.inputs[3].shape[1], node.inputs[3].shape[2]); },
                 "inputs 3 and 4 are [");
  expect_refused([](Node& node) { node.inputs[0].shape.push_back(1); }, "query has 4 dimensions, expected 3");
  expect_refused(
      [](Node& node) {
        node.inputs[1].shape = {1, 192, 1};
      },
      "key has 1 channels, expected a multiple of 2 heads");
  expect_refused([](Node& node) { node.inputs[2].shape = {1, 6, 32}; }, "v.tokens is 6, expected 12");
}

}  // namespace
}  // namespace rehyat
