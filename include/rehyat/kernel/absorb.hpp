#pragma once
// The absorb primitive: sums of phi_k(k) v^T and phi_k(k) over keys (ReHyAt, eq. 10), and the adding up of
// such sums.

#include "rehyat/kernel/features.hpp"
#include "rehyat/kernel/scratch.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

struct AbsorbScratch {
  float* features;  ///< [feature_dim][absorb_block]
  float* values;    ///< [absorb_block][padded value_dim], where V cannot be read where it lies
  float* buffers;   ///< 2 x [widest_layer][query_block]
  int64_t size;

  static AbsorbScratch lay_out(const Dims& d, float* base) {
    AbsorbScratch s{};
    ScratchCutter take{base};
    s.features = take(d.feature_dim * absorb_block);
    s.values = take(absorb_block * padded(d.value_dim));
    s.buffers = take(2 * d.widest_layer * query_block);
    s.size = take.used;
    return s;
  }
};

/// features[f][i] = phi_k of keys first .. first + count - 1, stride absorb_block.
template <class Layers>
inline void absorb_features(float* features, const AbsorbTask& task, Layers& layers, SourceRows source,
                            int64_t first, int64_t count, float* buffers, RowPrefetch& ahead) {
  for (int64_t i = 0; i < count; i += query_block) {
    const int64_t n = count - i < query_block ? count - i : query_block;
    for_vectors((n + V::lanes - 1) / V::lanes, [&]<int C>() {
      feature_block<C>(features + i, absorb_block, *task.phi_k, layers, task.head, source, first + i, n,
                       task.dims.feature_dim, task.dims.widest_layer, buffers, ahead);
    });
  }
}

/// z[f] += sum over tokens of features[f][token]; z is padded to a multiple of the lanes. The sums of a
/// square of features are transposed before their lanes are added, so that no lane is added alone.
inline void add_feature_sums(float* z, const float* features, int64_t feature_dim, int64_t tokens) {
  const auto sum_of = [&](int64_t f) {
    V sum = V::broadcast(0.0f);
    if (f >= feature_dim) return sum;
    const float* row = features + f * absorb_block;
    int64_t i = 0;
    for (; i + V::lanes <= tokens; i += V::lanes) sum = sum + V::load(row + i);
    return sum + V::load_first(row + i, tokens - i);
  };
  for (int64_t f = 0; f < feature_dim; f += V::lanes) {
    Square sums;
    REHYAT_UNROLL for (int r = 0; r < V::lanes; ++r) sums.row[r] = sum_of(f + r);
    sums.transpose();
    REHYAT_UNROLL for (int n = V::lanes / 2; n > 0; n /= 2) {
      REHYAT_UNROLL for (int i = 0; i < n; ++i) sums.row[i] = sums.row[i] + sums.row[i + n];
    }
    (V::load(z + f) + sums.row[0]).store(z + f);
  }
}

/// A[f][d] += sum over tokens of features[f][token] * values[token][d] for `columns` columns (a multiple of
/// the lanes). A token block is summed from zero in registers, so the rounding error grows with the number of
/// blocks, not of tokens.
inline void add_outer_products(float* sums, int64_t sums_stride, const float* features, int64_t feature_dim,
                               const float* values, int64_t values_stride, int64_t columns, int64_t tokens) {
  const RowsInMemory rows{features, absorb_block};
  for (int64_t d = 0; d < columns;) {
    const int64_t left = (columns - d) / V::lanes;
    const int64_t vectors = left < TileShape::vectors ? left : TileShape::vectors;
    for_vectors(vectors, [&]<int C>() {
      for_row_strips(feature_dim, [&]<int R>(int64_t f) {
        RegisterTile<R, C> tile;
        tile.clear();
        tile.multiply_add(rows, f, values + d, values_stride, tokens);
        float* to = sums + f * sums_stride + d;
        REHYAT_UNROLL for (int r = 0; r < R; ++r) {
          REHYAT_UNROLL for (int c = 0; c < C; ++c) {
            float* p = to + r * sums_stride + c * V::lanes;
            (V::load(p) + tile.at[r][c]).store(p);
          }
        }
      });
    });
    d += vectors * V::lanes;
  }
}

/// Keys and values of the next absorb_block tokens, for the strips of phi's layers.
inline RowPrefetch prefetch_tokens(const AbsorbTask& task, int64_t first, int64_t count) {
  RowPrefetch ahead;
  if (task.phi_k->kind != FeatureMap::Kind::polynomial || task.skip_rate != 0) return ahead;
  const auto add = [&](const HeadRows& rows, int64_t dim) {
    ahead.add(element_at(rows.data, rows.type, first * rows.stride), rows.type, rows.stride, dim, count);
  };
  add(task.k, task.dims.head_dim);
  add(task.v, task.dims.value_dim);
  int64_t strips = 0;
  for (int i = 0; i < task.phi_k->num_layers; ++i) strips += task.phi_k->layers[i].out_dim / TileShape::rows;
  ahead.spread(strips * (absorb_block / query_block));
  return ahead;
}

