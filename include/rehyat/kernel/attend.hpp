#pragma once
// The attend primitive: softmax over key ranges, joined with the linear read of the sums (ReHyAt, eq. 5 to
// 9).

#include "rehyat/kernel/features.hpp"
#include "rehyat/kernel/join.hpp"
#include "rehyat/kernel/key_blocks.hpp"
#include "rehyat/kernel/online_softmax.hpp"
#include "rehyat/kernel/query_block.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline constexpr float ln2 = 0.693147180559945309f;

/// The rows that start_block() reads.
inline void prefetch_queries(const AttendTask& task, const QueryBlock& b) {
  const SourceRows q = rows_of(task.q, b.head, task.dims.head_dim);
  RowPrefetch ahead;
  ahead.add(element_at(q.rows.data, q.rows.type, b.first * q.rows.stride), q.rows.type, q.rows.stride, q.dim,
            b.count);
  ahead.ask_for_all();
}

inline void start_block(const AttendTask& task, const QueryBlock& b) {
  const int64_t width = vectors_of(b) * V::lanes;
  if (task.num_softmax > 0) {
    pack_transposed(b.queries, width, width, rows_of(task.q, b.head, task.dims.head_dim), b.first, b.count,
                    task.score_scale);
  }
  __builtin_memset(b.out, 0, static_cast<std::size_t>(task.dims.value_dim * width) * sizeof(float));
  OnlineSoftmax softmax = b.softmax;
  softmax.start();
}

/// The keys and values that the tiles read: up to key_block of them.
struct KeyBlock {
  const float* k;
  const float* v;
  int64_t k_stride;
  int64_t v_stride;
  int64_t count;
};

/// scores[key][query] = <k, q>, C vectors a row, and their range. `ahead` advances once a strip.
template <int C>
inline void score_block(float* scores, BlockRange& range, const float* queries, int64_t head_dim,
                        const KeyBlock& keys, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  Lanes<C> top, bottom;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    top[c] = V::broadcast(-infinity);
    bottom[c] = V::broadcast(infinity);
    top[c].store(range.max + c * V::lanes);
    bottom[c].store(range.min + c * V::lanes);
  }
  const RowsInMemory k{keys.k, keys.k_stride};
  for_row_strips(keys.count, [&]<int R>(int64_t key) {
    ahead.advance();
    RegisterTile<R, C> tile;
    tile.clear();
    tile.multiply_add(k, key, queries, width, head_dim);
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      V high = V::load(range.max + c * V::lanes), low = V::load(range.min + c * V::lanes);
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        high = max(high, tile.at[r][c]);
        low = min(low, tile.at[r][c]);
      }
      high.store(range.max + c * V::lanes);
      low.store(range.min + c * V::lanes);
    }
    tile.store(scores + key * width, width);
  });
}

/// An infinite key gives scores of -inf, hence weights of 0, to some queries; it must reach them all the
/// same. A score of -inf from finite factors that overflowed keeps its weight of 0.
template <int C>
[[gnu::noinline]] inline void poison_infinite_keys(float* scores, int64_t head_dim, const KeyBlock& keys) {
  for (int64_t key = 0; key < keys.count; ++key) {
    if (is_finite<Float32>(keys.k + key * keys.k_stride, head_dim)) continue;
    for (int c = 0; c < C; ++c) V::broadcast(quiet_nan).store(scores + (key * C + c) * V::lanes);
  }
}

/// Scores, softmax and values of one query block over one key block.
template <int C>
inline void softmax_step(const AttendTask& task, const QueryBlock& b, const KeyBlock& keys, float* weights,
                         RowPrefetch& ahead) {
  BlockRange range;
  score_block<C>(weights, range, b.queries, task.dims.head_dim, keys, ahead);
  bool any_infinite = false;
  for (int c = 0; c < C; ++c) {
    any_infinite = any_infinite || V::any(less(V::load(range.min + c * V::lanes), V::broadcast(lowest)));
  }
  if (any_infinite) poison_infinite_keys<C>(weights, task.dims.head_dim, keys);
  float rescale[query_block];
  OnlineSoftmax softmax = b.softmax;
  softmax.add_block<C>(weights, keys.count, range, rescale);
  accumulate<C>(b.out, task.dims.value_dim, rescale, ColumnsInMemory{keys.v, keys.v_stride}, weights,
                C * V::lanes, keys.count, ahead);
}

