#pragma once

/// @file rehyat/train/hybrid_attention.hpp
/// Chunked hybrid attention, as rehyat/attention.hpp defines it, in float or double with its gradients, for
/// training. Needs Eigen 3.4, and runs in the instruction set of the compiler's flags.
///
/// The backward pass recomputes: it takes nothing from the forward pass, stores no scores, and needs memory
/// that grows linearly with the clip. Chunks first to last: the sums A and z over the keys before each chunk,
/// row maxima and sums, then the gradients of softmax and of phi_q. Chunks last to first: the sums of the
/// gradients dA and dz over the chunks behind each key, then the gradient of phi_k. Sums only grow; nothing
/// is subtracted from them.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rehyat/executor.hpp"
#include "rehyat/status.hpp"
#include "rehyat/tensor_view.hpp"
#include "rehyat/train/detail/run.hpp"
#include "rehyat/train/parameters.hpp"
#include "rehyat/workspace.hpp"

namespace rehyat::train {

/// Bytes of workspace that hybrid_attention() needs for `slots` executor slots, any alignment. Bidirectional:
/// a state (feature_dim * (value_dim + 1) Real) per chunk and slot; causal: independent of the clip's length.
template <std::floating_point Real>
Result<std::size_t> workspace_size(const HybridAttention<Real>& parameters, int slots) {
  return detail::workspace_size<Real>(parameters, nullptr, slots);
}

/// out [B, N, H, Dv], computed in Real: the definition in blocks, without the kernels of
/// rehyat/attention.hpp. The bits depend neither on the executor and its slots nor on the workspace. Nothing
/// is allocated; the stack must have room for 256 KiB.
/// Errors: as rehyat::hybrid_attention(); on an error nothing has been written.
template <std::floating_point Real, Executor E>
Status hybrid_attention(const HybridAttention<Real>& parameters,
                        const std::type_identity_t<TensorView<Real>>& out, Workspace workspace, E& executor) {
  return detail::forward(parameters, out, workspace, executor);
}

/// Bytes of workspace that hybrid_attention_gradients() needs: per slot what hybrid_attention() needs, and
/// two Real a token and query head of a kv head; per batch entry the gradients of phi's weights.
template <std::floating_point Real>
Result<std::size_t> workspace_size(const HybridAttention<Real>& parameters,
                                   const HybridGradients<Real>& gradients, int slots) {
  return detail::workspace_size(parameters, &gradients, slots);
}

/// The gradients of sum(d_out * out). With Stabilizer::row_max they include the way through each row's
/// maximum, to the first key that attains it: `out` depends on it wherever there are linear keys, an epsilon
/// or a floor. Where the floor holds, the denominator is constant.
/// What is written is replaced, not added to; behind frames[b] nothing is read or written. d_out must be of
/// out's shape; it may broadcast (stride 0). Gradients must not overlap one another or any input.
/// Tasks: batch entries times kv heads. Bits, memory and errors as of hybrid_attention(). A NaN or infinity
/// in an input gives gradients that are not finite, how many is not promised.
template <std::floating_point Real, Executor E>
Status hybrid_attention_gradients(const HybridAttention<Real>& parameters,
                                  const std::type_identity_t<TensorView<const Real>>& d_out,
                                  const HybridGradients<Real>& gradients, Workspace workspace, E& executor) {
  return detail::backward(parameters, d_out, gradients, workspace, executor);
}

}  // namespace rehyat::train
