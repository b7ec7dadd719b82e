#pragma once

#include <cstdint>
#include <limits>

#include "rehyat/config.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat {

/// The choice of c_i, the shift inside the exponentials. With linear keys it is part of the model: it scales
/// the softmax branch against the linear one, so weights belong to the stabilizer they were trained with.
enum class Stabilizer : std::uint8_t {
  /// c_i is the largest score of the row's softmax set; the linear branch is taken as it is. This is how we
  /// read
  /// the printed equations (ReHyAt, eq. 7; LoLCATs' code does the same); there is no official code to confirm
  /// it.
  /// The linear mass of an endless video grows while the softmax mass is bounded: the window fades.
  row_max,
  /// Both branches keep their true size: phi_q . phi_k approximates exp(score) itself. Joined by exponents,
  /// so
  /// nothing overflows.
  none,
};

/// What is multiplied in: scores, values, the layers of polynomial feature maps, the update of the sums over
/// linear keys and their read. Sums, denominators, exponentials and activations are float32 in every mode;
/// inputs and outputs have their own types.
enum class Arithmetic : std::uint8_t {
  float32,
  /// 8-bit integers, summed in 32 bits, as SageAttention (arXiv 2410.02367) does on GPUs: queries with a
  /// scale each, keys less a common vector with a scale each, weights in 255ths of the largest of their block
  /// of 128 keys, values with a scale per channel and block. Weights of layers have a scale per unit, what
  /// they read a range per token; features and values of the sums a scale or a range per block of 192 tokens;
  /// sums that are read a scale per channel and 128 features. Kernels must have it (AVX-512 VNNI, AVX-VNNI,
  /// ARM dot products, or scalar): rehyat/arithmetic.hpp. Faster and less exact: relative L2 about 1e-2 on
  /// real inputs, and see attention.hpp.
  int8,
  /// Half precision: the same with elements of 11 bits, in which products are summed in short runs. No range
  /// of inputs overflows, as every row or column is scaled to a largest magnitude of 1. Kernels must have it
  /// (AVX512-FP16, ARMv8.2 FP16): rehyat/arithmetic.hpp. Relative L2 4e-4 to 4e-3 on real inputs, and see
  /// attention.hpp.
  float16,
};

/// "float32", "int8" or "float16".
constexpr const char* arithmetic_name(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::float32:
      return "float32";
    case Arithmetic::int8:
      return "int8";
    case Arithmetic::float16:
      return "float16";
  }
  return "unknown";
}

/// Features that the caller computed, where a FeatureMap is FeatureMap::given(F). Views of [batch, token,
/// heads, F] with the tokens of q and k; `q` and `q_denominator` have the query heads, the others the kv
/// heads. The denominator views may be left empty (both or none): then numerator and denominator share
/// features. SANA-Video needs them apart: ReLU features, rotary embedding in the numerator only.
struct GivenFeatures {
  InputView q = {};
  InputView k = {};
  InputView q_denominator = {};
  InputView k_denominator = {};
};

/// What a caller needs to merge partial results, per query and head, as views of [batch, token, heads, 1].
/// Each is optional (null data). With y the output, y * (row_sum + g * linear_denominator) is the numerator,
/// where g is 1 with Stabilizer::row_max and exp(-row_max) with Stabilizer::none.
struct QueryStatistics {
  TensorView<float> row_max =
      {};  ///< largest scale * <q, k> of the softmax set, natural units; -inf if it is empty
  TensorView<float> row_sum = {};  ///< sum of exp(score - row_max) over the softmax set; 0 if it is empty
  TensorView<float> linear_denominator = {};  ///< phi_q . z, unshifted; 0 where there are no linear keys
};

/// The denominators that a call met, after the shift of the stabilizer that it used, before epsilon and
/// floor. Signed features (odd powers) can bring them near zero; nothing is clamped in silence.
struct DenominatorReport {
  float smallest = std::numeric_limits<float>::infinity();            ///< of all that are not NaN
  float smallest_magnitude = std::numeric_limits<float>::infinity();  ///< of all that are not NaN
  std::int64_t nan_count = 0;
};

/// Adds what another call, chunk or thread met to `total`. The order does not matter.
inline void merge(DenominatorReport& total, const DenominatorReport& part) {
  if (part.smallest < total.smallest) total.smallest = part.smallest;
  if (part.smallest_magnitude < total.smallest_magnitude) total.smallest_magnitude = part.smallest_magnitude;
  total.nan_count += part.nan_count;
}

}  // namespace rehyat
