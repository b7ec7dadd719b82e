#pragma once
// The vocabulary of the C API: numbers, tensors, feature maps, executors and the parameters of every
// operator. Include rehyat/rehyat.h.

#include <stddef.h>
#include <stdint.h>

// Members and arguments that stand for one of a list are numbers, int32_t: a number off the list is refused.

/// Why a call was refused.
typedef int32_t rehyat_status_code;
enum {
  REHYAT_OK = 0,
  REHYAT_INVALID_ARGUMENT = 1,     ///< a shape, stride, pointer or parameter is not what the call accepts
  REHYAT_WORKSPACE_TOO_SMALL = 2,  ///< the caller's buffer is smaller than the size query asked for
  REHYAT_SEQUENCE_FINISHED = 3,    ///< a chunk after a short one; reset the state first
  REHYAT_UNSUPPORTED_ISA = 4,
  REHYAT_INVALID_FILE = 5,  ///< saved bytes are not what they declare to be
};

/// The result of a call: success, or a code and one line of text that names the argument, its value and what
/// was expected.
typedef struct rehyat_status {
  rehyat_status_code code;
  char message[252];  ///< one line without a newline, ended by 0; empty with REHYAT_OK
} rehyat_status;

/// How the elements of a tensor are stored. Arithmetic does not depend on it.
typedef int32_t rehyat_element_type;
enum { REHYAT_FLOAT32 = 0, REHYAT_BFLOAT16 = 1, REHYAT_FLOAT16 = 2 };

/// Memory of the caller's that is written, seen as [batch, token, head, dim]. Strides are in elements and may
/// be anything that gives every element its own address; the stride of `dim` is 1. Elements need the
/// alignment of their type only. Null `data`: no tensor. rehyat_token_major() and rehyat_head_major() fill
/// one in.
typedef struct rehyat_tensor {
  void* data;
  rehyat_element_type type;
  int64_t batch, tokens, heads, dim;
  int64_t batch_stride, token_stride, head_stride;
} rehyat_tensor;

/// The same for memory that is only read. A stride may also be 0, to broadcast.
typedef struct rehyat_const_tensor {
  const void* data;
  rehyat_element_type type;
  int64_t batch, tokens, heads, dim;
  int64_t batch_stride, token_stride, head_stride;
} rehyat_const_tensor;

/// One task of a phase; `task_context` is that of the run().
typedef void (*rehyat_task)(void* task_context, int64_t index, int32_t slot);

/// Runs the tasks of a phase. `run` calls task(task_context, index, slot) exactly once for every index in
/// [0, count), in any order and on any threads, and returns when all have returned; the effects of the tasks
/// are then visible to the caller. `slot` names the worker: in [0, slots), and no two tasks that run at the
/// same time share one. Results never depend on the order or the workers. A C++ exception that leaves `run`
/// ends the program.
typedef struct rehyat_executor {
  int32_t slots;  ///< at least 1
  void* context;  ///< handed to `run`, may be null
  void (*run)(void* context, int64_t count, rehyat_task task, void* task_context);
} rehyat_executor;

/// The library's own threads; see rehyat_thread_pool_create().
typedef struct rehyat_thread_pool rehyat_thread_pool;

/// Which keys a chunk may see: its own frames and everything before, or the whole clip.
typedef int32_t rehyat_direction;
enum { REHYAT_CAUSAL = 0, REHYAT_BIDIRECTIONAL = 1 };

/// The shift inside the exponentials, which with linear keys is part of the model: rehyat/parameters.hpp.
typedef int32_t rehyat_stabilizer;
enum { REHYAT_STABILIZER_ROW_MAX = 0, REHYAT_STABILIZER_NONE = 1 };

/// What is multiplied in: rehyat/parameters.hpp. Other modes than float32, the default, need
/// kernels that have them: rehyat_add_dispatch(<target> ARITHMETIC).
typedef int32_t rehyat_arithmetic;
enum { REHYAT_ARITHMETIC_FLOAT32 = 0, REHYAT_ARITHMETIC_INT8 = 1, REHYAT_ARITHMETIC_FLOAT16 = 2 };

/// Element-wise functions inside a feature map.
typedef int32_t rehyat_activation;
enum {
  REHYAT_IDENTITY = 0,
  REHYAT_RELU = 1,
  REHYAT_GELU = 2,  ///< the exact form, with erf
  REHYAT_SILU = 3,
  REHYAT_SOFTPLUS = 4,
  REHYAT_ELU1 = 5,  ///< elu(x) + 1
};

