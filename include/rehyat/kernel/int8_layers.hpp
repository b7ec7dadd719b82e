#pragma once
// The layers of a polynomial feature map in 8-bit integers (Arithmetic::int8).
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
#include "rehyat/kernel/int8_activation.hpp"
#include "rehyat/kernel/int8_quantise.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// What the tokens or queries of a block have as bytes, one a lane.
struct Int8Lanes {
  explicit Int8Lanes(Word* bytes, Word* lower_bytes = nullptr) : words(bytes), lower_words(lower_bytes) {}

  Word* words;        ///< [words of the rows][query_block]
  Word* lower_words;  ///< the same of the second bytes; null: one byte is enough
  float scale[query_block];
  float start[query_block];
};

/// Least and largest of each lane, and NaN where one of its values was NaN or infinite.
struct LaneRange {
  V low = V::broadcast(infinity), high = V::broadcast(-infinity), poison = V::broadcast(0.0f);

  REHYAT_INLINE void add(V x) {
    low = min(x, low);
    high = max(x, high);
    poison = fma(x, V::broadcast(0.0f), poison);
  }
};

/// The bytes of four rows of a vector of lanes; rows of nothing have weights of 0.
struct ByteRows {
  V upper[static_cast<std::size_t>(bytes_per_word)], lower[static_cast<std::size_t>(bytes_per_word)];

  /// Byte j of (x - low) * inverse, biased.
  REHYAT_INLINE void set(int j, V biased) { upper[j] = lower[j] = biased - V::broadcast(unsigned_shift); }
  /// The same in 256ths: a nearest byte (a half goes up), and what is left, counted from -128.
  REHYAT_INLINE void set_two(int j, V biased) {
    const V bias = V::broadcast(byte_bias), n = biased - bias;
    const V nearest = fma(n + V::broadcast(0.25f), V::broadcast(1.0f / 256.0f), bias);
    upper[j] = nearest - V::broadcast(unsigned_shift);
    lower[j] = fma(nearest - bias, V::broadcast(-256.0f), n) + V::broadcast(unsigned_bias + 128.0f);
  }
};

template <int C, bool two, class Row>
REHYAT_INLINE void quantise_lanes_to(Int8Lanes& to, int64_t rows, Row row) {
  constexpr int64_t width = C * V::lanes;
  // 255 * 256 steps, so that the nearest multiple of 256 has a byte of its own
  constexpr float steps = two ? 65280.0f : 255.0f, unit = two ? 256.0f : 1.0f;
  // a lower byte counts from -128, and both from what `dot` takes off
  constexpr float below = unsigned_shift + (two ? (unsigned_shift - 128.0f) / 256.0f : 0.0f);
  LaneRange range[static_cast<std::size_t>(C)];
  for (int64_t i = 0; i < rows; ++i) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) range[c].add(row(i, c * V::lanes));
  }
  Lanes<C> inverse;
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const V size = range[c].high - range[c].low, zero = V::broadcast(0.0f);
    const auto is_point = less(size, V::broadcast(least_scaled));
    const V scale = select(is_point, zero, size) * V::broadcast(unit / steps);
    inverse[c] = select(is_point, zero, V::broadcast(steps) / size);
    (scale + range[c].poison).store(to.scale + c * V::lanes);
    fma(scale, V::broadcast(below), range[c].low).store(to.start + c * V::lanes);
  }
  const V bias = V::broadcast(byte_bias);
  for (int64_t i = 0; i < rows; i += bytes_per_word) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      ByteRows bytes;
      REHYAT_UNROLL for (int j = 0; j < bytes_per_word; ++j) {
        V biased = bias;
        if (i + j < rows) biased = fma(row(i + j, c * V::lanes) - range[c].low, inverse[c], bias);
        if constexpr (two) {
          bytes.set_two(j, biased);
        } else {
          bytes.set(j, biased);
        }
      }
      const int64_t word = i / bytes_per_word * width + c * V::lanes;
      Bytes::lowest_of(bytes.upper[0], bytes.upper[1], bytes.upper[2], bytes.upper[3]).store(to.words + word);
      if constexpr (two) {
        Bytes::lowest_of(bytes.lower[0], bytes.lower[1], bytes.lower[2], bytes.lower[3])
            .store(to.lower_words + word);
      }
    }
  }
}

