#pragma once
// The layers of a polynomial feature map in narrow elements: Arithmetic::int8 and float16. Of bytes:
//
//   w_oi ~ weight_scale_o * n_oi              n signed, -127 to 127: a scale per unit
//   x_i  ~ start + scale * u_i                u unsigned, 0 to 255: a range per token, hidden layers
//   x_i  ~ start + scale * (u_i + l_i / 256)  the same with a second byte for the tokens themselves
//
// On the real arrays of examples/data (512 features that are sharp cells) a first layer of plain bytes costs
// 8e-3 of relative L2, 7.5e-3 of it by the tokens, whose largest channels leave little of the others; a
// second byte takes that away for a third more products (64 inputs of 128 outputs among 128 of 512 there).
// What else is rounded is alike: 3e-3 the first layer's weights, 6e-3 the second's, 8e-3 the hidden units.

#include "rehyat/kernel/features.hpp"
#include "rehyat/kernel/narrow_activation.hpp"
#include "rehyat/kernel/narrow_lanes.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// One head's weights of a layer.
struct NarrowLayer {
  Word* words;
  float* scale;  ///< [out_dim]
  float* sum;    ///< [out_dim]: of a unit's weights
  int64_t unit_stride, step_stride, panel_size;

  REHYAT_INLINE const Word* unit(int64_t i) const {
    return words + i / weight_panel * panel_size + i % weight_panel * unit_stride;
  }
};

/// A panel's weights: lanes are units here, so that the elements of a word come together by themselves.
template <class Format>
inline void quantise_panel(const NarrowLayer& to, const float* weights, int64_t first, int64_t in_dim) {
  constexpr int64_t units = V::lanes < weight_panel ? V::lanes : weight_panel;
  for (int64_t r = 0; r < weight_panel; r += units) {
    const auto input = [&](int64_t i) { return V::load_first(weights + i * weight_panel + r, units); };
    const auto magnitude = magnitude_of<Format>(in_dim, input);
    const V scale = magnitude.scale(), inverse = magnitude.inverse();
    V sum = V::broadcast(0.0f);
    for (int64_t i = 0; i < in_dim; i += Format::per_word) {
      V codes[static_cast<std::size_t>(Format::per_word)];
      REHYAT_UNROLL for (int j = 0; j < Format::per_word; ++j) {
        codes[j] = Format::encode(i + j < in_dim ? input(i + j) : V::broadcast(0.0f), inverse);
        if constexpr (Format::is_offset) sum = sum + Format::decode(codes[j]);
      }
      Format::pack(codes).store_first(to.words + i / Format::per_word * weight_panel + r, units);
    }
    scale.store_first(to.scale + first + r, units);
    if constexpr (Format::is_offset) (sum * scale).store_first(to.sum + first + r, units);
  }
}

template <class Format>
NarrowLayer quantise_layer(const LayerWeights& w, Word* words, float* factors) {
  NarrowLayer to{};
  to.words = words;
  to.scale = factors, to.sum = factors + padded(w.out_dim);
  if (w.layout == WeightLayout::panels) {
    to.unit_stride = 1, to.step_stride = weight_panel;
    to.panel_size = words_of<Format>(w.in_dim) * weight_panel;
    for (int64_t unit = 0; unit < w.out_dim; unit += weight_panel) {
      NarrowLayer panel = to;
      panel.words += unit / weight_panel * to.panel_size;
      quantise_panel<Format>(panel, w.weight + unit * w.in_dim, unit, w.in_dim);
    }
  } else {
    to.unit_stride = padded(w.in_dim) / Format::per_word, to.step_stride = 1;
    to.panel_size = weight_panel * to.unit_stride;
    quantise_rows<Format>({to.words, to.unit_stride, to.scale, to.sum}, w.out_dim, w.in_dim, [&](int64_t r) {
      return ElementRow<Float32>{w.weight + r * w.in_dim, w.in_dim};
    });
  }
  return to;
}

/// Scratch of the layers of one map.
template <class Format>
struct NarrowLayerScratch {
  Word* weights;
  float* factors;     ///< scale and sum of all units
  Word* words;        ///< of a block of the widest layer
  Word* lower_words;  ///< bytes: of a block of tokens

