#pragma once
// One form for all one-shot operators' parameters, and what their tasks share.

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include "rehyat/kernel/kernel_table.hpp"
#include "rehyat/parameters.hpp"
#include "rehyat/schedule.hpp"
#include "rehyat/tensor_view.hpp"

namespace rehyat::detail {

enum class Schedule : std::uint8_t { softmax, hybrid, linear, uniform };

/// The parameters of any one-shot operator.
struct Problem {
  Schedule schedule = Schedule::softmax;
  Direction direction = Direction::bidirectional;
  InputView q = {}, k = {}, v = {};
  OutputView out = {};
  Chunking chunking = {};
  std::int64_t rate = 0;
  FeatureMap phi_q = {}, phi_k = {};
  GivenFeatures given = {};
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<float> scale = {};
  Arithmetic arithmetic = Arithmetic::float32;
  float denominator_epsilon = 0, denominator_floor = 0;
  /// Valid tokens (softmax, uniform) or frames of each batch entry; empty for all.
  std::span<const std::int64_t> query_counts = {}, key_counts = {};
  QueryStatistics statistics = {};
  DenominatorReport* report = nullptr;
  bool one_thread = false;  ///< runs on one thread: its phases need not have tasks for more

  bool has_linear() const {
    return schedule != Schedule::softmax && !(schedule == Schedule::uniform && rate == 1);
  }
  bool framed() const { return schedule == Schedule::hybrid || schedule == Schedule::linear; }
  /// Tokens in one unit of query_counts and key_counts.
  std::int64_t unit() const { return framed() ? chunking.tokens_per_frame : 1; }
  std::int64_t units_of_queries(std::int64_t b) const {
    return query_counts.empty() ? q.tokens / unit() : query_counts[static_cast<std::size_t>(b)];
  }
  std::int64_t units_of_keys(std::int64_t b) const {
    return key_counts.empty() ? k.tokens / unit() : key_counts[static_cast<std::size_t>(b)];
  }
};

/// Widest vector that a feature map holds on its way.
constexpr std::int64_t widest_layer(const FeatureMap& map, std::int64_t head_dim) {
  std::int64_t widest = head_dim;
  if (map.kind != FeatureMap::Kind::polynomial) return widest;  // the layers of others are not checked
  for (int i = 0; i < map.num_layers; ++i) {
    if (map.layers[i].out_dim > widest) widest = map.layers[i].out_dim;
  }
  return widest;
}

/// Makes room in the dims for the layers of a map.
constexpr void add_layers(kernel::Dims& d, const FeatureMap& map) {
  if (map.kind != FeatureMap::Kind::polynomial) return;
  std::int64_t weights = 0, units = 0, in_dim = d.head_dim;
  for (int i = 0; i < map.num_layers; ++i) {
    const std::int64_t out_dim = map.layers[i].out_dim;
    weights += kernel::padded(out_dim) * kernel::padded(in_dim);
    units += kernel::padded(out_dim);
    in_dim = out_dim;
  }
  if (weights > d.layer_weights) d.layer_weights = weights;
  if (units > d.layer_units) d.layer_units = units;
}

inline kernel::Dims dims_of(std::int64_t head_dim, std::int64_t value_dim, const FeatureMap* phi_q,
                            const FeatureMap* phi_k) {
  kernel::Dims d{.head_dim = head_dim, .value_dim = value_dim};
  if (phi_q != nullptr) {
    d.feature_dim = phi_q->feature_dim(head_dim);
    const std::int64_t q = widest_layer(*phi_q, head_dim), k = widest_layer(*phi_k, head_dim);
    d.widest_layer = q > k ? q : k;
    add_layers(d, *phi_q);
    add_layers(d, *phi_k);
  }
  return d;
}

/// log2(e) is folded into the scale of the queries, so that the softmax works in powers of two.
inline float score_scale(std::optional<float> scale, std::int64_t head_dim) {
  const double natural = scale ? static_cast<double>(*scale) : 1.0 / std::sqrt(static_cast<double>(head_dim));
  return static_cast<float>(natural * 1.4426950408889634);
}

/// Keys, values and given key features in one piece of memory: a clip, a chunk, or a state's tail.
struct KeyViews {
  InputView k = {}, v = {}, features = {}, feature_denominators = {};
};

/// Consecutive tokens of some views.
struct KeySpan {
  const KeyViews* views = nullptr;
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

/// At most two spans: before a chunk's first frame, and from there. Key blocks and groups of absorbed keys
/// are counted from the start of each, in one shot as in streaming, where the first span is the tail: the cut
/// is part of the schedule, and with it the bits.
struct KeySpans {
  KeySpan at[2] = {};
  int count = 0;

  void add(const KeyViews& views, std::int64_t begin, std::int64_t end) {
    if (end > begin) at[count++] = {&views, begin, end - begin};
  }
};

/// What all tasks of a call share.
struct Call {
  const Kernels* kernels = nullptr;  ///< of the call's arithmetic, which has been checked
  kernel::Dims dims = {};
  std::int64_t batch = 0, heads = 0, kv_heads = 0;
  InputView q = {}, features = {}, feature_denominators = {};  ///< of the queries
  OutputView out = {};
  const FeatureMap* phi_q = nullptr;
  const FeatureMap* phi_k = nullptr;
  float score_scale = 0;
  Stabilizer stabilizer = Stabilizer::row_max;
  float denominator_epsilon = 0, denominator_floor = 0;
  QueryStatistics statistics = {};
  float* scratch = nullptr;  ///< slots * slot_size floats
  std::int64_t slot_size = 0;
  DenominatorReport* reports = nullptr;  ///< one a slot, at report_stride
  bool one_thread = false;               ///< as in Problem
};

inline Call call_of(const Problem& p, const Kernels& kernels) {
  const bool linear = p.has_linear();
  return {.kernels = kernels_in(kernels, p.arithmetic),
          .dims = dims_of(p.q.dim, p.v.dim, linear ? &p.phi_q : nullptr, &p.phi_k),
          .batch = p.q.batch,
          .heads = p.q.heads,
          .kv_heads = p.k.heads,
          .q = p.q,
          .features = p.given.q,
          .feature_denominators = p.given.q_denominator,
          .out = p.out,
          .phi_q = &p.phi_q,
          .phi_k = &p.phi_k,
          .score_scale = score_scale(p.scale, p.q.dim),
          .stabilizer = p.stabilizer,
          .denominator_epsilon = p.denominator_epsilon,
          .denominator_floor = p.denominator_floor,
          .statistics = p.statistics,
          .one_thread = p.one_thread};
}

}  // namespace rehyat::detail
