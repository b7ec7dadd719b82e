// The kernels for training against double, on every instruction set: ragged sizes, strides with gaps, guard
// pages.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "rehyat/train/detail/activation.hpp"
#include "rehyat/train/kernels.hpp"
#include "support/compare.hpp"
#include "support/guard_pages.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"

namespace rehyat {
namespace {

using support::GuardedTensor;
using support::Random;

class TrainingKernelsTest : public support::IsaTest {
 protected:
  const TrainingKernels& training() const { return train::training_kernels(kernels()); }
};

/// A random matrix whose rows have gaps.
struct Guarded {
  std::int64_t rows, columns;
  GuardedTensor tensor;

  Guarded(Random& random, std::int64_t num_rows, std::int64_t num_columns)
      : Guarded(random, num_rows, num_columns, random.pick<std::int64_t>({0, 1, 7, 64})) {}
  Guarded(Random& random, std::int64_t num_rows, std::int64_t num_columns, std::int64_t gap)
      : rows(num_rows), columns(num_columns), tensor(1, rows, 1, columns, {.row_gap = gap}) {
    tensor.assign(random.normals(rows * columns));
  }

  float* data() { return tensor.view().data; }
  std::int64_t stride() { return tensor.view().token_stride; }
  double at(std::int64_t row, std::int64_t column) {
    return static_cast<double>(data()[row * stride() + column]);
  }
};

/// A [rows, columns] operand, stored as it is or by columns.
struct Operand {
  bool transposed;
  Guarded stored;

  Operand(Random& random, std::int64_t rows, std::int64_t columns)
      : transposed(random.coin()), stored(random, transposed ? columns : rows, transposed ? rows : columns) {}

  kernel::MatrixOperand operand() { return {stored.data(), stored.stride(), transposed}; }
  double at(std::int64_t row, std::int64_t column) {
    return transposed ? stored.at(column, row) : stored.at(row, column);
  }
};

/// What a product begins with and is multiplied by.
enum class Begins { with_zero, with_a_row, with_rows, with_itself };

void check_product(const TrainingKernels& kernels, Random& random, Begins begins, bool with_factor) {
  const std::int64_t rows = random.integer(1, 40),
                     columns = random.pick<std::int64_t>({1, 3, 17, 48, 65, 128}),
                     steps = random.pick<std::int64_t>({1, 5, 64, 191, 192, 193, 400});
  SCOPED_TRACE(testing::Message() << rows << " x " << steps << " x " << columns);
  Operand left(random, rows, steps), right(random, steps, columns);
  Guarded to(random, rows, columns), start(random, begins == Begins::with_a_row ? 1 : rows, columns),
      factor(random, rows, columns);
  kernel::ProductTask task{.to = to.data(),
                           .to_stride = to.stride(),
                           .rows = rows,
                           .columns = columns,
                           .steps = steps,
                           .left = left.operand(),
                           .right = right.operand()};
  if (begins == Begins::with_itself) task.start = to.data(), task.start_stride = to.stride();
  if (begins == Begins::with_a_row) task.start = start.data(), task.start_stride = 0;
  if (begins == Begins::with_rows) task.start = start.data(), task.start_stride = start.stride();
  if (with_factor) task.factor = factor.data(), task.factor_stride = factor.stride();

  std::vector<double> expected, bound;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      double sum = begins == Begins::with_zero     ? 0
                   : begins == Begins::with_itself ? to.at(i, j)
                                                   : start.at(begins == Begins::with_a_row ? 0 : i, j);
      double size = std::abs(sum);
      for (std::int64_t s = 0; s < steps; ++s) {
        sum += left.at(i, s) * right.at(s, j);
        size += std::abs(left.at(i, s) * right.at(s, j));
      }
      const double times = with_factor ? factor.at(i, j) : 1;
      expected.push_back(sum * times);
      bound.push_back(static_cast<double>(2 * steps + 4) * 0x1p-24 * size * std::abs(times));
    }
  }
  for (GuardedTensor* input : {&left.stored.tensor, &right.stored.tensor, &start.tensor, &factor.tensor}) {
    input->make_read_only();
  }
  kernels.multiply(task);
  EXPECT_TRUE(to.tensor.gaps_untouched());
  for (std::int64_t i = 0, n = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j, ++n) {
      ASSERT_NEAR(to.at(i, j), expected[static_cast<std::size_t>(n)], bound[static_cast<std::size_t>(n)])
          << i << ", " << j;
    }
  }
}

TEST_P(TrainingKernelsTest, MultiplyIsAProduct) {
  for (const std::uint64_t seed : support::seeds(40)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    for (const Begins begins :
         {Begins::with_zero, Begins::with_a_row, Begins::with_rows, Begins::with_itself}) {
      check_product(training(), random, begins, random.coin());
    }
  }
}

TEST_P(TrainingKernelsTest, AColumnSumIsAProductWithAOneThatIsReadInEveryStep) {
  Random random(1);
  Guarded rows(random, 200, 37), to(random, 1, 37);
  constexpr float one = 1;
  training().multiply({.to = to.data(),
                       .to_stride = to.stride(),
                       .rows = 1,
                       .columns = 37,
                       .steps = 200,
                       .left = {&one, 0, true},
                       .right = {rows.data(), rows.stride(), false}});
  for (std::int64_t j = 0; j < 37; ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < 200; ++i) sum += rows.at(i, j);
    EXPECT_NEAR(to.at(0, j), sum, 1e-4);
  }
}

