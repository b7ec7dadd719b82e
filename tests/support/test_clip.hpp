#pragma once
// A clip with everything that any operator needs, the operators on it, and what a run of one wrote.

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "compare.hpp"
#include "random.hpp"
#include "random_feature_map.hpp"
#include "rehyat/attention.hpp"
#include "rehyat/recurrent.hpp"
#include "run.hpp"

namespace rehyat::support {

struct Geometry {
  std::int64_t batch = 1, frames = 4, tokens_per_frame = 3, chunk_frames = 2, overlap_frames = 1;
  std::int64_t kv_heads = 1, heads_per_kv = 1, dim = 8, value_dim = 8;
  std::int64_t given_dim = 5;

  std::int64_t heads() const { return kv_heads * heads_per_kv; }
  std::int64_t tokens() const { return frames * tokens_per_frame; }
  std::int64_t chunks() const { return ceil_div(frames, chunk_frames); }

  static Geometry random(Random& r) {
    return {.batch = r.pick<std::int64_t>({1, 1, 2, 3}),
            .frames = r.integer(1, 10),
            .tokens_per_frame = r.pick<std::int64_t>({1, 2, 3, 5, 13, 50}),
            .chunk_frames = r.integer(1, 5),
            .overlap_frames = r.pick<std::int64_t>({0, 1, 2, 3, 7, 12}),
            .kv_heads = r.integer(1, 2),
            .heads_per_kv = r.integer(1, 3),
            .dim = r.pick<std::int64_t>({1, 3, 4, 8, 15, 16, 17, 33}),
            .value_dim = r.pick<std::int64_t>({1, 3, 4, 8, 15, 16, 17, 33}),
            .given_dim = r.integer(1, 20)};
  }
};

enum class Features { elu1, relu, identity, polynomial, given, given_separate };

/// Owned inputs of a clip. The operators view them: the clip must outlive their parameters.
struct TestClip {
  Geometry geometry;
  std::vector<float> q, k, v;
  std::vector<float> given_q, given_k, given_q_denominator, given_k_denominator;
  std::vector<std::int64_t> frames = {}, tokens = {};  ///< valid ones of each batch entry; empty for all
  FeatureMap phi_q = {}, phi_k = {};
  std::vector<RandomFeatureMap> weights = {};
  Stabilizer stabilizer = Stabilizer::row_max;
  std::optional<float> scale = std::nullopt;
  Arithmetic arithmetic = Arithmetic::float32;  ///< of all that have softmax keys
  float denominator_epsilon = 0, denominator_floor = 0;
  std::int64_t rate = 3;

  TestClip(Random& random, const Geometry& g, Features features)
      : geometry(g),
        q(random.normals(g.batch * g.tokens() * g.heads() * g.dim)),
        k(random.normals(g.batch * g.tokens() * g.kv_heads * g.dim)),
        v(random.normals(g.batch * g.tokens() * g.kv_heads * g.value_dim)) {
    choose(random, features);
  }
  TestClip(TestClip&&) = default;

  /// Random features, stabilizer and scale, and counts that differ between batch entries.
  static TestClip random(Random& r, const Geometry& g) {
    TestClip clip(r, g,
                  r.pick({Features::elu1, Features::relu, Features::polynomial, Features::polynomial,
                          Features::given, Features::given_separate}));
    clip.stabilizer = r.pick({Stabilizer::row_max, Stabilizer::none});
    if (r.coin()) clip.scale = static_cast<float>(r.uniform(0.05, 1));
    clip.rate = r.integer(1, 5);
    if (g.batch > 1) clip.make_ragged(r);
    return clip;
  }

  void make_ragged(Random& r) {
    for (std::int64_t b = 0; b < geometry.batch; ++b) frames.push_back(r.integer(0, geometry.frames));
    for (const std::int64_t f : frames) tokens.push_back(f * geometry.tokens_per_frame);
  }

