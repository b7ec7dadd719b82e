#pragma once
// A stand-in for ggml: its names, layouts and calling convention, as far as examples/ggml_op uses them. A
// graph's nodes run one after another, each on all threads at once with a barrier behind it and none within.

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <thread>
#include <vector>

enum ggml_type {
  GGML_TYPE_F32 = 0,
  GGML_TYPE_F16 = 1,
  GGML_TYPE_I8 = 24,
  GGML_TYPE_I32 = 26,
  GGML_TYPE_BF16 = 30,
};

struct ggml_tensor;
using ggml_custom_op_t = void (*)(ggml_tensor* dst, int ith, int nth, void* userdata);

struct ggml_tensor {
  ggml_type type = GGML_TYPE_F32;
  std::int64_t ne[4] = {1, 1, 1, 1};  ///< elements
  std::size_t nb[4] = {};             ///< strides in bytes
  ggml_tensor* src[10] = {};
  void* data = nullptr;
  ggml_custom_op_t function = nullptr;  ///< of custom operators
  void* userdata = nullptr;
};

struct ggml_init_params {
  std::size_t mem_size;
  void* mem_buffer;
  bool no_alloc;
};

struct ggml_cgraph {
  std::vector<ggml_tensor*> nodes = {};
};

struct ggml_context {
  bool no_alloc;
  std::deque<ggml_tensor> tensors = {};
  std::deque<std::vector<std::byte>> memory = {};
  std::deque<ggml_cgraph> graphs = {};
};

#define GGML_N_TASKS_MAX (-1)
#define GGML_ABORT(...) (std::fprintf(stderr, __VA_ARGS__), std::abort())

inline ggml_context* ggml_init(ggml_init_params params) {
  return new ggml_context{.no_alloc = params.no_alloc};
}
inline void ggml_free(ggml_context* context) { delete context; }

inline std::size_t ggml_type_size(ggml_type type) {
  return type == GGML_TYPE_I8 ? 1 : type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 ? 2 : 4;
}
inline const char* ggml_type_name(ggml_type type) { return type == GGML_TYPE_I32 ? "i32" : "other"; }
inline std::size_t ggml_nbytes(const ggml_tensor* t) {
  std::size_t bytes = ggml_type_size(t->type);
  for (int i = 0; i < 4; ++i) bytes += static_cast<std::size_t>(t->ne[i] - 1) * t->nb[i];
  return bytes;
}

inline ggml_tensor* ggml_new_tensor_4d(ggml_context* context, ggml_type type, std::int64_t ne0,
                                       std::int64_t ne1, std::int64_t ne2, std::int64_t ne3) {
  ggml_tensor& t = context->tensors.emplace_back(ggml_tensor{.type = type, .ne = {ne0, ne1, ne2, ne3}});
  t.nb[0] = ggml_type_size(type);
  for (int i = 1; i < 4; ++i) t.nb[i] = t.nb[i - 1] * static_cast<std::size_t>(t.ne[i - 1]);
  if (!context->no_alloc) t.data = context->memory.emplace_back(ggml_nbytes(&t)).data();
  return &t;
}
inline ggml_tensor* ggml_new_tensor_1d(ggml_context* context, ggml_type type, std::int64_t ne0) {
  return ggml_new_tensor_4d(context, type, ne0, 1, 1, 1);
}

inline ggml_tensor* ggml_view_4d(ggml_context* context, ggml_tensor* a, std::int64_t ne0, std::int64_t ne1,
                                 std::int64_t ne2, std::int64_t ne3, std::size_t nb1, std::size_t nb2,
                                 std::size_t nb3, std::size_t offset) {
  void* const data = a->data == nullptr ? nullptr : static_cast<std::byte*>(a->data) + offset;
  return &context->tensors.emplace_back(ggml_tensor{.type = a->type,
                                                    .ne = {ne0, ne1, ne2, ne3},
                                                    .nb = {a->nb[0], nb1, nb2, nb3},
                                                    .src = {a},
                                                    .data = data});
}
inline ggml_tensor* ggml_permute(ggml_context* context, ggml_tensor* a, int axis0, int axis1, int axis2,
                                 int axis3) {
  const int to[4] = {axis0, axis1, axis2, axis3};
  ggml_tensor& t = context->tensors.emplace_back(ggml_tensor{.type = a->type, .src = {a}, .data = a->data});
  for (int i = 0; i < 4; ++i) t.ne[to[i]] = a->ne[i], t.nb[to[i]] = a->nb[i];
  return &t;
}

inline ggml_tensor* ggml_custom_4d(ggml_context* context, ggml_type type, std::int64_t ne0, std::int64_t ne1,
                                   std::int64_t ne2, std::int64_t ne3, ggml_tensor** args, int n_args,
                                   ggml_custom_op_t fun, int, void* userdata) {
  ggml_tensor* t = ggml_new_tensor_4d(context, type, ne0, ne1, ne2, ne3);
  for (int i = 0; i < n_args; ++i) t->src[i] = args[i];
  t->function = fun, t->userdata = userdata;
  return t;
}
inline ggml_tensor* ggml_custom_inplace(ggml_context* context, ggml_tensor* a, ggml_tensor**, int,
                                        ggml_custom_op_t fun, int, void* userdata) {
  ggml_tensor* t = ggml_permute(context, a, 0, 1, 2, 3);
  t->function = fun, t->userdata = userdata;
  return t;
}

inline ggml_cgraph* ggml_new_graph(ggml_context* context) { return &context->graphs.emplace_back(); }

/// What a tensor is computed from comes before it.
inline void ggml_build_forward_expand(ggml_cgraph* graph, ggml_tensor* tensor) {
  for (const ggml_tensor* node : graph->nodes) {
    if (node == tensor) return;
  }
  for (ggml_tensor* source : tensor->src) {
    if (source != nullptr) ggml_build_forward_expand(graph, source);
  }
  graph->nodes.push_back(tensor);
}
