// The distance that distillation makes smaller, and its gradient: against hybrid attention and its gradients,
// and against differences, in double; and by the kernels of every instruction set.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "rehyat/train/detail/kernel_algebra.hpp"
#include "rehyat/train/detail/student.hpp"
#include "rehyat/train/detail/weights.hpp"
#include "rehyat/train/kernels.hpp"
#include "support/compare.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/real_clip.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::RealClip;
using support::TestClip;
using train::DistillationError;
using train::DistillationLoss;
using train::PhiGradient;
using train::detail::ChunkTokens;
using train::detail::Cut;
using train::detail::HeadClip;
using train::detail::Student;
using train::detail::Targets;

/// A whole array of weights' gradients.
template <class Real>
struct FlatGradient {
  std::vector<Real> values;
  PhiGradient<Real> arrays;

  FlatGradient(const train::Phi<Real>& phi, std::int64_t head_dim) {
    const auto has_bias = train::detail::biases(phi);
    values.resize(
        static_cast<std::size_t>(train::detail::cut<Real>(phi.map, head_dim, has_bias, nullptr, arrays)));
    train::detail::cut(phi.map, head_dim, has_bias, values.data(), arrays);
  }
};

/// Part of a random clip as distillation sees it, with random teachers: the gradient does not ask where they
/// are from.
template <class Real>
class StudentProblem {
 public:
  explicit StudentProblem(Random& random)
      : clip_(random, geometry(random), Features::polynomial), real_(clip_, Direction::causal) {
    const Geometry& g = clip_.geometry;
    cut_.chunking = clip_.chunking();
    cut_.frames = {random.integer(0, 1), g.frames - random.integer(0, 1)};
    cut_.first_query = random.integer(0, g.frames - 1);
    pack();
    for (std::int64_t h = 0; h < g.heads(); ++h) add_targets(random, h);
    chunks_ = cut_.scored_chunks();
  }

  RealClip<Real>& real() { return real_; }
  const std::vector<std::int64_t>& chunks() const { return chunks_; }
  const train::Phi<Real> phi_q() const { return real_.parameters().phi_q; }
  const train::Phi<Real> phi_k() const { return real_.parameters().phi_k; }
  std::int64_t head_dim() const { return clip_.geometry.dim; }

  template <class Algebra = train::detail::EigenAlgebra<Real>>
  DistillationError sweep(std::span<const std::int64_t> chunks, DistillationLoss loss,
                          const PhiGradient<Real>& d_phi_q = {}, const PhiGradient<Real>& d_phi_k = {},
                          const Algebra& algebra = {}) const {
    const train::Phi<Real> q = phi_q(), k = phi_k();
    const train::detail::StudentSize size{clip_.geometry.dim, clip_.geometry.value_dim, cut_.linear_keys(),
                                          cut_.chunks()};
    train::detail::Arena measure;
    using OfAlgebra = Student<Real, Algebra>;
    OfAlgebra(q, k, size, measure, algebra);
    support::NanWorkspace workspace(measure.size());
    train::detail::Arena arena(workspace.get());
    std::vector<Targets<Real>> targets;
    for (std::size_t h = 0; h < softmax_.size(); ++h) {
      targets.push_back({cut_.scored().begin, softmax_[h].data(), teacher_[h].data()});
    }
    const HeadClip<Real> packed{q_.data(), k_.data(), values_.data(), clip_.geometry.tokens()};
    return OfAlgebra(q, k, size, arena, algebra)
        .sweep(packed, cut_, targets.data(), chunks, loss, d_phi_q, d_phi_k);
  }

  /// The same by the operators for training: the distance, and its gradient in real().gradients().
  DistillationError by_hybrid_attention(DistillationLoss loss) {
    const std::int64_t m = clip_.geometry.tokens_per_frame, channels = clip_.geometry.value_dim;
    train::HybridAttention<Real> p = real_.parameters();
    for (auto* view : {&p.q, &p.k, &p.v}) {
      *view = view->slice_tokens(cut_.frames.begin * m, cut_.frames.size() * m);
    }
    std::vector<Real> memory = real_.empty_output(), d_memory(memory.size());
    const auto view = [&](std::vector<Real>& values) {
      return real_.output_view(values).slice_tokens(cut_.frames.begin * m, p.q.tokens);
    };
    const TensorView<Real> out = view(memory), d_out = view(d_memory);
    SerialExecutor serial;
    train::HybridGradients<Real> d;
    d.phi_q = real_.gradients().phi_q, d.phi_k = real_.gradients().phi_k;
    support::NanWorkspace workspace(*train::workspace_size(p, d, 1));
    EXPECT_TRUE(train::hybrid_attention(p, out, workspace.get(), serial).ok());
    DistillationError error;
    const Range scored = cut_.scored();
    for (std::int64_t h = 0; h < out.heads; ++h) {
      for (std::int64_t i = scored.begin; i < scored.end; ++i) {
        const Real* const teacher =
            teacher_[static_cast<std::size_t>(h)].data() + (i - scored.begin) * channels;
        const Real* const y = real_.output_view(memory).row(0, i, h);
        Real* const d_y = real_.output_view(d_memory).row(0, i, h);
        for (std::int64_t c = 0; c < channels; ++c) {
          const double e = y[c] - teacher[c];
          const bool l1 = loss == DistillationLoss::l1;
          error.difference += l1 ? std::abs(e) : e * e;
          error.size += l1 ? std::abs(teacher[c]) : teacher[c] * teacher[c];
          d_y[c] = l1 ? std::copysign(1.0, e) : 2 * e;
        }
      }
    }
    EXPECT_TRUE(train::hybrid_attention_gradients(p, d_out, d, workspace.get(), serial).ok());
    return error;
  }

