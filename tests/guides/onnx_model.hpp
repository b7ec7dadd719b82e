#pragma once
// A model of one node in ONNX's format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

#include <bit>
#include <cstdint>
#include <string>
#include <variant>

#include "onnxruntime_host.hpp"

namespace rehyat::guides {

/// A message of Protocol Buffers in the making. Fields are numbers of the schema.
class Message {
 public:
  Message& integer(std::uint64_t field, std::int64_t value) {
    varint(field << 3);
    varint(static_cast<std::uint64_t>(value));
    return *this;
  }
  Message& number(std::uint64_t field, float value) {
    varint(field << 3 | 5);
    for (int shift = 0; shift < 32; shift += 8) {
      bytes_.push_back(static_cast<char>(std::bit_cast<std::uint32_t>(value) >> shift));
    }
    return *this;
  }
  Message& text(std::uint64_t field, const std::string& value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(std::uint64_t field, const Message& value) { return text(field, value.bytes_); }

  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_.push_back(static_cast<char>(value | 128));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

inline std::string input_name(std::size_t index) { return "input_" + std::to_string(index); }

inline Message attribute_message(const NodeAttribute& attribute) {
  Message m;
  m.text(1, attribute.name);
  if (const auto* f = std::get_if<float>(&attribute.value)) m.number(2, *f).integer(20, 1);
  if (const auto* i = std::get_if<std::int64_t>(&attribute.value)) m.integer(3, *i).integer(20, 2);
  if (const auto* s = std::get_if<std::string>(&attribute.value)) m.text(4, *s).integer(20, 3);
  return m;
}

inline Message initializer_message(const std::string& name, const NodeInput& input) {
  Message m;
  for (const std::int64_t size : input.shape) m.integer(1, size);
  const char* const data = reinterpret_cast<const char*>(input.data.data());
  return m.integer(2, input.type).text(8, name).text(9, std::string(data, input.data.size()));
}

/// A graph's input or output: its rank is known, its sizes are not.
inline Message value_message(const std::string& name, ONNXTensorElementDataType type, std::size_t rank) {
  Message shape;
  for (std::size_t i = 0; i < rank; ++i) shape.message(1, Message().text(2, name + "_" + std::to_string(i)));
  const Message tensor = Message().integer(1, type).message(2, shape);
  return Message().text(1, name).message(2, Message().message(1, tensor));
}

/// The model's bytes. Inputs that are no initializers are the graph's; its output is "output".
inline std::string onnx_model(const Node& node) {
  Message graph_node, graph;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) graph_node.text(1, input_name(i));
  graph_node.text(2, "output").text(4, "HybridAttention").text(7, "rehyat");
  for (const NodeAttribute& a : node.attributes) graph_node.message(5, attribute_message(a));
  graph.message(1, graph_node).text(2, "graph");
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const NodeInput& input = node.inputs[i];
    if (input.initializer) {
      graph.message(5, initializer_message(input_name(i), input));
    } else {
      graph.message(11, value_message(input_name(i), input.type, input.shape.size()));
    }
  }
  graph.message(12, value_message("output", node.inputs.at(0).type, 3));
  return Message()
      .integer(1, 8)
      .message(7, graph)
      .message(8, Message().text(1, "").integer(2, 17))
      .message(8, Message().text(1, "rehyat").integer(2, 1))
      .bytes();
}

}  // namespace rehyat::guides
