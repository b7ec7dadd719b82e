#pragma once
// Rows and columns as narrow elements with scales; what an attend task needs of them for its softmax keys:
//
//   k_j  ~ centre + key_scale * n_j         one centre a key range
//   v_jd ~ value_scale_d * n_jd             a scale per channel and key block
//
// A common vector taken off the keys leaves less to round: real keys have channels that are large and nearly
// constant. <q, centre> is added back in float32.

#include "rehyat/kernel/pack.hpp"
#include "rehyat/kernel/query_block.hpp"
#include "rehyat/kernel/register_tile.hpp"
#include "rehyat/kernel/words.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Largest magnitudes below this are taken for 0: the reciprocal of a scale must not overflow.
inline constexpr float least_scaled = 0x1p-100f;

/// Every so many keys count for the centre. It need not be the mean: whatever is taken off is added back, and
/// keys of a range are alike. A seventh of them cost one more read of K a seventh of the time, and left the
/// errors on real arrays as they were; 7 divides no usual width of a frame.
inline constexpr int64_t centre_step = 7;

/// Columns of words lie in panels of so many: what a tile of up to 8 columns broadcasts, step by step, is
/// contiguous.
inline constexpr int64_t column_panel = 16;

/// Where column d begins; its words are column_panel apart.
REHYAT_INLINE Word* column_at(Word* words, int64_t panel_size, int64_t d) {
  return words + d / column_panel * panel_size + d % column_panel;
}

/// The scratch of one task beside AttendScratch. With AVX-512, D = Dv = 128 a key block of bytes takes 2 * 16
/// KB and a query block 6 KB, a quarter of float32.
template <class Format>
struct NarrowScratch {
  Word* queries;       ///< per block: [words][query_block]
  float* query_scale;  ///< per block, a lane each
  float* query_mean;   ///< per block: <q, centre> of the range
  float* centre;       ///< [padded head_dim], 0 behind head_dim
  Word* keys;          ///< [key_block][key_stride]
  float* key_scale;    ///< [key_block]; halves: the first is that of all
  float* key_sum;      ///< [key_block]: bytes, of a key's elements, for the 128 of the queries
  Word* values;        ///< [value_stride / column_panel][key_block / per_word][column_panel]
  float* value_scale;  ///< [value_stride]
  Word* value_start;   ///< [value_stride]: bytes, what `dot` takes from the sums over a block's keys
  Word* weights;       ///< [key_block / per_word][query_block]
  int64_t words;       ///< of a query
  int64_t key_stride;
  int64_t value_stride;
  int64_t size;

  static constexpr int64_t value_panel = key_block / Format::per_word * column_panel;

  static NarrowScratch lay_out(const Dims& d, int64_t blocks, float* base) {
    NarrowScratch s{};
    ScratchCutter floats{base};
    const auto words = [&](int64_t count) { return reinterpret_cast<Word*>(floats(count)); };
    s.words = words_of<Format>(d.head_dim);
    s.key_stride = padded(d.head_dim) / Format::per_word;
    s.value_stride = padded(d.value_dim);
    s.queries = words(blocks * s.words * query_block);
    s.query_scale = floats(blocks * query_block);
    s.query_mean = floats(blocks * query_block);
    s.centre = floats(d.head_dim);
    s.keys = words(key_block * s.key_stride);
    s.key_scale = floats(key_block);
    s.key_sum = floats(key_block);
    s.values = words(s.value_stride / column_panel * value_panel);
    s.value_scale = floats(s.value_stride);
    s.value_start = words(Format::is_offset ? s.value_stride : 0);
    s.weights = words(key_block / Format::per_word * query_block);
    s.size = floats.used;
    return s;
  }
};

/// What one query block has of it.
struct NarrowQueries {
  Word* words;
  float* scale;
  float* mean;
};

/// What the weights of one query block over one key block were made from: the score of the largest, what it
/// counts as an exponent, and the sum of all relative to the largest.
template <int C>
struct BlockWeights {
  Lanes<C> top, exponent, total;
};