 private:
  static Geometry geometry(Random& random) {
    return {.frames = random.integer(3, 8),
            .tokens_per_frame = random.pick<std::int64_t>({1, 3, 40, 130}),
            .chunk_frames = random.integer(1, 3),
            .overlap_frames = random.integer(0, 2),
            .heads_per_kv = random.integer(1, 2),
            .dim = random.pick<std::int64_t>({1, 5, 8}),
            .value_dim = random.pick<std::int64_t>({1, 7, 12})};
  }

  void pack() {
    const Geometry& g = clip_.geometry;
    for (std::int64_t h = 0; h < g.heads(); ++h) {
      for (std::int64_t i = 0; i < g.tokens(); ++i) {
        const float* const row = clip_.q_view().row(0, i, h);
        q_.insert(q_.end(), row, row + g.dim);
      }
    }
    k_.assign(clip_.k.begin(), clip_.k.end());
    for (std::int64_t i = 0; i < g.tokens(); ++i) {
      const float* const row = clip_.v_view().row(0, i, 0);
      values_.insert(values_.end(), row, row + g.value_dim);
      values_.push_back(1);
    }
  }

  /// The softmax branch of head h by its definition, and a teacher.
  void add_targets(Random& random, std::int64_t h) {
    const Geometry& g = clip_.geometry;
    const auto width = static_cast<std::size_t>(g.value_dim + 1);
    softmax_.emplace_back();
    for (std::int64_t t = 0; t < cut_.chunks(); ++t) {
      const ChunkTokens at = cut_.chunk(t);
      for (std::int64_t i = at.queries.begin; i < at.queries.end; ++i) {
        std::vector<double> scores, sums(width);
        for (std::int64_t j = at.softmax.begin; j < at.softmax.end; ++j) {
          double score = 0;
          for (std::int64_t c = 0; c < g.dim; ++c) {
            score += q_[static_cast<std::size_t>((h * g.tokens() + i) * g.dim + c)] *
                     k_[static_cast<std::size_t>(j * g.dim + c)];
          }
          scores.push_back(score / std::sqrt(static_cast<double>(g.dim)));
        }
        const double row_max = *std::max_element(scores.begin(), scores.end());
        for (std::size_t j = 0; j < scores.size(); ++j) {
          const double weight = std::exp(scores[j] - row_max);
          const Real* const value = values_.data() + (static_cast<std::size_t>(at.softmax.begin) + j) * width;
          for (std::size_t c = 0; c < width; ++c) sums[c] += weight * value[c];
        }
        softmax_.back().insert(softmax_.back().end(), sums.begin(), sums.end());
      }
    }
    const std::vector<float> teacher = random.normals(cut_.scored().size() * g.value_dim);
    teacher_.emplace_back(teacher.begin(), teacher.end());
  }

  TestClip clip_;
  RealClip<Real> real_;
  Cut cut_;
  std::vector<std::int64_t> chunks_;
  std::vector<Real> q_, k_, values_;
  std::vector<std::vector<Real>> softmax_, teacher_;
};

TEST(DistillationGradientTest, IsThatOfHybridAttention) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    StudentProblem<double> problem(random);
    for (const DistillationLoss loss : {DistillationLoss::l1, DistillationLoss::l2}) {
      FlatGradient<double> d_phi_q(problem.phi_q(), problem.head_dim()),
          d_phi_k(problem.phi_k(), problem.head_dim());
      const DistillationError error = problem.sweep(problem.chunks(), loss, d_phi_q.arrays, d_phi_k.arrays);
      const DistillationError expected = problem.by_hybrid_attention(loss);
      EXPECT_NEAR(error.difference, expected.difference, 1e-10 * expected.difference);
      EXPECT_NEAR(error.size, expected.size, 1e-10 * expected.size);
      std::vector<double> by_operators;
      for (const auto& x : problem.real().all()) {
        if (std::string(x.name).starts_with("phi")) {
          by_operators.insert(by_operators.end(), x.gradient->begin(), x.gradient->end());
        }
      }
      std::vector<double> gradient = d_phi_q.values;
      gradient.insert(gradient.end(), d_phi_k.values.begin(), d_phi_k.values.end());
      EXPECT_LT(support::relative_error(gradient, by_operators), 1e-9);
    }
  }
}

