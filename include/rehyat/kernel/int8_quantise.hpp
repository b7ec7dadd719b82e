#pragma once
// Queries, keys and values of an attend task as bytes with scales.
//
//   q_i ~ query_scale_i * (u_i - 128)       u unsigned, 1 to 255: a scale per query
//   k_j ~ centre + key_scale_j * n_j        n signed, -127 to 127: a scale per key; one centre a key range
//   v_jd ~ value_scale_d * n_jd             a scale per channel and key block
//
// A common vector taken off the keys leaves less to round: real keys have channels that are large and nearly
// constant. <q, centre> is added back in float32.

#include "rehyat/kernel/bytes.hpp"
#include "rehyat/kernel/pack.hpp"
#include "rehyat/kernel/query_block.hpp"
#include "rehyat/kernel/register_tile.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

inline constexpr float byte_limit = 127.0f;

/// Words that hold `bytes` bytes.
constexpr int64_t words_of(int64_t bytes) { return (bytes + bytes_per_word - 1) / bytes_per_word; }

/// Largest magnitudes below this are taken for 0: the reciprocal of a scale must not overflow.
inline constexpr float least_scaled = 0x1p-100f;

/// Every so many keys count for the centre. It need not be the mean: whatever is taken off is added back, and
/// keys of a range are alike. A seventh of them cost one more read of K a seventh of the time, and left the
/// errors on real arrays as they were; 7 divides no usual width of a frame.
inline constexpr int64_t centre_step = 7;

/// The scratch of one task beside AttendScratch.
///
/// Sums of products: 255 * 127 * 512 dimensions or 128 keys is below 2^24, exact in 32 bits and as a float.
/// With AVX-512, D = Dv = 128 a key block takes 2 * 16 KB and a query block 6 KB, a quarter of float32.
struct Int8Scratch {
  Word* queries;       ///< per block: [words][query_block]
  float* query_scale;  ///< per block
  float* query_mean;   ///< per block: <q, centre> of the range
  float* centre;       ///< [padded head_dim], 0 behind head_dim
  Word* keys;          ///< [key_block][key_stride]
  float* key_scale;    ///< [key_block]
  float* key_sum;      ///< [key_block]: of a key's elements, for the 128 of the queries
  Word* values;        ///< [key_block / 4][value_stride]: bytes of 4 keys a channel
  float* value_scale;  ///< [value_stride]
  Word* value_start;   ///< [value_stride]: what `dot` takes from the sums over a block's keys; or nothing
  Word* weights;       ///< [key_block / 4][query_block]: bytes of 4 keys a query
  int64_t words;       ///< of a query's bytes
  int64_t key_stride;
  int64_t value_stride;
  int64_t size;

  static Int8Scratch lay_out(const Dims& d, int64_t blocks, float* base) {
    Int8Scratch s{};
    int64_t used = 0;
    const auto floats = [&](int64_t count) {
      float* p = base == nullptr ? nullptr : base + used;
      used += padded(count);
      return p;
    };
    const auto words = [&](int64_t count) { return reinterpret_cast<Word*>(floats(count)); };
    s.words = words_of(d.head_dim);
    s.key_stride = padded(d.head_dim) / bytes_per_word;
    s.value_stride = padded(d.value_dim);
    s.queries = words(blocks * s.words * query_block);
    s.query_scale = floats(blocks * query_block);
    s.query_mean = floats(blocks * query_block);
    s.centre = floats(d.head_dim);
    s.keys = words(key_block * s.key_stride);
    s.key_scale = floats(key_block);
    s.key_sum = floats(key_block);
    s.values = words(key_block / bytes_per_word * s.value_stride);
    s.value_scale = floats(s.value_stride);
    s.value_start = words(unsigned_shift == 0.0f ? 0 : s.value_stride);
    s.weights = words(key_block / bytes_per_word * query_block);
    s.size = used;
    return s;
  }
};

/// What one query block has of it.
struct Int8Queries {
  Word* bytes;
  float* scale;
  float* mean;
};

inline Int8Queries queries_at(const AttendTask& task, const Int8Scratch& s, int64_t block) {
  const int64_t index = block - task.first_block;
  return {.bytes = s.queries + index * s.words * query_block,
          .scale = s.query_scale + index * query_block,
          .mean = s.query_mean + index * query_block};
}

