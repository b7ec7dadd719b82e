#pragma once
// A model of one node rehyat::HybridAttention, run by the stand-in for ONNX Runtime or by ONNX Runtime
// itself.

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace rehyat::guides {

struct NodeInput {
  ONNXTensorElementDataType type;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;
  bool initializer = false;
};

struct NodeAttribute {
  std::string name;
  std::variant<std::int64_t, float, std::string> value;
};

struct Node {
  std::vector<NodeAttribute> attributes;
  std::vector<NodeInput> inputs;
};

/// What came out, or the message of the error.
struct Outcome {
  std::string error = {};
  std::vector<std::int64_t> shape = {};
  std::vector<std::byte> data = {};
};

/// Makes a session with this many threads and runs the node in it, twice at once; both must say the same.
Outcome run_node(const Node& node, int threads);

}  // namespace rehyat::guides