/// row(i, lane) is the vector at `lane` of row i; C vectors of lanes. All at once: one range alone would wait
/// for the latency of its minimum.
template <int C, class Row>
REHYAT_INLINE void quantise_lanes(Int8Lanes& to, int64_t rows, Row row) {
  if (to.lower_words != nullptr) return quantise_lanes_to<C, true>(to, rows, row);
  quantise_lanes_to<C, false>(to, rows, row);
}

/// One head's weights of a layer as bytes.
struct Int8Layer {
  Word* words;
  float* scale;  ///< [out_dim]
  float* sum;    ///< [out_dim]: of a unit's weights
  int64_t unit_stride, step_stride, panel_size;

  REHYAT_INLINE const Word* unit(int64_t i) const {
    return words + i / weight_panel * panel_size + i % weight_panel * unit_stride;
  }
};

/// A panel's weights: lanes are units here, so that the bytes of four inputs come together by themselves.
inline void quantise_panel(const Int8Layer& to, const float* weights, int64_t first, int64_t in_dim) {
  constexpr int64_t units = V::lanes < weight_panel ? V::lanes : weight_panel;
  const V bias = V::broadcast(byte_bias);
  for (int64_t r = 0; r < weight_panel; r += units) {
    const auto input = [&](int64_t i) { return V::load_first(weights + i * weight_panel + r, units); };
    const Magnitude magnitude = magnitude_of(in_dim, input);
    const V scale = magnitude.scale(), inverse = magnitude.inverse();
    V sum = V::broadcast(0.0f);
    for (int64_t i = 0; i < in_dim; i += bytes_per_word) {
      V biased[static_cast<std::size_t>(bytes_per_word)];
      REHYAT_UNROLL for (int j = 0; j < bytes_per_word; ++j) {
        biased[j] = i + j < in_dim ? fma(input(i + j), inverse, bias) : bias;
      }
      sum = sum + (((biased[0] - bias) + (biased[1] - bias)) + ((biased[2] - bias) + (biased[3] - bias)));
      const Bytes bytes = Bytes::lowest_of(biased[0], biased[1], biased[2], biased[3]);
      bytes.store_first(to.words + i / bytes_per_word * weight_panel + r, units);
    }
    scale.store_first(to.scale + first + r, units);
    (sum * scale).store_first(to.sum + first + r, units);
  }
}

inline Int8Layer quantise_layer(const LayerWeights& w, Word* words, float* factors) {
  Int8Layer to{};
  to.words = words;
  to.scale = factors, to.sum = factors + padded(w.out_dim);
  if (w.layout == WeightLayout::panels) {
    to.unit_stride = 1, to.step_stride = weight_panel;
    to.panel_size = words_of(w.in_dim) * weight_panel;
    for (int64_t unit = 0; unit < w.out_dim; unit += weight_panel) {
      Int8Layer panel = to;
      panel.words += unit / weight_panel * to.panel_size;
      quantise_panel(panel, w.weight + unit * w.in_dim, unit, w.in_dim);
    }
  } else {
    to.unit_stride = padded(w.in_dim) / bytes_per_word, to.step_stride = 1;
    to.panel_size = weight_panel * to.unit_stride;
    quantise_rows(
        {to.words, to.unit_stride, to.scale, to.sum}, w.out_dim, w.in_dim,
        [&](int64_t r, int64_t i) { return load_part<Float32>(w.weight + r * w.in_dim, i, w.in_dim); });
  }
  return to;
}