  Chunking chunking() const {
    return {geometry.tokens_per_frame, geometry.chunk_frames, geometry.overlap_frames};
  }
  /// A packed tensor with the tokens of the clip.
  TensorView<const float> view(const std::vector<float>& values, std::int64_t num_heads,
                               std::int64_t dim) const {
    if (values.empty()) return {};
    return TensorView<const float>::token_major(values.data(), geometry.batch, geometry.tokens(), num_heads,
                                                dim);
  }
  TensorView<const float> q_view() const { return view(q, geometry.heads(), geometry.dim); }
  TensorView<const float> k_view() const { return view(k, geometry.kv_heads, geometry.dim); }
  TensorView<const float> v_view() const { return view(v, geometry.kv_heads, geometry.value_dim); }
  GivenFeatures given() const {
    return {.q = view(given_q, geometry.heads(), phi_q.given_dim),
            .k = view(given_k, geometry.kv_heads, phi_q.given_dim),
            .q_denominator = view(given_q_denominator, geometry.heads(), phi_q.given_dim),
            .k_denominator = view(given_k_denominator, geometry.kv_heads, phi_q.given_dim)};
  }

  SoftmaxAttention softmax() const {
    return {.q = q_view(),
            .k = k_view(),
            .v = v_view(),
            .scale = scale,
            .query_tokens = tokens,
            .key_tokens = tokens,
            .arithmetic = arithmetic};
  }
  HybridAttention hybrid(Direction direction) const {
    HybridAttention p = with_linear<HybridAttention>();
    p.chunking = chunking();
    p.direction = direction;
    p.stabilizer = stabilizer;
    p.scale = scale;
    p.frames = frames;
    p.arithmetic = arithmetic;
    return p;
  }
  LinearAttention linear(Direction direction) const {
    LinearAttention p = with_linear<LinearAttention>();
    p.chunking = {geometry.tokens_per_frame, geometry.chunk_frames, 0};
    p.direction = direction;
    p.frames = frames;
    return p;
  }
  UniformAttention uniform() const {
    UniformAttention p = with_linear<UniformAttention>();
    p.rate = rate;
    p.stabilizer = stabilizer;
    p.scale = scale;
    p.tokens = tokens;
    p.arithmetic = arithmetic;
    return p;
  }

  /// Calls visit(name, parameters) for every operator.
  template <class F>
  void for_each_operator(F visit) const {
    visit("softmax", softmax());
    visit("hybrid, causal", hybrid(Direction::causal));
    visit("hybrid, bidirectional", hybrid(Direction::bidirectional));
    visit("linear, causal", linear(Direction::causal));
    visit("linear, bidirectional", linear(Direction::bidirectional));
    visit("uniform", uniform());
  }

  RecurrentConfig recurrent(RecurrentSchedule schedule) const {
    const Geometry& g = geometry;
    const bool is_linear = schedule == RecurrentSchedule::linear;
    return {.schedule = schedule,
            .batch = g.batch,
            .heads = g.heads(),
            .kv_heads = g.kv_heads,
            .head_dim = g.dim,
            .value_dim = g.value_dim,
            .chunking = {g.tokens_per_frame, g.chunk_frames, is_linear ? 0 : g.overlap_frames},
            .phi_q = phi_q,
            .phi_k = phi_k,
            .separate_denominator = !given_q_denominator.empty(),
            .stabilizer = is_linear ? Stabilizer::row_max : stabilizer,
            .scale = is_linear ? std::nullopt : scale,
            .arithmetic = is_linear ? Arithmetic::float32 : arithmetic,
            .denominator_epsilon = denominator_epsilon,
            .denominator_floor = denominator_floor};
  }

 private:
  template <class P>
  P with_linear() const {
    P p;
    p.q = q_view(), p.k = k_view(), p.v = v_view();
    p.phi_q = phi_q, p.phi_k = phi_k, p.given = given();
    p.denominator_epsilon = denominator_epsilon, p.denominator_floor = denominator_floor;
    return p;
  }

  void choose(Random& random, Features features) {
    switch (features) {
      case Features::elu1:
        phi_q = phi_k = FeatureMap::elu1();
        return;
      case Features::relu:
        phi_q = phi_k = FeatureMap::relu();
        return;
      case Features::identity:
        phi_q = phi_k = FeatureMap::identity();
        return;
      case Features::polynomial:
        return choose_polynomial(random);
      case Features::given:
      case Features::given_separate:
        return give(random, features == Features::given_separate);
    }
  }