/// The update of the sums in float32.
class Float32Update {
 public:
  Float32Update(const AbsorbTask& task, const AbsorbScratch& s)
      : task_(task),
        s_(s),
        in_place_(task.v.type == ElementType::float32 && task.skip_rate == 0 &&
                  task.dims.value_dim % V::lanes == 0 && !are_far(task.v.stride, task.v.type)) {}

  Float32Layers& layers() { return layers_; }

  /// A += phi^T V of `count` tokens, whose features are in scratch.
  void add(SourceRows values, int64_t first, int64_t count) const {
    const Dims& d = task_.dims;
    const int64_t row = padded(d.value_dim);
    if (in_place_) {
      add_outer_products(task_.sums, row, s_.features, d.feature_dim, values.row<Float32>(first),
                         task_.v.stride, d.value_dim, count);
    } else {
      copy_padded(s_.values, row, values, first, count);
      add_outer_products(task_.sums, row, s_.features, d.feature_dim, s_.values, row, row, count);
    }
  }

 private:
  const AbsorbTask& task_;
  const AbsorbScratch& s_;
  bool in_place_;
  Float32Layers layers_;
};

/// The absorb primitive; an Update(task, scratch) makes features and sums.
template <class Update>
void absorb_with(const AbsorbTask& task) {
  const Dims& d = task.dims;
  const AbsorbScratch s = AbsorbScratch::lay_out(d, task.scratch);
  Update update(task, s);
  const bool given = task.phi_k->kind == FeatureMap::Kind::given;
  const int64_t source_dim = given ? d.feature_dim : d.head_dim;
  const bool separate = task.k_denominator.data != nullptr;
  const SourceRows keys{task.k, source_dim, task.skip_rate};
  const SourceRows denominator_keys{task.k_denominator, source_dim, task.skip_rate};
  const SourceRows values{task.v, d.value_dim, task.skip_rate};
  float* z = task.sums + d.feature_dim * padded(d.value_dim);
  __builtin_memset(task.sums, 0, static_cast<std::size_t>(sums_size(d)) * sizeof(float));
  for (int64_t i = 0; i < task.count; i += absorb_block) {
    const int64_t first = task.first + i;
    const int64_t count = task.count - i < absorb_block ? task.count - i : absorb_block;
    const int64_t left = task.count - i - count;
    RowPrefetch ahead = prefetch_tokens(task, first + count, left < absorb_block ? left : absorb_block);
    if (separate) {
      absorb_features(s.features, task, update.layers(), denominator_keys, first, count, s.buffers, ahead);
      add_feature_sums(z, s.features, d.feature_dim, count);
    }
    absorb_features(s.features, task, update.layers(), keys, first, count, s.buffers, ahead);
    if (!separate) add_feature_sums(z, s.features, d.feature_dim, count);
    update.add(values, first, count);
  }
}

inline void absorb(const AbsorbTask& task) { absorb_with<Float32Update>(task); }

/// An unevaluated sum of two floats: what the state keeps of an element, so that a long video loses nothing.
struct Pair {
  V hi, lo;

  /// Adds x exactly to hi (Knuth's two-sum), keeps the error in lo, then makes hi the rounded sum of both
  /// again.
  REHYAT_INLINE void add(V x) {
    const V s = hi + x;
    const V x_part = s - hi;
    const V error = (hi - (s - x_part)) + (x - x_part);
    lo = lo + error;
    hi = s + lo;
    lo = lo - (hi - s);
  }
};

/// Adds the sums of several absorb tasks to a state's.
inline void fold(const FoldTask& task) {
  const V zero = V::broadcast(0.0f);
  for (int64_t i = task.begin; i < task.end; i += V::lanes) {
    Pair sum{zero, zero};
    if (task.hi_in != nullptr) sum = {V::load(task.hi_in + i), V::load(task.lo_in + i)};
    for (int64_t p = 0; p < task.num_parts; ++p) sum.add(V::load(task.parts + p * task.part_stride + i));
    sum.hi.store(task.hi + i);
    sum.lo.store(task.lo + i);
  }
}

/// Prefix and suffix sums over the segments of a clip, joined per chunk.
inline void scan(const ScanTask& task) {
  const V zero = V::broadcast(0.0f);
  for (int64_t i = task.begin; i < task.end; i += V::lanes) {
    const auto segment = [&](int64_t s) { return V::load(task.segments + s * task.stride + i); };
    Pair after{zero, zero};
    for (int64_t t = task.num_chunks - 1; t >= 0; --t) {
      after.hi.store(task.out + t * task.stride + i);
      after.add(segment(2 * t + 1));
      after.add(segment(2 * t));
    }
    Pair before{zero, zero};
    int64_t next = 0;
    for (int64_t t = 0; t < task.num_chunks; ++t) {
      for (; next < 2 * (t - task.whole_chunks) - task.odd; ++next) before.add(segment(next));
      float* out = task.out + t * task.stride + i;
      (before.hi + V::load(out)).store(out);
    }
  }
}

REHYAT_END_ISA_NAMESPACE