/// denominator[lane] = sum over f of z[f] * features[f][lane]; four partial sums, joined in a fixed order.
template <int C>
inline void linear_denominator(float* denominator, const float* z, const float* features,
                               int64_t feature_dim) {
  constexpr int64_t width = C * V::lanes;
  Lanes<C> sum[4];
  REHYAT_UNROLL for (int j = 0; j < 4; ++j) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) sum[j][c] = V::broadcast(0.0f);
  }
  // z is padded with zeros to a multiple of 16, the features are not: the rest goes to the first sum
  int64_t f = 0;
  for (; f + 4 <= feature_dim; f += 4) {
    REHYAT_UNROLL for (int j = 0; j < 4; ++j) {
      const V weight = V::broadcast(z[f + j]);
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        sum[j][c] = fma(weight, V::load(features + (f + j) * width + c * V::lanes), sum[j][c]);
      }
    }
  }
  for (; f < feature_dim; ++f) {
    const V weight = V::broadcast(z[f]);
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      sum[0][c] = fma(weight, V::load(features + f * width + c * V::lanes), sum[0][c]);
    }
  }
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    ((sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c])).store(denominator + c * V::lanes);
  }
}

/// The linear branch of attend in float32.
class Float32Read {
 public:
  explicit Float32Read(const AttendTask& task) : task_(task) {}

  Float32Layers& layers() { return layers_; }

  /// out[dim][query] += A^T phi, C vectors of queries a row.
  template <int C>
  void add(float* out, const float* features) const {
    constexpr int64_t width = C * V::lanes;
    const Dims& d = task_.dims;
    const ColumnsInMemory sums{task_.sums, padded(d.value_dim)};
    RowPrefetch ahead;
    float ones[query_block];
    for (int64_t i = 0; i < width; ++i) ones[i] = 1.0f;
    accumulate<C>(out, d.value_dim, ones, sums, features, width, d.feature_dim, ahead);
  }

 private:
  const AttendTask& task_;
  Float32Layers layers_;
};

/// phi_q(q) . z into `denominator`; phi_q(q) of the numerator is left in scratch.
template <int C, class Read>
inline void read_features(const AttendTask& task, const QueryBlock& b, const AttendScratch& s, Read& read,
                          float* denominator) {
  constexpr int64_t width = C * V::lanes;
  const Dims& d = task.dims;
  const float* z = task.sums + d.feature_dim * padded(d.value_dim);
  const bool given = task.phi_q->kind == FeatureMap::Kind::given;
  const bool separate = given && task.given_denominator.data != nullptr;
  RowPrefetch ahead;
  const auto features = [&](ElementRows<const void> rows, int64_t dim) {
    feature_block<C>(s.features, width, *task.phi_q, read.layers(), b.head, rows_of(rows, b.head, dim),
                     b.first, b.count, d.feature_dim, d.widest_layer, s.buffers, ahead);
  };
  if (separate) {
    features(task.given_denominator, d.feature_dim);
    linear_denominator<C>(denominator, z, s.features, d.feature_dim);
  }
  features(given ? task.given : task.q, given ? d.feature_dim : d.head_dim);
  if (!separate) linear_denominator<C>(denominator, z, s.features, d.feature_dim);
}

/// Adds the linear branch to numerators and denominators of the block. `denominator` holds the softmax sums.
template <int C, class Read>
inline void join_linear(const AttendTask& task, const QueryBlock& b, const AttendScratch& s, Read& read,
                        const float* linear, float* denominator) {
  constexpr int64_t width = C * V::lanes;
  const Dims& d = task.dims;
  if (task.stabilizer == Stabilizer::row_max || task.num_softmax == 0) {
    read.template add<C>(b.out, s.features);
    for (int c = 0; c < C; ++c) {
      (V::load(denominator + c * V::lanes) + V::load(linear + c * V::lanes))
          .store(denominator + c * V::lanes);
    }
    return;
  }
  __builtin_memset(s.linear, 0, static_cast<std::size_t>(d.value_dim * width) * sizeof(float));
  read.template add<C>(s.linear, s.features);
  float largest[query_block];
  largest_finite<C>(largest, s.linear, d.value_dim, linear);
  BranchScales scales;
  common_shift<C>(scales, b.softmax.running_max, largest);
  const auto join = [&](float* softmax_row, const float* linear_row) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      const int i = c * V::lanes;
      const V near_one =
          V::load(linear_row + i) * V::load(scales.linear_first + i) * V::load(scales.linear_second + i);
      scales.softmax.scale_and_add(i, V::load(softmax_row + i), scales.linear.scale(i, near_one))
          .store(softmax_row + i);
    }
  };
  for (int64_t r = 0; r < d.value_dim; ++r) join(b.out + r * width, s.linear + r * width);
  join(denominator, linear);
}

inline void write_statistic(Rows<float> rows, const QueryBlock& b, const float* values, float factor) {
  if (rows.data == nullptr) return;
  float* to = rows.data + b.head * rows.head_stride + b.first * rows.token_stride;
  for (int64_t i = 0; i < b.count; ++i) to[i * rows.token_stride] = values[i] * factor;
}

