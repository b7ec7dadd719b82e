#pragma once

/// @file rehyat/rehyat.h
/// The library from C (C11; also C++): the operators, the recurrent state, packed weights, threads. Same
/// arithmetic, same bits and same messages as from C++.
///
/// In CMake, for a target in a project with the language CXX enabled:
///   target_link_libraries(engine PRIVATE rehyat::rehyat)
///   rehyat_add_dispatch(engine)   # optional: the CPU's best instruction set, picked at run time
///   rehyat_add_c_api(engine)      # adds the translation unit that holds the functions below
/// Without CMake it is one file of C++20 with the line #include "rehyat/c_api/implementation.hpp".
///
/// Every function
/// - that returns a rehyat_status checks everything before it does anything. On an error nothing has been
///   written, neither tensors nor what results are returned through. A null pointer is refused by its name,
///   unless it is said to be optional.
/// - allocates nothing and starts no thread, but for rehyat_thread_pool_create(). Workspace is memory of the
///   caller's, of any alignment, that means nothing before or after the call.
/// - may be called by several threads at once, on states, pools and memory of their own.
///
/// Shapes: q [B, Nq, H, D], k [B, Nk, Hkv, D], v [B, Nk, Hkv, Dv], out [B, Nq, H, Dv]; Hkv divides H, and
/// query head h reads kv head h / (H / Hkv); D and Dv from 1 to 512; Nq = Nk but for exact softmax. q, k, v,
/// out and given features may each be of any element type. `out` and the statistics must not overlap each
/// other, nor any input. What is promised of bits, NaN, rounding modes and numbers at the edge:
/// rehyat/attention.hpp.

#include "rehyat/c_api/types.h"
#include "rehyat/version.hpp"

/// Define it to export the functions from a shared library of yours, where symbols are hidden.
#ifndef REHYAT_API
#define REHYAT_API
#endif

#if defined(__GNUC__) || defined(__clang__)
#define REHYAT_CHECKED REHYAT_API __attribute__((warn_unused_result))
#else
#define REHYAT_CHECKED REHYAT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/// The version of the headers that the functions were compiled from, as "1.2.3". Constants at compile time:
/// REHYAT_VERSION_MAJOR, REHYAT_VERSION_MINOR, REHYAT_VERSION_PATCH.
REHYAT_API const char* rehyat_version(void);

// Tensors

/// Packed [batch, token, head, dim], as most models hold activations.
REHYAT_API rehyat_tensor rehyat_token_major(void* data, rehyat_element_type type, int64_t batch,
                                            int64_t tokens, int64_t heads, int64_t dim);
REHYAT_API rehyat_const_tensor rehyat_const_token_major(const void* data, rehyat_element_type type,
                                                        int64_t batch, int64_t tokens, int64_t heads,
                                                        int64_t dim);

/// Packed [batch, head, token, dim].
REHYAT_API rehyat_tensor rehyat_head_major(void* data, rehyat_element_type type, int64_t batch,
                                           int64_t tokens, int64_t heads, int64_t dim);
REHYAT_API rehyat_const_tensor rehyat_const_head_major(const void* data, rehyat_element_type type,
                                                       int64_t batch, int64_t tokens, int64_t heads,
                                                       int64_t dim);

/// Tokens [begin, begin + count) of the same tensor: a chunk of a clip.
REHYAT_API rehyat_tensor rehyat_slice_tokens(rehyat_tensor tensor, int64_t begin, int64_t count);
REHYAT_API rehyat_const_tensor rehyat_const_slice_tokens(rehyat_const_tensor tensor, int64_t begin,
                                                         int64_t count);

// Threads

/// Runs every task on the calling thread.
REHYAT_API rehyat_executor rehyat_serial_executor(void);

/// Starts slots - 1 threads, which with the calling one are `slots` workers (less than 1 counts as 1), to be
/// ended by rehyat_thread_pool_destroy(). Where the system refuses a thread the pool makes do with those it
/// has. Null if there is no memory. One call that uses it at a time.
REHYAT_API rehyat_thread_pool* rehyat_thread_pool_create(int32_t slots);

/// Joins the threads and frees the pool. Null is allowed.
REHYAT_API void rehyat_thread_pool_destroy(rehyat_thread_pool* pool);

/// The pool as an executor, valid as long as it. A null pool gives one that every call refuses.
REHYAT_API rehyat_executor rehyat_thread_pool_executor(rehyat_thread_pool* pool);

// Feature maps

/// An unset map with everything else as a polynomial one usually is: fill in kind, num_layers, layers, heads.
REHYAT_API rehyat_feature_map rehyat_feature_map_defaults(void);
/// output_activation(x): REHYAT_ELU1 (Katharopoulos et al. 2020), REHYAT_RELU (SANA), ...
REHYAT_API rehyat_feature_map rehyat_feature_map_elementwise(rehyat_activation activation);
/// Features that the caller computes, `feature_dim` of them a token.
REHYAT_API rehyat_feature_map rehyat_feature_map_given(int64_t feature_dim);