typedef int32_t rehyat_feature_map_kind;
enum {
  REHYAT_FEATURES_UNSET = 0,        ///< refused wherever features are needed
  REHYAT_FEATURES_ELEMENTWISE = 1,  ///< output_activation(x); F = D
  REHYAT_FEATURES_POLYNOMIAL = 2,   ///< MLP, output cut into `degree` equal parts, part i to the power i
  REHYAT_FEATURES_GIVEN = 3,        ///< the caller passes the features themselves, `given_dim` wide
};

/// How weights lie in memory.
typedef int32_t rehyat_weight_layout;
enum {
  REHYAT_WEIGHT_ROWS = 0,    ///< [heads, out_dim, in_dim]
  REHYAT_WEIGHT_PANELS = 1,  ///< what rehyat_pack_weights() makes
};

#define REHYAT_MAX_FEATURE_LAYERS 3

/// One dense layer of a per-head MLP.
typedef struct rehyat_dense_layer {
  const float* weight;  ///< as the map's `layout` says
  const float* bias;    ///< [heads, out_dim], or null for none
  int64_t out_dim;
} rehyat_dense_layer;

// Structs with a struct_size begin as what their ..._defaults() function returns, which sets it; others are
// refused. So none that was zeroed, or laid out by another version of this header, is taken at its word.

/// The feature map phi: R^D -> R^F of one side of linear attention. It views the weights, which must outlive
/// every call, and every state, that uses it.
typedef struct rehyat_feature_map {
  size_t struct_size;
  rehyat_feature_map_kind kind;         ///< default: unset
  int32_t num_layers;                   ///< 1 to 3 for polynomial
  int32_t degree;                       ///< 1 to 4; default 1
  rehyat_activation activation;         ///< between the layers; default gelu
  rehyat_activation output_activation;  ///< after the last layer, before the powers; default identity
  rehyat_weight_layout layout;          ///< of all layers; default rows
  rehyat_dense_layer layers[REHYAT_MAX_FEATURE_LAYERS];
  int64_t heads;      ///< heads the weights are for: query heads for phi_q, kv heads for phi_k
  int64_t given_dim;  ///< F of `given`
} rehyat_feature_map;

/// Features that the caller computed: [batch, token, heads, F], with query heads for the queries' and kv
/// heads for the keys'. The denominators' may be left without data, both or none: then the others serve for
/// both.
typedef struct rehyat_given_features {
  rehyat_const_tensor q, k, q_denominator, k_denominator;
} rehyat_given_features;

/// How a clip is cut into chunks. The operators' defaults are 1, 3, 1 (linear attention: 1, 1, 0).
typedef struct rehyat_chunking {
  int64_t tokens_per_frame;  ///< at least 1
  int64_t chunk_frames;      ///< at least 1
  int64_t overlap_frames;    ///< frames before a chunk that keep softmax, at least 0; may exceed chunk_frames
} rehyat_chunking;

/// Per query and head, as float32 tensors [batch, token, heads, 1]; each may be left without data.
typedef struct rehyat_query_statistics {
  rehyat_tensor row_max;             ///< largest scale * <q, k> of the softmax set; -inf if that is empty
  rehyat_tensor row_sum;             ///< sum of exp(score - row_max) over the softmax set; 0 if that is empty
  rehyat_tensor linear_denominator;  ///< phi_q . z, unshifted; 0 where there are no linear keys
} rehyat_query_statistics;

/// The denominators that a call met, before epsilon and floor; written when it succeeds (never by a commit).
typedef struct rehyat_denominator_report {
  float smallest;            ///< of all that are not NaN; infinity if there are none
  float smallest_magnitude;  ///< likewise
  int64_t nan_count;
} rehyat_denominator_report;

/// Parameters of rehyat_softmax_attention(): y_i = sum_j softmax(scale <q_i, k_j>) v_j over all keys.
typedef struct rehyat_softmax_parameters {
  size_t struct_size;
  rehyat_const_tensor q, k, v;
  rehyat_tensor out;
  const float* scale;           ///< null, the default: 1 / sqrt(D)
  const int64_t* query_tokens;  ///< valid tokens of each batch entry, q.batch numbers; null, the default: all
  const int64_t* key_tokens;    ///< likewise, of keys
  rehyat_arithmetic arithmetic;
  rehyat_query_statistics statistics;
  rehyat_denominator_report* report;  ///< null, the default: not wanted
} rehyat_softmax_parameters;