template <class Format>
NarrowQueries queries_at(const AttendTask& task, const NarrowScratch<Format>& s, int64_t block) {
  const int64_t index = block - task.first_block;
  return {.words = s.queries + index * s.words * query_block,
          .scale = s.query_scale + index * query_block,
          .mean = s.query_mean + index * query_block};
}

/// Largest magnitude of each lane; infinite or NaN where one of its values was, and then the scale is NaN.
template <class Format>
struct Magnitude {
  V top = V::broadcast(0.0f);

  REHYAT_INLINE void add(V x) { top = max_magnitude(top, x); }
  REHYAT_INLINE V poison() const { return top - top; }
  REHYAT_INLINE V scale() const {
    const V scaled = select(less(top, V::broadcast(least_scaled)), V::broadcast(0.0f), top);
    return fma(scaled, V::broadcast(1.0f / Format::limit), poison());
  }
  REHYAT_INLINE V inverse() const {
    return select(less(top, V::broadcast(least_scaled)), V::broadcast(0.0f),
                  V::broadcast(Format::limit) / top);
  }
};

/// The largest magnitude of vectors 0 to count - 1: some at once, as one maximum would wait for its own
/// latency.
template <class Format, class Element>
REHYAT_INLINE Magnitude<Format> magnitude_of(int64_t count, Element element) {
  constexpr int at_once = 4;
  Magnitude<Format> some[static_cast<std::size_t>(at_once)];
  int64_t i = 0;
  for (; i + at_once <= count; i += at_once) {
    REHYAT_UNROLL for (int j = 0; j < at_once; ++j) some[j].add(element(i + j));
  }
  for (; i < count; ++i) some[0].add(element(i));
  REHYAT_UNROLL for (int j = 1; j < at_once; ++j) some[0].add(some[j].top);
  return some[0];
}

/// That of a row's `dim` elements: row(d) is the vector at element d.
template <class Format, class Row>
REHYAT_INLINE Magnitude<Format> magnitude_of_row(Row row, int64_t dim) {
  return magnitude_of<Format>((dim + V::lanes - 1) / V::lanes, [&](int64_t i) { return row(i * V::lanes); });
}

/// A row of floats, and of `dim` elements, 0 behind its end: row(d) is the vector at element d.
struct FloatRow {
  const float* data;
  REHYAT_INLINE V operator()(int64_t d) const { return V::load(data + d); }
};
template <class E>
struct ElementRow {
  const typename E::Storage* data;
  int64_t dim;

  REHYAT_INLINE V operator()(int64_t d) const {
    if (d + V::lanes <= dim) return E::load(data + d);
    return last(data + d, dim - d);
  }

 private:
  // out of line: inlined it takes the loops' registers
  [[gnu::noinline, gnu::cold]] static V last(const typename E::Storage* from, int64_t count) {
    float part[static_cast<std::size_t>(V::lanes)] = {};
    for (int64_t i = 0; i < count; ++i) part[i] = E::get(from + i);
    return V::load(part);
  }
};

/// centre = the mean of every centre_step-th key of the range. Divided before it is summed: it does not
/// overflow.
inline void find_centre(float* centre, const KeyRange& range, int64_t head_dim) {
  const V share = V::broadcast(1.0f / static_cast<float>((range.count + centre_step - 1) / centre_step));
  with_element(range.k.type, [&]<class E>(E) {
    const SourceRows keys{range.k, head_dim};
    for (int64_t d = 0; d < padded(head_dim); d += V::lanes) V::broadcast(0.0f).store(centre + d);
    for (int64_t key = 0; key < range.count; key += centre_step) {
      const ElementRow<E> row{keys.row<E>(key), head_dim};
      for (int64_t d = 0; d < head_dim; d += V::lanes) {
        fma(row(d), share, V::load(centre + d)).store(centre + d);
      }
    }
  });
}

