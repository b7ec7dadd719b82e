#pragma once
// The feature map of one block of tokens, tokens in the lanes.

#include "rehyat/kernel/exp.hpp"
#include "rehyat/kernel/pack.hpp"
#include "rehyat/kernel/register_tile.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// One head's weights of a layer.
struct LayerWeights {
  const float* weight;
  const float* bias;
  int64_t in_dim, out_dim;
  WeightLayout layout;
};

REHYAT_INLINE LayerWeights layer_weights(const FeatureMap& map, int layer, int64_t in_dim, int64_t head) {
  const DenseLayer& l = map.layers[layer];
  return {.weight = l.weight + head * map.stored_rows(l.out_dim) * in_dim,
          .bias = l.bias == nullptr ? nullptr : l.bias + head * l.out_dim,
          .in_dim = in_dim,
          .out_dim = l.out_dim,
          .layout = map.layout};
}

/// Raises rows [first_row, first_row + rows) of the features to their part's power: part i of `degree`, of
/// `part` rows each, to i + 1.
template <int C>
inline void raise_to_powers(float* features, int64_t stride, int64_t first_row, int64_t rows, int64_t part) {
  for (int64_t r = 0; r < rows;) {
    const int64_t index = (first_row + r) / part;  // a division for the rows of a part, not for each
    const int64_t end = (index + 1) * part - first_row;
    const int64_t stop = end < rows ? end : rows;
    if (index == 0) r = stop;
    for (; r < stop; ++r) {
      float* row = features + r * stride;
      REHYAT_UNROLL for (int c = 0; c < C; ++c) {
        const V x = V::load(row + c * V::lanes);
        V y = x;
        for (int64_t i = 0; i < index; ++i) y = y * x;
        y.store(row + c * V::lanes);
      }
    }
  }
}

/// out[unit][token] = activation(W x + b) for the C vectors of tokens in `in`; with degree > 1 also the
/// powers. Flops per strip of 8 units: 2 * 8 * in_dim * tokens for 8 * in_dim * 4 bytes of weights, each read
/// once per block.
template <int C>
inline void dense_layer(float* out, int64_t out_stride, const float* in, int64_t in_stride, LayerWeights w,
                        Activation activation, int degree, RowPrefetch& ahead) {
  static_assert(weight_panel % TileShape::rows == 0);
  for_row_strips(w.out_dim, [&]<int R>(int64_t first) {
    ahead.advance();
    RegisterTile<R, C> tile;
    tile.clear();
    if (w.bias != nullptr) {
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        REHYAT_UNROLL for (int c = 0; c < C; ++c) tile.at[r][c] = V::broadcast(w.bias[first + r]);
      }
    }
    if (w.layout == WeightLayout::panels) {  // strips do not cross panels
      const int64_t row = first % weight_panel;
      const ColumnsInMemory panel{w.weight + (first - row) * w.in_dim, weight_panel};
      tile.multiply_add(panel, row, in, in_stride, w.in_dim);
    } else {
      tile.multiply_add(RowsInMemory{w.weight, w.in_dim}, first, in, in_stride, w.in_dim);
    }
    float* strip = out + first * out_stride;
    tile.store(strip, out_stride);
    // the strip is still in L1
    for (int64_t r = 0; r < R; ++r) activate<V>(activation, strip + r * out_stride, C * V::lanes);
    if (degree > 1) raise_to_powers<C>(strip, out_stride, first, R, w.out_dim / degree);
  });
}

/// The layers of a polynomial map in float32.
struct Float32Layers {
  /// out[f][token] = phi(in[d][token]), C vectors of tokens; `in` and `next` hold a block of the widest layer
  /// each, and are overwritten.
  template <int C>
  void run(float* out, int64_t stride, const FeatureMap& map, int64_t head, int64_t in_dim, float* in,
           float* next, RowPrefetch& ahead) const {
    constexpr int64_t width = C * V::lanes;
    for (int layer = 0; layer < map.num_layers; ++layer) {
      const bool last = layer + 1 == map.num_layers;
      const LayerWeights w = layer_weights(map, layer, in_dim, head);
      dense_layer<C>(last ? out : next, last ? stride : width, in, width, w,
                     last ? map.output_activation : map.activation, last ? map.degree : 1, ahead);
      float* const done = in;
      in = next;
      next = done;
      in_dim = w.out_dim;
    }
  }
};

/// out[f * stride + i] = phi(source row first + i)[f] for i < count; lanes up to C vectors hold features of
/// zero. `buffers` holds two times widest_layer blocks of C vectors. A row with NaN or infinity gives NaN in
/// all its features: an activation such as relu(-inf) = 0 would hide it.
template <int C, class Layers>
inline void feature_block(float* out, int64_t stride, const FeatureMap& map, Layers& layers, int64_t head,
                          SourceRows source, int64_t first, int64_t count, int64_t feature_dim,
                          int64_t widest_layer, float* buffers, RowPrefetch& ahead) {
  constexpr int64_t width = C * V::lanes;
  if (map.kind != FeatureMap::Kind::polynomial) {
    pack_transposed(out, stride, width, source, first, count, 1.0f);
    if (map.kind == FeatureMap::Kind::elementwise) {
      for (int64_t f = 0; f < feature_dim; ++f) activate<V>(map.output_activation, out + f * stride, width);
    }
  } else {
    pack_transposed(buffers, width, width, source, first, count, 1.0f);
    layers.template run<C>(out, stride, map, head, source.dim, buffers, buffers + widest_layer * width,
                           ahead);
  }
  with_element(source.rows.type, [&]<class E>(E) {
    for (int64_t i = 0; i < count; ++i) {
      if (is_finite<E>(source.row<E>(first + i), source.dim)) continue;
      for (int64_t f = 0; f < feature_dim; ++f) out[f * stride + i] = quiet_nan;
    }
  });
}

REHYAT_END_ISA_NAMESPACE