constexpr Activation activations[] = {Activation::identity, Activation::relu,     Activation::gelu,
                                      Activation::silu,     Activation::softplus, Activation::elu1};

/// In place of what they are derivatives at, as training has it.
TEST_P(TrainingKernelsTest, ActivateGivesPowersAndTheirDerivatives) {
  for (const Activation activation : activations) {
    for (int degree = 1; degree <= 4; ++degree) {
      Random random(static_cast<std::uint64_t>(degree));
      const std::int64_t rows = random.integer(1, 9), part = random.pick<std::int64_t>({1, 5, 16, 35}),
                         columns = degree * part;
      SCOPED_TRACE(testing::Message() << "activation " << static_cast<int>(activation) << ", degree "
                                      << degree << ", " << rows << " x " << columns);
      Guarded features(random, rows, columns, 0), slopes(random, rows, columns, 0);
      std::vector<float> before = random.normals(rows * columns, 4);
      before[0] = 0;
      slopes.tensor.assign(before);
      training().activate({.before = slopes.data(),
                           .features = features.data(),
                           .slopes = slopes.data(),
                           .rows = rows,
                           .columns = columns,
                           .activation = activation,
                           .degree = degree});
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
          const double x = static_cast<double>(before[static_cast<std::size_t>(i * columns + j)]);
          const double y = train::detail::activate(activation, x), power = static_cast<double>(j / part) + 1;
          const double slope = power * std::pow(y, power - 1) * train::detail::derivative(activation, x);
          // gelu's error grows with the exponent; and double's cancels where little is left
          const double allowed = 2e-6 * (1 + x * x / 4) * std::pow(std::abs(y), power) + 1e-14;
          ASSERT_NEAR(features.at(i, j), std::pow(y, power), allowed) << x;
          ASSERT_NEAR(slopes.at(i, j), slope, 4e-6 * power * std::pow(std::max(std::abs(y), 0.1), power - 1))
              << x;
        }
      }
      EXPECT_TRUE(features.tensor.gaps_untouched() && slopes.tensor.gaps_untouched());
    }
  }
}

TEST_P(TrainingKernelsTest, ActivateWithoutSlopesGivesTheSameFeatures) {
  for (const Activation activation : activations) {
    Random random(3);
    Guarded before(random, 5, 38, 0), features(random, 5, 38, 0), alone(random, 5, 38, 0),
        slopes(random, 5, 38, 0);
    kernel::ActivationTask task{.before = before.data(),
                                .features = features.data(),
                                .slopes = slopes.data(),
                                .rows = 5,
                                .columns = 38,
                                .activation = activation,
                                .degree = 2};
    before.tensor.make_read_only();
    training().activate(task);
    task.features = alone.data(), task.slopes = nullptr;
    training().activate(task);
    EXPECT_TRUE(support::bit_equal(features.tensor.packed(), alone.tensor.packed()));
  }
}

TEST_P(TrainingKernelsTest, DistanceAndItsDerivative) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const std::int64_t rows = random.integer(1, 9),
                       channels = random.pick<std::int64_t>({1, 7, 16, 40, 64, 65});
    Guarded joint(random, rows, channels + 1, 0), teacher(random, rows, channels, 0),
        d_joint(random, rows, channels + 1, 0);
    for (std::int64_t i = 0; i < rows; ++i) {  // a denominator
      float& sum = joint.data()[i * (channels + 1) + channels];
      sum = 1 + std::abs(sum);
    }
    joint.data()[0] = teacher.data()[0] = 0;  // equal: the derivative of the magnitude is 0
    for (const bool squares : {false, true}) {
      kernel::DistanceTask task{.joint = joint.data(),
                                .teacher = teacher.data(),
                                .rows = rows,
                                .channels = channels,
                                .squares = squares,
                                .d_joint = d_joint.data()};
      const kernel::Distance with_derivative = training().distance(task);
      task.d_joint = nullptr;
      const kernel::Distance alone = training().distance(task);
      double difference = 0, size = 0;
      for (std::int64_t i = 0; i < rows; ++i) {
        const double sum = joint.at(i, channels);
        double along = 0, magnitude = 0;
        for (std::int64_t c = 0; c < channels; ++c) {
          const double y = joint.at(i, c) / sum, e = y - teacher.at(i, c);
          const double d = squares ? 2 * e : static_cast<double>((e > 0) - (e < 0));
          difference += squares ? e * e : std::abs(e);
          size += squares ? std::pow(teacher.at(i, c), 2) : std::abs(teacher.at(i, c));
          along += d * y / sum, magnitude += std::abs(d * y / sum);
          ASSERT_NEAR(d_joint.at(i, c), d / sum, 1e-6 * (1 + std::abs(y) + std::abs(e)));
        }
        ASSERT_NEAR(d_joint.at(i, channels), -along, 1e-5 * magnitude);
      }
      EXPECT_NEAR(with_derivative.difference, difference, 1e-5 * difference);
      EXPECT_NEAR(with_derivative.size, size, 1e-5 * size);
      EXPECT_EQ(with_derivative.difference, alone.difference);
      EXPECT_EQ(with_derivative.size, alone.size);
    }
    EXPECT_TRUE(d_joint.tensor.gaps_untouched());
  }
}

REHYAT_TEST_ALL_ISAS(TrainingKernelsTest);

}  // namespace
}  // namespace rehyat