/// Largest magnitude of each lane; infinite or NaN where one of its values was, and then the scale is NaN.
struct Magnitude {
  V top = V::broadcast(0.0f);

  REHYAT_INLINE void add(V x) { top = max_magnitude(top, x); }
  REHYAT_INLINE V poison() const { return top - top; }
  REHYAT_INLINE V scale() const {
    const V scaled = select(less(top, V::broadcast(least_scaled)), V::broadcast(0.0f), top);
    return fma(scaled, V::broadcast(1.0f / byte_limit), poison());
  }
  REHYAT_INLINE V inverse() const {
    return select(less(top, V::broadcast(least_scaled)), V::broadcast(0.0f), V::broadcast(byte_limit) / top);
  }
};

/// The largest magnitude of vectors 0 to count - 1: some at once, as one maximum would wait for its own
/// latency.
template <class Element>
REHYAT_INLINE Magnitude magnitude_of(int64_t count, Element element) {
  constexpr int at_once = 4;
  Magnitude some[static_cast<std::size_t>(at_once)];
  int64_t i = 0;
  for (; i + at_once <= count; i += at_once) {
    REHYAT_UNROLL for (int j = 0; j < at_once; ++j) some[j].add(element(i + j));
  }
  for (; i < count; ++i) some[0].add(element(i));
  REHYAT_UNROLL for (int j = 1; j < at_once; ++j) some[0].add(some[j].top);
  return some[0];
}

/// The bytes of a block's packed queries, [head_dim][C vectors].
template <int C>
inline void quantise_queries(const Int8Queries& to, const float* queries, int64_t head_dim) {
  constexpr int64_t width = C * V::lanes;
  const V bias = V::broadcast(unsigned_bias + 128.0f);
  for (int64_t i = 0; i < width; i += V::lanes) {
    const Magnitude magnitude =
        magnitude_of(head_dim, [&](int64_t d) { return V::load(queries + d * width + i); });
    magnitude.scale().store(to.scale + i);
    const V inverse = magnitude.inverse();
    const auto biased = [&](int64_t d) {
      return d < head_dim ? fma(V::load(queries + d * width + i), inverse, bias) : bias;
    };
    for (int64_t d = 0; d < head_dim; d += bytes_per_word) {
      Bytes::lowest_of(biased(d), biased(d + 1), biased(d + 2), biased(d + 3))
          .store(to.bytes + d / bytes_per_word * width + i);
    }
  }
}

/// `lanes` elements from `d` on of a row of `dim`, 0 behind its end.
template <class E>
REHYAT_INLINE V load_part(const typename E::Storage* row, int64_t d, int64_t dim) {
  if (d + V::lanes <= dim) return E::load(row + d);
  float part[static_cast<std::size_t>(V::lanes)] = {};
  for (int64_t i = d; i < dim; ++i) part[i - d] = E::get(row + i);
  return V::load(part);
}

