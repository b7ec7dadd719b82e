#pragma once
// The seam between operators and kernels: plain structs and a table of functions, one table per instruction
// set. Nothing here is arithmetic, so code on either side can be compiled with different flags.

#include <cstdint>

#include "rehyat/element.hpp"
#include "rehyat/feature_map.hpp"
#include "rehyat/parameters.hpp"

namespace rehyat {

/// Instruction sets that have kernels.
enum class Isa : std::uint8_t { scalar, avx2, avx512, neon };

inline constexpr int num_isas = 4;

/// "scalar", "avx2", "avx512" or "neon".
constexpr const char* isa_name(Isa isa) {
  constexpr const char* names[num_isas] = {"scalar", "avx2", "avx512", "neon"};
  return names[static_cast<int>(isa)];
}

namespace kernel {

/// Rows of one batch entry: token i of head h starts at data + i * token_stride + h * head_stride.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
};

/// The same of elements whose type is known at run time; strides in elements.
template <class Void>
struct ElementRows {
  Void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
};

/// Rows of one head, `stride` elements apart.
struct HeadRows {
  const void* data = nullptr;
  ElementType type = ElementType::float32;
  std::int64_t stride = 0;
};

/// Consecutive softmax keys and values of one kv head. Key blocks are counted from its start.
struct KeyRange {
  HeadRows k = {}, v = {};
  std::int64_t count = 0;
};

/// The next multiple of what all instruction sets' vectors divide.
constexpr std::int64_t padded(std::int64_t n) { return (n + 15) / 16 * 16; }

/// The sizes that kernels and scratch depend on.
struct Dims {
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;
  std::int64_t feature_dim = 0;    ///< 0 without a linear branch
  std::int64_t widest_layer = 0;   ///< widest row that a feature map holds: input, hidden or output
  std::int64_t layer_weights = 0;  ///< most of a head's weights, each layer's sides padded
  std::int64_t layer_units = 0;    ///< the same of its units
};

/// The linear branch's sums of one kv head over some keys: A as feature_dim rows of padded_value_dim, then z,
/// padded. The padding is zero. Its size does not depend on the instruction set.
constexpr std::int64_t sums_size(const Dims& d) {
  return d.feature_dim * padded(d.value_dim) + padded(d.feature_dim);
}

/// Attention of some query blocks over softmax keys and sums, joined: SPEC of one task of the attend
/// primitive. Block i of the task's heads is block i % blocks of head first_head + i / blocks, blocks =
/// ceil(query_count / query_block).
struct AttendTask {
  Dims dims = {};
  ElementRows<const void> q = {};
  ElementRows<const void> given = {};              ///< phi_q.kind == given: the features
  ElementRows<const void> given_denominator = {};  ///< null data: the same as `given`
  ElementRows<void> out = {};
  Rows<float> row_max = {}, row_sum = {}, linear_denominator = {};  ///< each with null data if not asked for
  std::int64_t query_count = 0;
  std::int64_t first_head = 0;
  std::int64_t first_block = 0, end_block = 0;
  KeyRange softmax[2] = {};
  int num_softmax = 0;
  const float* sums = nullptr;  ///< null: no linear keys
  const FeatureMap* phi_q = nullptr;
  float score_scale = 0;  ///< scale * log2(e)
  Stabilizer stabilizer = Stabilizer::row_max;
  float denominator_epsilon = 0, denominator_floor = 0;
  DenominatorReport* report = nullptr;  ///< the slot's own; never null
  float* scratch = nullptr;
};

/// sums = sum over `count` keys of (phi_k(k) v^T, phi_k(k)): one task of the absorb primitive.
struct AbsorbTask {
  Dims dims = {};
  HeadRows k = {};              ///< what phi_k reads: keys, or given features
  HeadRows k_denominator = {};  ///< given features of the denominator; null data: the same as `k`
  HeadRows v = {};
  std::int64_t first = 0, count = 0;
  /// 0: keys first .. first + count - 1. R >= 2: of the keys whose index is no multiple of R, the first-th
  /// and on (Attention Surgery's linear set).
  std::int64_t skip_rate = 0;
  std::int64_t head = 0;
  const FeatureMap* phi_k = nullptr;
  float* sums = nullptr;  ///< overwritten, sums_size floats
  float* scratch = nullptr;
};

/// (hi, lo) = (hi_in, lo_in) + parts[0] + parts[1] + ... for elements [begin, end): compensated, left to
/// right.
struct FoldTask {
  const float* hi_in = nullptr;  ///< null: zero
  const float* lo_in = nullptr;
  float* hi = nullptr;
  float* lo = nullptr;
  const float* parts = nullptr;
  std::int64_t part_stride = 0;
  std::int64_t num_parts = 0;
  std::int64_t begin = 0, end = 0;  ///< multiples of 16
};

/// Sums outside each chunk's softmax set, from the sums of segments: out[t] = segments [0, before(t)) +
/// segments [2 (t + 1), num_segments), before(t) = max(0, 2 (t - whole_chunks) - odd). Prefix and suffix,
/// never a difference.
struct ScanTask {
  const float* segments = nullptr;  ///< num_chunks * 2 of them
  float* out = nullptr;             ///< num_chunks of them
  std::int64_t stride = 0;
  std::int64_t num_chunks = 0;
  std::int64_t whole_chunks = 0;    ///< To / Tc
  std::int64_t odd = 0;             ///< 1 if Tc does not divide To
  std::int64_t begin = 0, end = 0;  ///< elements, multiples of 16
};

/// Rows copied to rows of another element type, each element rounded to nearest even.
struct ConvertTask {
  HeadRows from = {};
  void* to = nullptr;
  ElementType to_type = ElementType::float32;
  std::int64_t to_stride = 0;
  std::int64_t dim = 0;
  std::int64_t count = 0;
};

}  // namespace kernel

