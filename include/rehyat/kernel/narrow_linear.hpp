#pragma once
// The linear branch in narrow elements (Arithmetic::int8 and float16): the read of the sums, and their
// update. Of bytes:
//
//   read:    A_fd ~ row_f * value_scale_d * n_fd     row_f = the largest magnitude of row f, taken to the
//   features:
//            row_f phi_f ~ start + scale * u_f       a range per query and block of 128 features
//   update:  phi_tf ~ feature_scale_f * n_tf         a scale per feature and block of tokens
//            v_td ~ start_d + scale_d * u_td         a range per channel and block of tokens
//
// Sums stay float32, and z and its products: they are 1 / Dv of the work, and with a denominator in bytes
// the error on the real arrays of examples/data would be twice as large.

#include "rehyat/kernel/absorb.hpp"
#include "rehyat/kernel/attend.hpp"
#include "rehyat/kernel/narrow_layers.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Features that share a range in the read: their largest hides less of the others than that of all would.
inline constexpr int64_t feature_span = 128;

template <class Format>
struct NarrowReadScratch {
  NarrowLayerScratch<Format> layers;
  float* row;  ///< [feature_dim]: the largest magnitude of a row of A
  Word* sums;  ///< [spans][value_stride / column_panel][features of the span / per_word][column_panel]
  float* value_scale;  ///< [spans][value_stride]
  float* value_sum;    ///< the same: of a channel's elements, as their bytes have them
  Word* features;      ///< [feature_span / per_word][query_block]
  int64_t value_stride;
  int64_t size;

  static NarrowReadScratch lay_out(const Dims& d, float* base) {
    ScratchCutter take{base};
    const int64_t spans = (d.feature_dim + feature_span - 1) / feature_span;
    NarrowReadScratch s{};
    s.layers = NarrowLayerScratch<Format>::lay_out(d, take);
    s.value_stride = padded(d.value_dim);
    s.row = take(d.feature_dim);
    s.sums = reinterpret_cast<Word*>(take(words_of<Format>(d.feature_dim) * s.value_stride));
    s.value_scale = take(spans * s.value_stride);
    s.value_sum = take(spans * s.value_stride);
    s.features = reinterpret_cast<Word*>(take(feature_span / Format::per_word * query_block));
    s.size = take.used;
    return s;
  }
};

/// Read of attend: what Float32Read is in float32. The sums become bytes once for the blocks of a task.
template <class Format>
class NarrowRead {
 public:
  NarrowRead(const AttendTask& task, const NarrowReadScratch<Format>& s)
      : task_(task), s_(s), layers_(s.layers) {
    if (task.sums == nullptr) return;
    const int64_t features = task.dims.feature_dim, stride = s.value_stride;
    find_row_magnitudes();
    for (int64_t f = 0; f < features; f += feature_span) {
      const int64_t span = f / feature_span * stride, count = least(features - f);
      quantise_columns<Format>(
          {s.sums + f / Format::per_word * stride, words_of<Format>(count) * column_panel,
           s.value_scale + span, s.value_sum + span, nullptr},
          count, stride, [&, f](int64_t i) {
            const float row = s.row[f + i], inverse = row == 0.0f ? 0.0f : 1.0f / row;
            return [data = task.sums + (f + i) * stride, inverse](int64_t d) {
              return V::load(data + d) * V::broadcast(inverse);
            };
          });
    }
  }

  NarrowLayers<Format>& layers() { return layers_; }

  /// out[dim][query] += A^T phi, C vectors of queries a row.
  template <int C>
  void add(float* out, const float* features) const {
    constexpr int64_t width = C * V::lanes;
    const Dims& d = task_.dims;
    for (int64_t f = 0; f < d.feature_dim; f += feature_span) {
      const int64_t span = f / feature_span * s_.value_stride, count = least(d.feature_dim - f);
      NarrowLanes x(s_.features);
      quantise_lanes<C>(Format(), x, count, [&](int64_t i) {
        return [data = features + (f + i) * width, factor = s_.row[f + i]](int64_t lane) {
          return V::load(data + lane) * V::broadcast(factor);
        };
      });
      const int64_t steps = words_of<Format>(count);
      Word* const sums = s_.sums + f / Format::per_word * s_.value_stride;
      for_row_strips<Format::sum_rows>(d.value_dim, [&]<int R>(int64_t dim) {
        typename Format::template SumTile<R, C> tile;
        tile.clear();
        tile.multiply_add(column_at(sums, steps * column_panel, dim), 1, column_panel, x.words, width, steps);
        REHYAT_UNROLL for (int r = 0; r < R; ++r) {
          const V scale = V::broadcast(s_.value_scale[span + dim + r]);
          const V sum = V::broadcast(Format::is_offset ? s_.value_sum[span + dim + r] : 0.0f);
          REHYAT_UNROLL for (int c = 0; c < C; ++c) {
            float* const to = out + (dim + r) * width + c * V::lanes;
            V base = V::load(to);
            if constexpr (Format::is_offset) base = fma(sum, V::load(x.start + c * V::lanes), base);
            fma(tile.value(r, c) * V::load(x.scale + c * V::lanes), scale, base).store(to);
          }
        }
      });
    }
  }