  static NarrowLayerScratch lay_out(const Dims& d, ScratchCutter& take) {
    const auto words = [&](int64_t count) { return reinterpret_cast<Word*>(take(count)); };
    return {.weights = words(d.layer_weights / Format::per_word),
            .factors = take(2 * d.layer_units),
            .words = words(words_of<Format>(d.widest_layer) * query_block),
            .lower_words = words(Format::is_offset ? words_of<Format>(d.head_dim) * query_block : 0)};
  }
};

/// The layers of a polynomial map. A head's weights are rounded when its first block comes: 98 K of
/// them at D = 128, hidden = F = 256, 30 K cycles against 60 K for each of up to 16 blocks of 48 tokens.
template <class Format>
class NarrowLayers {
 public:
  explicit NarrowLayers(const NarrowLayerScratch<Format>& s) : s_(s) {}

  template <int C>
  void run(float* out, int64_t stride, const FeatureMap& map, int64_t head, int64_t in_dim, float* in,
           float* next, RowPrefetch& ahead) {
    constexpr int64_t width = C * V::lanes;
    if (head != head_) quantise(map, head, in_dim);
    for (int layer = 0; layer < map.num_layers; ++layer) {
      const bool last = layer + 1 == map.num_layers;
      const LayerWeights w = layer_weights(map, layer, in_dim, head);
      NarrowLanes x(s_.words, Format::is_offset && layer == 0 ? s_.lower_words : nullptr);
      quantise_lanes<C>(Format(), x, in_dim, [&](int64_t i) { return FloatRow{in + i * width}; });
      dense<C>(last ? out : next, last ? stride : width, x, w, layers_[layer],
               last ? map.output_activation : map.activation, last ? map.degree : 1, ahead);
      float* const done = in;
      in = next;
      next = done;
      in_dim = w.out_dim;
    }
  }

 private:
  void quantise(const FeatureMap& map, int64_t head, int64_t in_dim) {
    Word* words = s_.weights;
    float* factors = s_.factors;
    for (int layer = 0; layer < map.num_layers; ++layer) {
      const LayerWeights w = layer_weights(map, layer, in_dim, head);
      layers_[layer] = quantise_layer<Format>(w, words, factors);
      words += padded(w.out_dim) * padded(in_dim) / Format::per_word;
      factors += 2 * padded(w.out_dim);
      in_dim = w.out_dim;
    }
    head_ = head;
  }

  /// out[unit][token] = activation(W x + b), and the powers: dense_layer of float32.
  template <int C>
  static void dense(float* out, int64_t stride, const NarrowLanes& x, const LayerWeights& w,
                    const NarrowLayer& layer, Activation activation, int degree, RowPrefetch& ahead) {
    constexpr int64_t width = C * V::lanes;
    const int64_t steps = words_of<Format>(w.in_dim);
    for_row_strips<Format::rows>(w.out_dim, [&]<int R>(int64_t first) {
      ahead.advance();
      const Word* const weights = layer.unit(first);
      typename Format::template Tile<R, C> tile;
      tile.clear();
      if constexpr (Format::is_offset) {
        if (x.lower_words != nullptr) {
          tile.multiply_add(weights, layer.unit_stride, layer.step_stride, x.lower_words, width, steps);
          tile.divide_by_256();
        }
      }
      tile.multiply_add(weights, layer.unit_stride, layer.step_stride, x.words, width, steps);
      float* const strip = out + first * stride;
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        const V scale = V::broadcast(layer.scale[first + r]);
        const V sum = V::broadcast(Format::is_offset ? layer.sum[first + r] : 0.0f);
        const V bias = V::broadcast(w.bias == nullptr ? 0.0f : w.bias[first + r]);
        REHYAT_UNROLL for (int c = 0; c < C; ++c) {
          V base = bias;
          if constexpr (Format::is_offset) base = fma(sum, V::load(x.start + c * V::lanes), bias);
          fma(tile.value(r, c) * V::load(x.scale + c * V::lanes), scale, base)
              .store(strip + r * stride + c * V::lanes);
        }
        short_activate(activation, strip + r * stride, width);
      }
      if (degree > 1) raise_to_powers<C>(strip, stride, first, R, w.out_dim / degree);
    });
  }

  NarrowLayerScratch<Format> s_;
  NarrowLayer layers_[max_feature_layers];
  int64_t head_ = -1;
};

REHYAT_END_ISA_NAMESPACE