/// Along random directions, for some of the chunks.
TEST(DistillationGradientTest, IsADifferenceOfDistances) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    StudentProblem<double> problem(random);
    std::vector<std::int64_t> chunks;
    for (const std::int64_t t : problem.chunks()) {
      if (random.coin()) chunks.push_back(t);
    }
    for (const DistillationLoss loss : {DistillationLoss::l1, DistillationLoss::l2}) {
      FlatGradient<double> d_phi_q(problem.phi_q(), problem.head_dim()),
          d_phi_k(problem.phi_k(), problem.head_dim());
      problem.sweep(chunks, loss, d_phi_q.arrays, d_phi_k.arrays);
      double derivative = 0;
      std::vector<std::vector<double>> before, along;
      std::vector<double> gradient = d_phi_q.values;
      gradient.insert(gradient.end(), d_phi_k.values.begin(), d_phi_k.values.end());
      std::size_t next = 0;
      for (const auto& x : problem.real().all()) {
        if (!std::string(x.name).starts_with("phi")) continue;
        before.push_back(*x.values);
        along.emplace_back();
        for (std::size_t i = 0; i < x.values->size(); ++i) {
          along.back().push_back(random.normal());
          derivative += along.back().back() * gradient[next++];
        }
      }
      constexpr double step = 1e-6;
      const auto distance = [&](double sign) {
        std::size_t n = 0;
        for (const auto& x : problem.real().all()) {
          if (!std::string(x.name).starts_with("phi")) continue;
          for (std::size_t i = 0; i < x.values->size(); ++i) {
            (*x.values)[i] = before[n][i] + sign * step * along[n][i];
          }
          ++n;
        }
        return problem.sweep(chunks, loss).difference;
      };
      const double difference = (distance(1) - distance(-1)) / (2 * step);
      distance(0);
      // where a channel crosses its teacher inside the step, the magnitude has a corner
      EXPECT_NEAR(derivative, difference, 1e-4 * std::max(1.0, std::abs(difference)));
    }
  }
}

TEST(DistillationGradientTest, ChunksAddUp) {
  for (const std::uint64_t seed : support::seeds(10)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const StudentProblem<double> problem(random);
    DistillationError sum;
    for (const std::int64_t t : problem.chunks()) {
      const DistillationError error = problem.sweep({&t, 1}, DistillationLoss::l1);
      sum.difference += error.difference, sum.size += error.size;
    }
    const DistillationError all = problem.sweep(problem.chunks(), DistillationLoss::l1);
    EXPECT_NEAR(sum.difference, all.difference, 1e-10 * all.difference);
    EXPECT_NEAR(sum.size, all.size, 1e-10 * all.size);
  }
}

class DistillationKernelsTest : public support::IsaTest {};

TEST_P(DistillationKernelsTest, GiveTheGradientInFloat) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed), same(seed);
    const StudentProblem<double> exact(random);
    const StudentProblem<float> problem(same);
    for (const DistillationLoss loss : {DistillationLoss::l1, DistillationLoss::l2}) {
      FlatGradient<double> expected_q(exact.phi_q(), exact.head_dim()),
          expected_k(exact.phi_k(), exact.head_dim());
      const DistillationError expected =
          exact.sweep(exact.chunks(), loss, expected_q.arrays, expected_k.arrays);
      FlatGradient<float> d_phi_q(problem.phi_q(), problem.head_dim()),
          d_phi_k(problem.phi_k(), problem.head_dim());
      const train::detail::KernelAlgebra algebra(train::training_kernels(kernels()));
      const DistillationError error =
          problem.sweep(problem.chunks(), loss, d_phi_q.arrays, d_phi_k.arrays, algebra);
      EXPECT_NEAR(error.difference, expected.difference, 1e-5 * expected.difference);
      EXPECT_NEAR(error.size, expected.size, 1e-5 * expected.size);
      EXPECT_LT(support::relative_error(d_phi_q.values, expected_q.values), 1e-4);
      EXPECT_LT(support::relative_error(d_phi_k.values, expected_k.values), 1e-4);
      const DistillationError alone = problem.sweep(problem.chunks(), loss, {}, {}, algebra);
      EXPECT_EQ(alone.difference, error.difference);
    }
  }
}

REHYAT_TEST_ALL_ISAS(DistillationKernelsTest);

}  // namespace
}  // namespace rehyat