/// mean[lane] = <q, centre>.
template <int C>
inline void multiply_centre(float* mean, const float* queries, const float* centre, int64_t head_dim) {
  constexpr int64_t width = C * V::lanes;
  RegisterTile<1, C> sum;
  sum.clear();
  sum.multiply_add(RowsInMemory{centre, head_dim}, 0, queries, width, head_dim);
  sum.store(mean, width);
}

/// The largest of a vector's, for those >= 0; NaN does not count.
REHYAT_INLINE float largest_lane(V x) {
  float lanes[static_cast<std::size_t>(V::lanes)];
  x.store(lanes);
  float largest = 0.0f;
  for (int l = 0; l < V::lanes; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
  return largest;
}

/// Row r of the square summed up, by `join`, in lane r.
template <class Join>
REHYAT_INLINE V join_rows(Square square, Join join) {
  square.transpose();
  V all = square.row[0];
  REHYAT_UNROLL for (int r = 1; r < V::lanes; ++r) all = join(all, square.row[r]);
  return all;
}

/// Rows with a scale each: element = scale * n.
struct NarrowRows {
  Word* words;
  int64_t stride;  ///< words, a multiple of 4: stores are of `lanes` elements
  float* scale;
  float* sum;  ///< of a row's elements, as they were rounded; of formats that are offset
};

/// Up to `lanes` rows from `first` on. Returns NaN in some lane if one has a value that is not finite.
template <class Format, class Row>
REHYAT_INLINE V quantise_some_rows(const NarrowRows& to, int64_t dim, int64_t first, int64_t count, Row row) {
  const int64_t rows = count - first < V::lanes ? count - first : V::lanes;
  V poison = V::broadcast(0.0f);
  Square square;
  for (int64_t r = 0; r < V::lanes; ++r) {
    Magnitude<Format> magnitude;
    if (r < rows) magnitude = magnitude_of_row<Format>(row(first + r), dim);
    square.row[r] = magnitude.top;
    poison = poison + magnitude.poison();
  }
  const Magnitude<Format> magnitude{.top = join_rows(square, [](V x, V y) { return max_magnitude(x, y); })};
  const V scale = magnitude.scale();
  float inverse[static_cast<std::size_t>(V::lanes)];
  magnitude.inverse().store(inverse);
  const int64_t elements = words_of<Format>(dim) * Format::per_word;  // those behind the row are 0
  for (int64_t r = 0; r < V::lanes; ++r) {
    Word* const to_row = to.words + (first + r) * to.stride;
    V sum = V::broadcast(0.0f);
    if (r < rows) {
      const auto x = row(first + r);
      for (int64_t d = 0; d < elements; d += V::lanes) {
        const V code = Format::encode(x(d), V::broadcast(inverse[r]));
        Format::store_row(code, to_row, d);
        if constexpr (Format::is_offset) sum = sum + Format::decode(code);
      }
    }
    square.row[r] = sum;
  }
  scale.store_first(to.scale + first, rows);
  if constexpr (Format::is_offset) {
    (join_rows(square, [](V x, V y) { return x + y; }) * scale).store_first(to.sum + first, rows);
  }
  return poison;
}

/// The words of `count` rows of `dim` elements. Returns 0, or NaN if one has a value that is not finite.
template <class Format, class Row>
REHYAT_INLINE float quantise_rows(const NarrowRows& to, int64_t count, int64_t dim, Row row) {
  V poison = V::broadcast(0.0f);
  for (int64_t first = 0; first < count; first += V::lanes) {
    poison = poison + quantise_some_rows<Format>(to, dim, first, count, row);
  }
  return any_nan(poison) ? quiet_nan : 0.0f;
}

/// Columns of rows with a scale each, several rows a word; a column with a value that is not finite has NaN
/// for a scale.
struct NarrowColumns {
  Word* words;         ///< [columns / column_panel][count / per_word][column_panel]
  int64_t panel_size;  ///< words
  float* scale;        ///< [columns]
  float* sum;          ///< [columns]: of a column's elements, as they were rounded; null: not asked for
  Word* start;  ///< [columns]: what `dot` of bytes takes from the sums over the rows; null: not asked for
};

/// use(word, x, is_row) for each word of `rows` rows: x has its rows, x[j] another one where is_row(j) is
/// false.
template <class Format, class Row, class Use>
REHYAT_INLINE void for_words(int64_t rows, Row row, Use use) {
  constexpr int per_word = Format::per_word;
  const auto word = [&]<bool whole>(int64_t i) {
    using X = decltype(row(i));
    const auto there = [&](int j) { return whole || i + j < rows; };
    if constexpr (per_word == 2) {
      const X x[] = {row(i), row(there(1) ? i + 1 : i)};
      use(i / per_word, x, there);
    } else {
      const X x[] = {row(i), row(there(1) ? i + 1 : i), row(there(2) ? i + 2 : i), row(there(3) ? i + 3 : i)};
      use(i / per_word, x, there);
    }
  };
  int64_t i = 0;
  for (; i + per_word <= rows; i += per_word) word.template operator()<true>(i);
  if (i < rows) word.template operator()<false>(i);
}

/// C vectors of columns from d on.
template <class Format, int C, class Row>
REHYAT_INLINE void quantise_some_columns(const NarrowColumns& to, int64_t count, int64_t d, Row row) {
  constexpr int per_word = Format::per_word;
  Magnitude<Format> magnitude[static_cast<std::size_t>(C)];
  for (int64_t i = 0; i < count; ++i) {
    const auto x = row(i);
    REHYAT_UNROLL for (int c = 0; c < C; ++c) magnitude[c].add(x(d + c * V::lanes));
  }
  Lanes<C> inverse, sum;
  Word* column[static_cast<std::size_t>(C)];
  typename Format::Start start[static_cast<std::size_t>(C)];
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    magnitude[c].scale().store(to.scale + d + c * V::lanes);
    inverse[c] = magnitude[c].inverse();
    sum[c] = V::broadcast(0.0f);
    column[c] = column_at(to.words, to.panel_size, d + c * V::lanes);
  }
  for_words<Format>(count, row, [&](int64_t word, const auto& x, auto is_row) {
    REHYAT_UNROLL for (int c = 0; c < C; ++c) {
      V codes[static_cast<std::size_t>(per_word)];
      REHYAT_UNROLL for (int j = 0; j < per_word; ++j) {
        codes[j] = Format::encode(is_row(j) ? x[j](d + c * V::lanes) : V::broadcast(0.0f), inverse[c]);
        if constexpr (Format::is_offset) {
          if (to.sum != nullptr) sum[c] = sum[c] + Format::decode(codes[j]);
        }
      }
      const auto words = Format::pack(codes);
      words.store(column[c] + word * column_panel);
      start[c].add(words);
    }
  });
  REHYAT_UNROLL for (int c = 0; c < C; ++c) {
    const int64_t first = d + c * V::lanes;
    if (Format::is_offset && to.sum != nullptr) (sum[c] * magnitude[c].scale()).store(to.sum + first);
    if (to.start != nullptr) start[c].store(to.start + first);
  }
}

/// The words of `count` rows of `dim` columns.
template <class Format, class Row>
[[gnu::noinline]] void quantise_columns(const NarrowColumns& to, int64_t count, int64_t dim, Row row) {
  constexpr int at_once = 4;  // maxima that would wait for their own latency
  int64_t d = 0;
  for (; d + at_once * V::lanes <= dim; d += at_once * V::lanes) {
    quantise_some_columns<Format, at_once>(to, count, d, row);
  }
  for (; d < dim; d += V::lanes) quantise_some_columns<Format, 1>(to, count, d, row);
}

REHYAT_END_ISA_NAMESPACE