/// Joins, normalises and writes a block whose softmax keys have all been seen.
template <int C, class Read>
inline void finish_block(const AttendTask& task, const QueryBlock& b, const AttendScratch& s, Read& read) {
  constexpr int64_t width = C * V::lanes;
  float denominator[query_block], linear[query_block] = {};
  for (int c = 0; c < C; ++c) {
    const int i = c * V::lanes;
    const V max = V::load(b.softmax.running_max + i);
    const V sum = V::load(b.softmax.running_sum + i);
    // max - max is NaN where all scores were -inf; without softmax keys there is no maximum to speak of
    (task.num_softmax > 0 ? sum + (max - max) : sum).store(denominator + i);
  }
  write_statistic(task.row_max, b, b.softmax.running_max, ln2);
  write_statistic(task.row_sum, b, denominator, 1.0f);
  if (task.sums != nullptr) {
    read_features<C>(task, b, s, read, linear);
    join_linear<C>(task, b, s, read, linear, denominator);
  }
  write_statistic(task.linear_denominator, b, linear, 1.0f);
  report_denominators(*task.report, denominator, b.count);
  if (task.denominator_epsilon != 0.0f || task.denominator_floor != 0.0f) {
    guard_denominators(denominator, b.count, task.denominator_epsilon, task.denominator_floor);
  }
  divide_rows<C>(b.out, task.dims.value_dim, denominator);
  const int64_t first = b.head * task.out.head_stride + b.first * task.out.token_stride;
  unpack_transposed(element_at(task.out.data, task.out.type, first), task.out.type, task.out.token_stride,
                    b.out, width, b.count, task.dims.value_dim);
}

/// Rows of K or V as floats that lie close together, for all query blocks of the group. Copied to `scratch`
/// are elements of 16 bits, and rows that lie far apart (heads interleaved) where several query blocks read
/// them: every such row is on a page of its own, 256 pages a block of K and V against 96 entries of a
/// first-level TLB. The copy moves 4 bytes an element for 2 * 48 flops an element and query block.
inline HeadRows near_rows(HeadRows rows, int64_t dim, int64_t count, int64_t query_blocks, float* scratch) {
  const bool far = rows.stride > dim && are_far(rows.stride, rows.type);
  if (rows.type == ElementType::float32 && !(far && query_blocks >= 2)) return rows;
  copy_padded(scratch, dim, {rows, dim}, 0, count);
  return {scratch, ElementType::float32, dim};
}

inline KeyBlock gather_keys(const AttendTask& task, const AttendScratch& s, const KeyRange& keys) {
  const Dims& d = task.dims;
  const int64_t query_blocks = task.end_block - task.first_block;
  const HeadRows k = near_rows(keys.k, d.head_dim, keys.count, query_blocks, s.keys);
  const HeadRows v = near_rows(keys.v, d.value_dim, keys.count, query_blocks, s.values);
  return {.k = static_cast<const float*>(k.data),
          .v = static_cast<const float*>(v.data),
          .k_stride = k.stride,
          .v_stride = v.stride,
          .count = keys.count};
}

/// The softmax keys of a task in float32. Key blocks outside, query blocks of the group inside: a block of K
/// and V is fetched once for all of them.
inline void add_softmax(const AttendTask& task, const AttendScratch& s) {
  const bool prefetch = keys_leave_cache(task);
  KeyBlocks blocks(task);
  for (KeyRange keys = blocks.next(), next; keys.count > 0; keys = next) {
    next = blocks.next();
    RowPrefetch ahead;
    if (prefetch) ahead = prefetch_after(task, blocks, keys, next);
    const KeyBlock near = gather_keys(task, s, keys);
    for (int64_t i = task.first_block; i < task.end_block; ++i) {
      const QueryBlock b = query_block_at(task, s, i);
      for_vectors(vectors_of(b), [&]<int C>() { softmax_step<C>(task, b, near, s.weights, ahead); });
    }
  }
}

/// The attend primitive in scratch `s`: add_softmax() adds the softmax keys to all blocks; make_read() gives
/// what reads the sums, once they have been seen.
template <class AddSoftmax, class MakeRead>
void attend_with(const AttendTask& task, const AttendScratch& s, AddSoftmax add_softmax, MakeRead make_read) {
  for (int64_t i = task.first_block; i < task.end_block; ++i) {
    if (task.num_softmax > 0 && i + 1 < task.end_block)
      prefetch_queries(task, query_block_at(task, s, i + 1));
    start_block(task, query_block_at(task, s, i));
  }
  add_softmax();
  auto read = make_read();
  for (int64_t i = task.first_block; i < task.end_block; ++i) {
    const QueryBlock b = query_block_at(task, s, i);
    for_vectors(vectors_of(b), [&]<int C>() { finish_block<C>(task, b, s, read); });
  }
}

inline void attend(const AttendTask& task) {
  const AttendScratch s = AttendScratch::lay_out(task.dims, task.end_block - task.first_block, task.scratch);
  attend_with(
      task, s, [&] { add_softmax(task, s); }, [&] { return Float32Read(task); });
}

REHYAT_END_ISA_NAMESPACE