  void choose_polynomial(Random& random) {
    FeatureMapShape shape{.num_layers = static_cast<int>(random.integer(1, 3)),
                          .hidden_dim = random.integer(1, 20),
                          .degree = static_cast<int>(random.integer(1, 4))};
    shape.feature_dim = shape.degree * random.integer(1, 9);
    shape.activation = random.pick({Activation::relu, Activation::gelu, Activation::silu, Activation::elu1});
    shape.output_activation = random.pick({Activation::softplus, Activation::elu1});
    shape.bias = random.coin();
    weights.emplace_back(random, geometry.heads(), geometry.dim, shape);
    weights.emplace_back(random, geometry.kv_heads, geometry.dim, shape);
    phi_q = weights[0].map();
    phi_k = weights[1].map();
  }

  void give(Random& random, bool separate) {
    const std::int64_t width = geometry.given_dim, rows = geometry.batch * geometry.tokens();
    phi_q = phi_k = FeatureMap::given(width);
    const auto draw = [&](std::int64_t num_heads) {
      std::vector<float> values = random.normals(rows * num_heads * width);
      for (float& x : values) x = std::abs(x);
      return values;
    };
    given_q = draw(geometry.heads());
    given_k = draw(geometry.kv_heads);
    if (!separate) return;
    given_q_denominator = draw(geometry.heads());
    given_k_denominator = draw(geometry.kv_heads);
  }
};

/// What outputs hold before a run.
inline constexpr float untouched = -12345.5f;

/// Everything that a run wrote, packed as [batch, token, head, dim].
struct Written {
  std::vector<float> out, row_max, row_sum, linear_denominator;
  DenominatorReport report = {};

  Written(std::int64_t batch, std::int64_t tokens, std::int64_t heads, std::int64_t value_dim)
      : out(static_cast<std::size_t>(batch * tokens * heads * value_dim), untouched),
        row_max(static_cast<std::size_t>(batch * tokens * heads), untouched),
        row_sum(row_max),
        linear_denominator(row_max) {}

  /// Points the outputs of `parameters`, whose q tells the shape, here.
  template <class P>
  void receive(P& parameters) {
    const auto view = [&](std::vector<float>& values, std::int64_t dim) {
      return TensorView<float>::token_major(values.data(), parameters.q.batch, parameters.q.tokens,
                                            parameters.q.heads, dim);
    };
    parameters.out = view(out, parameters.v.dim);
    parameters.statistics = {view(row_max, 1), view(row_sum, 1), view(linear_denominator, 1)};
    parameters.report = &report;
  }
};

/// For EXPECT_TRUE: outputs, statistics and report equal to the bit.
inline testing::AssertionResult bit_equal(const Written& a, const Written& b) {
  const auto field = [&](const char* name, const auto& x, const auto& y) -> testing::AssertionResult {
    const testing::AssertionResult same = bit_equal(std::span<const float>(x), std::span<const float>(y));
    return same ? same : testing::AssertionFailure() << name << ": " << same.message();
  };
  for (const auto& result : {field("out", a.out, b.out), field("row_max", a.row_max, b.row_max),
                             field("row_sum", a.row_sum, b.row_sum),
                             field("linear_denominator", a.linear_denominator, b.linear_denominator)}) {
    if (!result) return result;
  }
  const bool reports = a.report.smallest == b.report.smallest && a.report.nan_count == b.report.nan_count &&
                       a.report.smallest_magnitude == b.report.smallest_magnitude;
  return reports ? testing::AssertionSuccess() : testing::AssertionFailure() << "the reports differ";
}

/// Runs an operator with outputs of its own.
template <class P, class E>
Written evaluate(P parameters, E& executor, const Kernels& kernels) {
  Written written(parameters.q.batch, parameters.q.tokens, parameters.q.heads, parameters.v.dim);
  written.receive(parameters);
  run(parameters, executor, kernels);
  return written;
}

template <class P>
Written evaluate(const P& parameters, const Kernels& kernels) {
  SerialExecutor executor;
  return evaluate(parameters, executor, kernels);
}

}  // namespace rehyat::support