/// The kernels of one instruction set and arithmetic. Obtain one from default_kernels() or, with run-time
/// dispatch, from find_kernels(); pass it to an operator to choose what runs.
struct Kernels {
  Isa isa;
  std::int64_t query_block;  ///< queries that a block holds
  /// Floats of scratch that one slot needs for tasks of up to `blocks` query blocks.
  std::int64_t (*scratch_size)(const kernel::Dims& dims, std::int64_t blocks);
  void (*attend)(const kernel::AttendTask&);
  void (*absorb)(const kernel::AbsorbTask&);
  void (*fold)(const kernel::FoldTask&);
  void (*scan)(const kernel::ScanTask&);
  void (*convert)(const kernel::ConvertTask&);
  /// Query blocks that an attend task should have, where there are as many: what a task makes of its keys is
  /// made once for all of them.
  std::int64_t least_group = 1;
  /// Queries that it should have at most. A key block of K and V then costs 1 / 864 of its bytes a query,
  /// and half as many groups as with 432 fetch and, where heads are interleaved, copy it: 2 % and more. The
  /// group's own arrays take (D + Dv) * 4 bytes a query, 864 KB at D = Dv = 128, and with two key blocks (256
  /// KB) stay in a second-level cache of 2 MB; of each, 48 KB a query block are read between 49,152 cycles of
  /// multiply-adds.
  std::int64_t most_group_queries = 864;
  /// The same instruction set in another arithmetic: null where that was not built in or the processor does
  /// not run it. Of a table of float32, which is what callers hold; null in the others.
  const Kernels* (*in)(Arithmetic) = nullptr;
};

/// The kernels that compute in `arithmetic`, null if there are none.
inline const Kernels* kernels_in(const Kernels& kernels, Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::float32) return &kernels;
  return kernels.in == nullptr ? nullptr : kernels.in(arithmetic);
}

}  // namespace rehyat