/// Bytes that rehyat_pack_weights() needs for a polynomial map whose first layer reads vectors of `head_dim`.
REHYAT_CHECKED rehyat_status rehyat_packed_weights_size(const rehyat_feature_map* map, int64_t head_dim,
                                                        size_t* bytes);

/// Copies the weights and biases of `map` to `memory` (any alignment) in the order in which the kernels read
/// them; `packed` becomes the map that views the copy. Results are the same to the bit. `memory` must outlive
/// `packed`, which may be `map` itself.
REHYAT_CHECKED rehyat_status rehyat_pack_weights(const rehyat_feature_map* map, int64_t head_dim,
                                                 void* memory, size_t memory_size,
                                                 rehyat_feature_map* packed);

// Operators. Of each: parameters to start from; the bytes of workspace for an executor of so many slots, for
// which the tensors' memory need not be there yet; the operator; how many operations it is, by the
// definition.

/// Exact softmax attention over all keys; Nq and Nk may differ.
REHYAT_API rehyat_softmax_parameters rehyat_softmax_defaults(void);
REHYAT_CHECKED rehyat_status rehyat_softmax_workspace_size(const rehyat_softmax_parameters* parameters,
                                                           int32_t slots, size_t* bytes);
REHYAT_CHECKED rehyat_status rehyat_softmax_attention(const rehyat_softmax_parameters* parameters,
                                                      void* workspace, size_t workspace_size,
                                                      const rehyat_executor* executor);
REHYAT_CHECKED rehyat_status rehyat_softmax_operation_count(const rehyat_softmax_parameters* parameters,
                                                            rehyat_operation_count* count);

/// Chunked hybrid attention (ReHyAt, eq. 5 to 9). Causal: workspace does not grow with the clip.
REHYAT_API rehyat_hybrid_parameters rehyat_hybrid_defaults(void);
REHYAT_CHECKED rehyat_status rehyat_hybrid_workspace_size(const rehyat_hybrid_parameters* parameters,
                                                          int32_t slots, size_t* bytes);
REHYAT_CHECKED rehyat_status rehyat_hybrid_attention(const rehyat_hybrid_parameters* parameters,
                                                     void* workspace, size_t workspace_size,
                                                     const rehyat_executor* executor);
REHYAT_CHECKED rehyat_status rehyat_hybrid_operation_count(const rehyat_hybrid_parameters* parameters,
                                                           rehyat_operation_count* count);

/// Linear attention by chunk, causal (SANA-Video) or bidirectional (Katharopoulos et al., eq. 6).
REHYAT_API rehyat_linear_parameters rehyat_linear_defaults(void);
REHYAT_CHECKED rehyat_status rehyat_linear_workspace_size(const rehyat_linear_parameters* parameters,
                                                          int32_t slots, size_t* bytes);
REHYAT_CHECKED rehyat_status rehyat_linear_attention(const rehyat_linear_parameters* parameters,
                                                     void* workspace, size_t workspace_size,
                                                     const rehyat_executor* executor);
REHYAT_CHECKED rehyat_status rehyat_linear_operation_count(const rehyat_linear_parameters* parameters,
                                                           rehyat_operation_count* count);

/// Uniform hybrid attention (Attention Surgery, section 3).
REHYAT_API rehyat_uniform_parameters rehyat_uniform_defaults(void);
REHYAT_CHECKED rehyat_status rehyat_uniform_workspace_size(const rehyat_uniform_parameters* parameters,
                                                           int32_t slots, size_t* bytes);
REHYAT_CHECKED rehyat_status rehyat_uniform_attention(const rehyat_uniform_parameters* parameters,
                                                      void* workspace, size_t workspace_size,
                                                      const rehyat_executor* executor);
REHYAT_CHECKED rehyat_status rehyat_uniform_operation_count(const rehyat_uniform_parameters* parameters,
                                                            rehyat_operation_count* count);

// The recurrent form: stepping through a clip equals causal hybrid (or linear) attention of it to the bit.

REHYAT_API rehyat_recurrent_config rehyat_recurrent_config_defaults(void);
REHYAT_API rehyat_recurrent_chunk rehyat_recurrent_chunk_defaults(void);

/// Bytes of a state: constant, no chunk changes it.
REHYAT_CHECKED rehyat_status rehyat_recurrent_size(const rehyat_recurrent_config* config, size_t* bytes);