 private:
  static int64_t least(int64_t left) { return left < feature_span ? left : feature_span; }

  /// Of finite elements alone: others are for their own channel to tell.
  void find_row_magnitudes() const {
    const V zero = V::broadcast(0.0f), limit = V::broadcast(infinity);
    for (int64_t f = 0; f < task_.dims.feature_dim; ++f) {
      const float* const row = task_.sums + f * s_.value_stride;
      V top = zero;
      for (int64_t d = 0; d < s_.value_stride; d += V::lanes) {
        const V x = abs(V::load(row + d));
        top = max(select(less(x, limit), x, zero), top);
      }
      const float largest = largest_lane(top);
      s_.row[f] = largest < least_scaled ? 0.0f : largest;
    }
  }

  const AttendTask& task_;
  NarrowReadScratch<Format> s_;
  NarrowLayers<Format> layers_;
};

template <class Format>
struct NarrowUpdateScratch {
  NarrowLayerScratch<Format> layers;
  Word* features;        ///< [feature_dim][feature_stride]
  float* feature_scale;  ///< [feature_dim]
  float* feature_sum;    ///< [feature_dim]: of a row of features, as their bytes have them
  Word* values;          ///< [absorb_block / per_word][query_block]: of some channels
  int64_t size;

  static constexpr int64_t feature_stride = padded(absorb_block) / Format::per_word;

  static NarrowUpdateScratch lay_out(const Dims& d, float* base) {
    ScratchCutter take{base};
    NarrowUpdateScratch s{};
    s.layers = NarrowLayerScratch<Format>::lay_out(d, take);
    s.features = reinterpret_cast<Word*>(take(d.feature_dim * feature_stride));
    s.feature_scale = take(d.feature_dim);
    s.feature_sum = take(d.feature_dim);
    s.values = reinterpret_cast<Word*>(take(words_of<Format>(absorb_block) * query_block));
    s.size = take.used;
    return s;
  }
};

/// Update of absorb: what Float32Update is in float32.
template <class Format>
class NarrowUpdate {
 public:
  NarrowUpdate(const AbsorbTask& task, const AbsorbScratch& a)
      : task_(task),
        a_(a),
        s_(NarrowUpdateScratch<Format>::lay_out(task.dims, task.scratch + a.size)),
        layers_(s_.layers) {}

  NarrowLayers<Format>& layers() { return layers_; }

  /// A += phi^T V of `count` tokens, whose features are in scratch.
  void add(SourceRows values, int64_t first, int64_t count) const {
    const float poison =
        quantise_rows<Format>({s_.features, s_.feature_stride, s_.feature_scale, s_.feature_sum},
                              task_.dims.feature_dim, count, [&](int64_t f) {
                                return ElementRow<Float32>{a_.features + f * absorb_block, count};
                              });
    const int64_t columns = padded(task_.dims.value_dim);
    for (int64_t d = 0; d < columns;) {
      const int64_t left = (columns - d) / V::lanes;
      const int64_t vectors = left < TileShape::vectors ? left : TileShape::vectors;
      for_vectors(vectors, [&]<int C>() { add_columns<C>(values, first, count, d, poison); });
      d += vectors * V::lanes;
    }
  }

 private:
  template <int C>
  void add_columns(SourceRows values, int64_t first, int64_t count, int64_t column, float poison) const {
    NarrowLanes x(s_.values);
    with_element(values.rows.type, [&]<class E>(E) {
      quantise_lanes<C>(Format(), x, count, [&](int64_t i) {
        return [row = ElementRow<E>{values.row<E>(first + i), values.dim}, column](int64_t lane) {
          return row(column + lane);
        };
      });
    });
    const int64_t stride = padded(task_.dims.value_dim);
    for_row_strips<Format::sum_rows>(task_.dims.feature_dim, [&]<int R>(int64_t f) {
      typename Format::template SumTile<R, C> tile;
      tile.clear();
      tile.multiply_add(s_.features + f * s_.feature_stride, s_.feature_stride, 1, x.words, C * V::lanes,
                        words_of<Format>(count));
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        const V scale = V::broadcast(s_.feature_scale[f + r] + poison);
        const V sum = V::broadcast(Format::is_offset ? s_.feature_sum[f + r] : 0.0f);
        REHYAT_UNROLL for (int c = 0; c < C; ++c) {
          float* const to = task_.sums + (f + r) * stride + column + c * V::lanes;
          V base = V::load(to);
          if constexpr (Format::is_offset) base = fma(sum, V::load(x.start + c * V::lanes), base);
          fma(tile.value(r, c) * V::load(x.scale + c * V::lanes), scale, base).store(to);
        }
      }
    });
  }

  const AbsorbTask& task_;
  const AbsorbScratch& a_;
  NarrowUpdateScratch<Format> s_;
  NarrowLayers<Format> layers_;
};

REHYAT_END_ISA_NAMESPACE
