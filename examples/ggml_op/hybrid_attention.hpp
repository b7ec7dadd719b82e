#pragma once

/// @file hybrid_attention.hpp
/// Hybrid attention as a node of a ggml graph. Copy this file into your engine.
///
///   q       [head_dim,  tokens, heads,    batch]   F32, F16 or BF16, also permuted: no ggml_cont
///   k       [head_dim,  tokens, kv_heads, batch]   is needed as long as a head's elements lie
///   v       [value_dim, tokens, kv_heads, batch]   side by side
///   result  [value_dim, heads, tokens, batch]      F32
///
/// as with ggml_flash_attn_ext. Tokens are frame after frame. `scratch` is a tensor of any type with
/// scratch_size() bytes, enough for any number of threads; nodes run one after another, so that all layers
/// share one. What is wrong is said when a node is built; memory may be given to the tensors later.

#include <ggml.h>

#include <cinttypes>
#include <cstddef>
#include <cstdint>

#include "rehyat/one_phase.hpp"

namespace rehyat_ggml {

using rehyat::HybridAttention;
using rehyat::RecurrentChunk;
using rehyat::RecurrentState;
using rehyat::Result;
using rehyat::Status;
using rehyat::StatusCode;

/// Which of ggml's dimensions is which: they count from the innermost, and strides are in bytes.
struct Axes {
  int token = 1, head = 2;
};
inline constexpr Axes input_axes{.token = 1, .head = 2}, output_axes{.token = 2, .head = 1};

template <class View>
Result<View> view_of(const char* name, const ggml_tensor& tensor, Axes axes) {
  View view;
  switch (tensor.type) {
    case GGML_TYPE_F32:
      view.type = rehyat::ElementType::float32;
      break;
    case GGML_TYPE_F16:
      view.type = rehyat::ElementType::float16;
      break;
    case GGML_TYPE_BF16:
      view.type = rehyat::ElementType::bfloat16;
      break;
    default:
      return Status::error(StatusCode::invalid_argument, "%s.type is %s, expected f32, f16 or bf16", name,
                           ggml_type_name(tensor.type));
  }
  const std::int64_t size = rehyat::element_size(view.type);
  std::int64_t stride[4];
  for (int i = 0; i < 4; ++i) {
    const auto bytes = static_cast<std::int64_t>(tensor.nb[i]);
    if (i == 0 ? bytes != size : bytes % size != 0) {
      return Status::error(StatusCode::invalid_argument, "%s.nb[%d] is %" PRId64 ", expected %s%" PRId64,
                           name, i, bytes, i == 0 ? "" : "a multiple of ", size);
    }
    stride[i] = bytes / size;
  }
  view.data = tensor.data;
  view.dim = tensor.ne[0];
  view.tokens = tensor.ne[axes.token], view.token_stride = stride[axes.token];
  view.heads = tensor.ne[axes.head], view.head_stride = stride[axes.head];
  view.batch = tensor.ne[3], view.batch_stride = stride[3];
  return view;
}

/// Parameters of an operator, or a chunk, on the tensors q, k and v.
template <class P>
Result<P> with_inputs(P parameters, ggml_tensor* const* tensors) {
  rehyat::InputView* const views[] = {&parameters.q, &parameters.k, &parameters.v};
  const char* const names[] = {"q", "k", "v"};
  for (int i = 0; i < 3; ++i) {
    const Result<rehyat::InputView> view = view_of<rehyat::InputView>(names[i], *tensors[i], input_axes);
    if (!view.ok()) return view.status();
    *views[i] = *view;
  }
  return parameters;
}

/// The same on a node's own tensors, and its memory for them.
template <class P>
Result<P> with_tensors(P parameters, const ggml_tensor& node) {
  const Result<rehyat::OutputView> out = view_of<rehyat::OutputView>("out", node, output_axes);
  if (!out.ok()) return out.status();
  parameters.out = *out;
  return with_inputs(parameters, node.src);
}

/// The same for a node that is yet to be built. Checks look at no element, so any address will do for memory
/// that is yet to come.
template <class P>
Result<P> with_planned_tensors(P parameters, ggml_tensor* const* tensors) {
  Result<P> p = with_inputs(parameters, tensors);
  if (!p.ok()) return p;
  static float planned;
  for (rehyat::InputView* view : {&p->q, &p->k, &p->v}) {
    if (view->data == nullptr) view->data = &planned;
  }
  p->out = rehyat::TensorView<float>::token_major(&planned, p->q.batch, p->q.tokens, p->q.heads, p->v.dim);
  return p;
}

inline rehyat::Workspace workspace_of(const ggml_tensor& node) {
  return {node.src[3]->data, ggml_nbytes(node.src[3])};
}

/// A node can return no error. What gets here was changed after the node was built.
inline void expect_ok(const Status& status) {
  if (!status.ok()) GGML_ABORT("rehyat: %s", status.message());
}

/// Calls call(parameters, workspace) on a node's tensors.
template <class P, class Call>
void compute(const P& parameters, const ggml_tensor& node, const Call& call) {
  const Result<P> p = with_tensors(parameters, node);
  expect_ok(p.ok() ? call(*p, workspace_of(node)) : p.status());
}

inline Status check_scratch(const ggml_tensor& scratch, std::size_t needed) {
  if (ggml_nbytes(&scratch) >= needed) return {};
  return Status::error(StatusCode::workspace_too_small, "scratch has %zu bytes, expected at least %zu",
                       ggml_nbytes(&scratch), needed);
}

inline ggml_tensor* new_node(ggml_context* context, ggml_tensor** tensors, ggml_custom_op_t function,
                             void* userdata) {
  const ggml_tensor &q = *tensors[0], &v = *tensors[2];
  return ggml_custom_4d(context, GGML_TYPE_F32, v.ne[0], q.ne[2], q.ne[1], q.ne[3], tensors, 4, function,
                        GGML_N_TASKS_MAX, userdata);
}

/// Bytes of scratch for hybrid_attention(), or why it is refused.
inline Result<std::size_t> scratch_size(const HybridAttention& settings, ggml_tensor* q, ggml_tensor* k,
                                        ggml_tensor* v) {
  ggml_tensor* const tensors[] = {q, k, v};
  const Result<HybridAttention> p = with_planned_tensors(settings, tensors);
  if (!p.ok()) return p.status();
  return rehyat::one_phase_workspace_size(*p, static_cast<int>(rehyat::one_phase_tasks(*p)));
}

/// Adds hybrid attention over a clip to the graph. `settings` are those of rehyat::HybridAttention without
/// its tensors (q, k, v, out); they, and what they view, outlive the graph. Threads divide batch entries and
/// kv heads among them; for any number of threads the bits are the same.
inline Result<ggml_tensor*> hybrid_attention(ggml_context* context, ggml_tensor* q, ggml_tensor* k,
                                             ggml_tensor* v, ggml_tensor* scratch,
                                             HybridAttention* settings) {
  const Result<std::size_t> needed = scratch_size(*settings, q, k, v);
  if (!needed.ok()) return needed.status();
  REHYAT_RETURN_IF_ERROR(check_scratch(*scratch, *needed));
  ggml_tensor* tensors[] = {q, k, v, scratch};
  const auto run = [](ggml_tensor* node, int ith, int nth, void* userdata) {
    compute(*static_cast<HybridAttention*>(userdata), *node, [&](const auto& p, rehyat::Workspace workspace) {
      return rehyat::one_phase(p, workspace, ith, nth);
    });
  };
  return new_node(context, tensors, run, settings);
}

/// Bytes of scratch for peek() and step(), or why the config is refused.
inline Result<std::size_t> scratch_size(const rehyat::RecurrentConfig& config) {
  return rehyat::one_phase_workspace_size(config, static_cast<int>(rehyat::one_phase_tasks(config)));
}

inline Status check_chunk(const RecurrentState& state, ggml_tensor* const* tensors) {
  const Result<RecurrentChunk> chunk = with_planned_tensors(RecurrentChunk{}, tensors);
  if (!chunk.ok()) return chunk.status();
  char none = 0;  // without workspace a call checks all the rest, then refuses that
  const Status status = rehyat::one_phase_peek(state, *chunk, {&none, 0}, 0, 1);
  if (status.code() != StatusCode::workspace_too_small) return status;
  const Result<std::size_t> needed = scratch_size(state.config());
  return needed.ok() ? check_scratch(*tensors[3], *needed) : needed.status();
}

/// Adds the attention of a video's next chunk, which leaves the state as it is: for all denoising steps but
/// the last. The state lies in memory of yours and outlives the graph, as does this handle of it.
inline Result<ggml_tensor*> peek(ggml_context* context, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                                 ggml_tensor* scratch, RecurrentState* state) {
  ggml_tensor* tensors[] = {q, k, v, scratch};
  REHYAT_RETURN_IF_ERROR(check_chunk(*state, tensors));
  const auto run = [](ggml_tensor* node, int ith, int nth, void* userdata) {
    compute(RecurrentChunk{}, *node, [&](const RecurrentChunk& chunk, rehyat::Workspace workspace) {
      return rehyat::one_phase_peek(*static_cast<RecurrentState*>(userdata), chunk, workspace, ith, nth);
    });
  };
  return new_node(context, tensors, run, state);
}

/// The same, and takes the chunk's keys and values into the state, each time that the graph is computed. A
/// second node behind the first, without memory of its own, counts the chunk's frames: between nodes ggml has
/// a barrier, within one it has none.
inline Result<ggml_tensor*> step(ggml_context* context, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                                 ggml_tensor* scratch, RecurrentState* state) {
  ggml_tensor* tensors[] = {q, k, v, scratch};
  REHYAT_RETURN_IF_ERROR(check_chunk(*state, tensors));
  const auto run = [](ggml_tensor* node, int ith, int nth, void* userdata) {
    compute(RecurrentChunk{}, *node, [&](const RecurrentChunk& chunk, rehyat::Workspace workspace) {
      return rehyat::one_phase_step(*static_cast<RecurrentState*>(userdata), chunk, workspace, ith, nth);
    });
  };
  const auto finish = [](ggml_tensor* node, int ith, int, void* userdata) {
    if (ith != 0) return;
    compute(RecurrentChunk{}, *node->src[0], [&](const RecurrentChunk& chunk, rehyat::Workspace) {
      return rehyat::one_phase_finish(*static_cast<RecurrentState*>(userdata), chunk);
    });
  };
  return ggml_custom_inplace(context, new_node(context, tensors, run, state), nullptr, 0, finish, 1, state);
}

}  // namespace rehyat_ggml