/// centre = the mean of every centre_step-th key of the range. Divided before it is summed: it does not
/// overflow.
inline void find_centre(float* centre, const KeyRange& range, int64_t head_dim) {
  const V share = V::broadcast(1.0f / static_cast<float>((range.count + centre_step - 1) / centre_step));
  with_element(range.k.type, [&]<class E>(E) {
    const SourceRows keys{range.k, head_dim};
    for (int64_t d = 0; d < padded(head_dim); d += V::lanes) V::broadcast(0.0f).store(centre + d);
    for (int64_t key = 0; key < range.count; key += centre_step) {
      for (int64_t d = 0; d < head_dim; d += V::lanes) {
        fma(load_part<E>(keys.row<E>(key), d, head_dim), share, V::load(centre + d)).store(centre + d);
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

/// Row r of the square summed up, by `join`, in lane r.
template <class Join>
REHYAT_INLINE V join_rows(Square square, Join join) {
  square.transpose();
  V all = square.row[0];
  REHYAT_UNROLL for (int r = 1; r < V::lanes; ++r) all = join(all, square.row[r]);
  return all;
}

/// Rows as signed bytes with a scale each: element = scale * n, n from -127 to 127.
struct Int8Rows {
  Word* words;
  int64_t stride;  ///< words, a multiple of 4: stores are of `lanes` bytes
  float* scale;
  float* sum;  ///< of a row's elements, as their bytes have them
};

/// Up to `lanes` rows from `first` on. Returns NaN in some lane if one has a value that is not finite.
template <class Row>
REHYAT_INLINE V quantise_some_rows(const Int8Rows& to, int64_t dim, int64_t first, int64_t count, Row row) {
  const int64_t rows = count - first < V::lanes ? count - first : V::lanes;
  V poison = V::broadcast(0.0f);
  Square square;
  for (int64_t r = 0; r < V::lanes; ++r) {
    Magnitude magnitude;
    for (int64_t d = 0; r < rows && d < dim; d += V::lanes) magnitude.add(row(first + r, d));
    square.row[r] = magnitude.top;
    poison = poison + magnitude.poison();
  }
  const Magnitude magnitude{.top = join_rows(square, [](V x, V y) { return max_magnitude(x, y); })};
  const V scale = magnitude.scale();
  float inverse[static_cast<std::size_t>(V::lanes)];
  magnitude.inverse().store(inverse);
  const V bias = V::broadcast(byte_bias);
  const int64_t bytes = words_of(dim) * bytes_per_word;  // those behind the row are 0
  for (int64_t r = 0; r < V::lanes; ++r) {
    auto* const to_row = reinterpret_cast<std::int8_t*>(to.words + (first + r) * to.stride);
    V sum = V::broadcast(0.0f);
    for (int64_t d = 0; r < rows && d < bytes; d += V::lanes) {
      const V biased = fma(row(first + r, d), V::broadcast(inverse[r]), bias);
      Bytes::store_lowest(biased, to_row + d);
      sum = sum + (biased - bias);
    }
    square.row[r] = sum;
  }
  scale.store_first(to.scale + first, rows);
  (join_rows(square, [](V x, V y) { return x + y; }) * scale).store_first(to.sum + first, rows);
  return poison;
}

/// The bytes of `count` rows of `dim` elements; row(r, d) is the vector at element d of row r. Returns 0, or
/// NaN if one has a value that is not finite.
template <class Row>
REHYAT_INLINE float quantise_rows(const Int8Rows& to, int64_t count, int64_t dim, Row row) {
  V poison = V::broadcast(0.0f);
  for (int64_t first = 0; first < count; first += V::lanes) {
    poison = poison + quantise_some_rows(to, dim, first, count, row);
  }
  return any_nan(poison) ? quiet_nan : 0.0f;
}

/// Columns of rows as signed bytes with a scale each, the bytes of 4 rows a word; a column with a value that
/// is not finite has NaN for a scale.
struct Int8Columns {
  Word* words;     ///< [count / 4][stride]
  int64_t stride;  ///< a multiple of the lanes
  float* scale;    ///< [stride]
  float* sum;      ///< [stride]: of a column's elements, as their bytes have them; null: not asked for
  Word* start;  ///< [stride]: what `dot` takes from the sums over the rows, if it does; null: not asked for
};

/// row(i, d) is the vector at column d of row i.
template <class Row>
REHYAT_INLINE void quantise_columns(const Int8Columns& to, int64_t count, int64_t dim, Row row) {
  const V bias = V::broadcast(byte_bias);
  for (int64_t d = 0; d < dim; d += V::lanes) {
    const Magnitude magnitude = magnitude_of(count, [&](int64_t i) { return row(i, d); });
    magnitude.scale().store(to.scale + d);
    const V inverse = magnitude.inverse();
    V sum = V::broadcast(0.0f);
    Integers start = Integers::zero();
    for (int64_t i = 0; i < count; i += bytes_per_word) {
      V biased[static_cast<std::size_t>(bytes_per_word)];
      REHYAT_UNROLL for (int j = 0; j < bytes_per_word; ++j) {
        biased[j] = i + j < count ? fma(row(i + j, d), inverse, bias) : bias;
        if (to.sum != nullptr) sum = sum + (biased[j] - bias);
      }
      const Bytes word = Bytes::lowest_of(biased[0], biased[1], biased[2], biased[3]);
      word.store(to.words + i / bytes_per_word * to.stride + d);
      start = add_shift(start, word);
    }
    if (to.sum != nullptr) (sum * magnitude.scale()).store(to.sum + d);
    if constexpr (unsigned_shift != 0.0f) {
      if (to.start != nullptr) start.store(to.start + d);
    }
  }
}

REHYAT_END_ISA_NAMESPACE