/// Lays an empty state over `size` bytes at `data` (aligned to 8 bytes; to 64 for speed). It is gone when
/// that memory is freed; there is nothing to destroy. It cannot be moved: bytes elsewhere are no state, see
/// rehyat_recurrent_copy() and rehyat_recurrent_save(). `config` is copied, the weights of phi are not and
/// must outlive the state.
REHYAT_CHECKED rehyat_status rehyat_recurrent_create(const rehyat_recurrent_config* config, void* data,
                                                     size_t size, rehyat_recurrent_state** state);

/// Bytes of workspace that step, peek and commit need for an executor of so many slots.
REHYAT_CHECKED rehyat_status rehyat_recurrent_workspace_size(const rehyat_recurrent_config* config,
                                                             int32_t slots, size_t* bytes);

/// Writes the output of this chunk; the state stays as it is.
REHYAT_CHECKED rehyat_status rehyat_recurrent_peek(const rehyat_recurrent_state* state,
                                                   const rehyat_recurrent_chunk* chunk, void* workspace,
                                                   size_t workspace_size, const rehyat_executor* executor);
/// Takes this chunk's keys and values into the state; reads neither q nor out. An entry whose chunk is
/// shorter than chunk_frames is finished: further chunks of it are refused until reset.
REHYAT_CHECKED rehyat_status rehyat_recurrent_commit(rehyat_recurrent_state* state,
                                                     const rehyat_recurrent_chunk* chunk, void* workspace,
                                                     size_t workspace_size, const rehyat_executor* executor);
/// Both, in one pass.
REHYAT_CHECKED rehyat_status rehyat_recurrent_step(rehyat_recurrent_state* state,
                                                   const rehyat_recurrent_chunk* chunk, void* workspace,
                                                   size_t workspace_size, const rehyat_executor* executor);

/// Back to before the first frame: all batch entries, or one.
REHYAT_CHECKED rehyat_status rehyat_recurrent_reset(rehyat_recurrent_state* state);
REHYAT_CHECKED rehyat_status rehyat_recurrent_reset_entry(rehyat_recurrent_state* state, int64_t batch_entry);

/// Copies all batch entries of a state of the same geometry, or one entry to one entry. The feature maps stay
/// each state's own.
REHYAT_CHECKED rehyat_status rehyat_recurrent_copy(rehyat_recurrent_state* state,
                                                   const rehyat_recurrent_state* other);
REHYAT_CHECKED rehyat_status rehyat_recurrent_copy_entry(rehyat_recurrent_state* state, int64_t to,
                                                         const rehyat_recurrent_state* other, int64_t from);

/// Frames committed to a batch entry since its reset, and whether (1) or not (0) it is finished.
REHYAT_CHECKED rehyat_status rehyat_recurrent_frames_seen(const rehyat_recurrent_state* state,
                                                          int64_t batch_entry, int64_t* frames);
REHYAT_CHECKED rehyat_status rehyat_recurrent_finished(const rehyat_recurrent_state* state,
                                                       int64_t batch_entry, int32_t* finished);

/// Bytes of a saved state, and of one batch entry: they do not depend on what was seen. The format is that of
/// files, rehyat/io/state_file.hpp, and the same on every instruction set.
REHYAT_CHECKED rehyat_status rehyat_recurrent_save_size(const rehyat_recurrent_state* state, size_t* bytes);
REHYAT_CHECKED rehyat_status rehyat_recurrent_save_entry_size(const rehyat_recurrent_state* state,
                                                              size_t* bytes);
/// Writes them to the front of `file`, bytes of any alignment.
REHYAT_CHECKED rehyat_status rehyat_recurrent_save(const rehyat_recurrent_state* state, void* file,
                                                   size_t file_size);
REHYAT_CHECKED rehyat_status rehyat_recurrent_save_entry(const rehyat_recurrent_state* state, int64_t entry,
                                                         void* file, size_t file_size);
/// Takes all batch entries, or entry `from` into entry `to`, from exactly the bytes that were saved, by a
/// state of the same configuration and feature maps. Anything else is refused, and the state then what it
/// was.
REHYAT_CHECKED rehyat_status rehyat_recurrent_restore(rehyat_recurrent_state* state, const void* file,
                                                      size_t file_size);
REHYAT_CHECKED rehyat_status rehyat_recurrent_restore_entry(rehyat_recurrent_state* state, int64_t to,
                                                            const void* file, size_t file_size, int64_t from);

// Instruction sets

/// The one in use: that of the compiler's flags or, with rehyat_add_dispatch(), what the environment variable
/// REHYAT_ISA names, else the best of the CPU. An unusable REHYAT_ISA ends the program with a message.
REHYAT_API rehyat_isa rehyat_active_isa(void);
/// 1 if it is built in and had by this CPU, else 0.
REHYAT_API int32_t rehyat_isa_available(rehyat_isa isa);
/// "scalar", "avx2", "avx512" or "neon"; null for another number.
REHYAT_API const char* rehyat_isa_name(rehyat_isa isa);

#ifdef __cplusplus
}
#endif