/// Scratch of the layers of one map.
struct Int8LayerScratch {
  Word* weights;
  float* factors;     ///< scale and sum of all units
  Word* words;        ///< of a block of the widest layer
  Word* lower_words;  ///< of a block of tokens

  template <class Take>
  static Int8LayerScratch lay_out(const Dims& d, Take take) {
    const auto words = [&](int64_t count) { return reinterpret_cast<Word*>(take(count)); };
    return {.weights = words(d.layer_weights / bytes_per_word),
            .factors = take(2 * d.layer_units),
            .words = words(words_of(d.widest_layer) * query_block),
            .lower_words = words(words_of(d.head_dim) * query_block)};
  }
};

/// The layers of a polynomial map in bytes. A head's weights become bytes when its first block comes: 98 K of
/// them at D = 128, hidden = F = 256, 30 K cycles against 60 K for each of up to 16 blocks of 48 tokens.
class Int8Layers {
 public:
  explicit Int8Layers(const Int8LayerScratch& s) : s_(s) {}

  template <int C>
  void run(float* out, int64_t stride, const FeatureMap& map, int64_t head, int64_t in_dim, float* in,
           float* next, RowPrefetch& ahead) {
    constexpr int64_t width = C * V::lanes;
    if (head != head_) quantise(map, head, in_dim);
    for (int layer = 0; layer < map.num_layers; ++layer) {
      const bool last = layer + 1 == map.num_layers;
      const LayerWeights w = layer_weights(map, layer, in_dim, head);
      Int8Lanes x(s_.words, layer == 0 ? s_.lower_words : nullptr);
      quantise_lanes<C>(x, in_dim, [&](int64_t i, int64_t lane) { return V::load(in + i * width + lane); });
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
      layers_[layer] = quantise_layer(w, words, factors);
      words += padded(w.out_dim) * padded(in_dim) / bytes_per_word;
      factors += 2 * padded(w.out_dim);
      in_dim = w.out_dim;
    }
    head_ = head;
  }

  /// out[unit][token] = activation(W x + b), and the powers: dense_layer of float32.
  template <int C>
  static void dense(float* out, int64_t stride, const Int8Lanes& x, const LayerWeights& w,
                    const Int8Layer& layer, Activation activation, int degree, RowPrefetch& ahead) {
    constexpr int64_t width = C * V::lanes;
    const int64_t steps = words_of(w.in_dim);
    for_row_strips(w.out_dim, [&]<int R>(int64_t first) {
      ahead.advance();
      const Word* const weights = layer.unit(first);
      IntegerTile<R, C> tile;
      tile.clear();
      if (x.lower_words != nullptr) {
        tile.multiply_add(weights, layer.unit_stride, layer.step_stride, x.lower_words, width, steps);
        tile.divide_by_256();
      }
      tile.multiply_add(weights, layer.unit_stride, layer.step_stride, x.words, width, steps);
      float* const strip = out + first * stride;
      REHYAT_UNROLL for (int r = 0; r < R; ++r) {
        const V scale = V::broadcast(layer.scale[first + r]), sum = V::broadcast(layer.sum[first + r]);
        const V bias = V::broadcast(w.bias == nullptr ? 0.0f : w.bias[first + r]);
        REHYAT_UNROLL for (int c = 0; c < C; ++c) {
          const V product = to_float(tile.at[r][c]) * V::load(x.scale + c * V::lanes);
          fma(product, scale, fma(sum, V::load(x.start + c * V::lanes), bias))
              .store(strip + r * stride + c * V::lanes);
        }
        activate_for_bytes(activation, strip + r * stride, width);
      }
      if (degree > 1) raise_to_powers<C>(strip, stride, first, R, w.out_dim / degree);
    });
  }

  Int8LayerScratch s_;
  Int8Layer layers_[max_feature_layers];
  int64_t head_ = -1;
};

REHYAT_END_ISA_NAMESPACE