/// Parameters of rehyat_hybrid_attention(): softmax inside chunks and their overlap, linear attention to the
/// rest, normalised together. Tokens in frame-major order.
typedef struct rehyat_hybrid_parameters {
  size_t struct_size;
  rehyat_const_tensor q, k, v;
  rehyat_tensor out;
  rehyat_chunking chunking;
  rehyat_direction direction;  ///< default causal
  rehyat_stabilizer stabilizer;
  rehyat_feature_map phi_q, phi_k;
  rehyat_given_features given;
  const float* scale;         ///< null: 1 / sqrt(D)
  const int64_t* frames;      ///< valid frames of each batch entry, q.batch numbers; null: all
  float denominator_epsilon;  ///< added to every denominator; row_max only
  float denominator_floor;    ///< least magnitude of a denominator, sign kept; row_max only
  rehyat_arithmetic arithmetic;
  rehyat_query_statistics statistics;
  rehyat_denominator_report* report;
} rehyat_hybrid_parameters;

/// Parameters of rehyat_linear_attention(): y_i = phi_q(q_i) . A / phi_q(q_i) . z over the frames up to the
/// end of the query's chunk (causal) or the clip (bidirectional). chunking.overlap_frames is 0.
typedef struct rehyat_linear_parameters {
  size_t struct_size;
  rehyat_const_tensor q, k, v;
  rehyat_tensor out;
  rehyat_chunking chunking;
  rehyat_direction direction;
  rehyat_feature_map phi_q, phi_k;
  rehyat_given_features given;
  const int64_t* frames;
  float denominator_epsilon;
  float denominator_floor;
  rehyat_query_statistics statistics;
  rehyat_denominator_report* report;
} rehyat_linear_parameters;

/// Parameters of rehyat_uniform_attention(): softmax over every `rate`-th token from token 0 on, linear
/// attention over the others, for every query.
typedef struct rehyat_uniform_parameters {
  size_t struct_size;
  rehyat_const_tensor q, k, v;
  rehyat_tensor out;
  int64_t rate;  ///< at least 1, which is exact softmax; default 2
  rehyat_stabilizer stabilizer;
  rehyat_feature_map phi_q, phi_k;
  rehyat_given_features given;
  const float* scale;
  const int64_t* tokens;  ///< valid tokens of each batch entry, q.batch numbers; null: all
  float denominator_epsilon;
  float denominator_floor;
  rehyat_arithmetic arithmetic;
  rehyat_query_statistics statistics;
  rehyat_denominator_report* report;
} rehyat_uniform_parameters;

/// What a recurrence computes: causal hybrid attention, or causal linear attention by chunk.
typedef int32_t rehyat_recurrent_schedule;
enum { REHYAT_RECURRENT_HYBRID = 0, REHYAT_RECURRENT_LINEAR = 1 };

/// Everything of a recurrence that stays the same from chunk to chunk.
typedef struct rehyat_recurrent_config {
  size_t struct_size;
  rehyat_recurrent_schedule schedule;
  rehyat_element_type tail_type;   ///< how the state holds keys and values; with their own type, or
                                   ///< float32 (the default), it equals one shot to the bit
  int64_t batch, heads, kv_heads;  ///< default 1
  int64_t head_dim, value_dim;
  rehyat_chunking chunking;
  rehyat_feature_map phi_q, phi_k;
  int32_t separate_denominator;  ///< not 0: chunks bring given features of the denominators, too
  rehyat_stabilizer stabilizer;
  const float* scale;  ///< null: 1 / sqrt(D); read by the call that gets the config, not kept
  float denominator_epsilon;
  float denominator_floor;
  rehyat_arithmetic arithmetic;
} rehyat_recurrent_config;

/// One chunk of every batch entry: at most chunk_frames whole frames of tokens.
typedef struct rehyat_recurrent_chunk {
  size_t struct_size;
  rehyat_const_tensor q, k, v;
  rehyat_tensor out;
  rehyat_given_features given;
  const int64_t* frames;  ///< each entry's frames of this chunk, config.batch numbers; null: all. With 0
                          ///< frames an entry sits this chunk out
  rehyat_query_statistics statistics;
  rehyat_denominator_report* report;
} rehyat_recurrent_chunk;

/// The state of a recurrence, in memory of the caller's; see rehyat_recurrent_create().
typedef struct rehyat_recurrent_state rehyat_recurrent_state;

/// Floating-point operations by kind, 2 a multiply-add, over all heads and batch entries.
typedef struct rehyat_operation_count {
  double softmax;      ///< 2 (D + Dv) a query and softmax key
  double feature_map;  ///< 2 in * out a layer and token that needs features
  double read;         ///< 2 F Dv a query that has linear keys
  double absorb;       ///< 2 F Dv a key that is absorbed
} rehyat_operation_count;

/// Instruction sets that there are kernels for.
typedef int32_t rehyat_isa;
enum { REHYAT_ISA_SCALAR = 0, REHYAT_ISA_AVX2 = 1, REHYAT_ISA_AVX512 = 2, REHYAT_ISA_NEON = 3 };
