// The linear branch of Arithmetic::int8 and float16, one task of a primitive at a time: against the
// definition of int8, and near float32.

#include <gtest/gtest.h>

#include "reference/plain_int8_linear.hpp"
#include "rehyat/arithmetic.hpp"
#include "rehyat/detail/problem.hpp"
#include "rehyat/packed_weights.hpp"
#include "support/narrow_modes.hpp"
#include "support/random.hpp"
#include "support/random_feature_map.hpp"

namespace rehyat {
namespace {

using reference::Array;
using reference::Index;
using reference::Matrix;
using support::Random;

/// A byte that rounds the other way is off by 1/127 of its row's largest, and the rounding of bytes in a
/// layer turns over some of the next.
constexpr double turned_bytes = 2.5e-3;

double distance(const Matrix& x, const Matrix& y) { return (x - y).norm() / y.norm(); }

/// One head's task.
struct Task {
  Task(Random& random, std::int64_t tokens_, std::int64_t dim, std::int64_t value_dim,
       Activation activation = Activation::silu, Activation output_activation = Activation::elu1)
      : tokens(tokens_),
        layers(static_cast<int>(random.integer(1, 3))),
        map(random, 1, dim,
            {.num_layers = layers,
             .hidden_dim = random.integer(1, 70),
             .feature_dim = 2 * random.integer(1, 90),
             .activation = activation,
             .output_activation = output_activation,
             .bias = random.integer(0, 1) == 1}),
        k(random.normals(tokens * stride_of(dim))),
        v(random.normals(tokens * value_dim)),
        dims(detail::dims_of(dim, value_dim, &map.map(), &map.map())) {}

  static std::int64_t stride_of(std::int64_t dim) { return dim + 3; }
  kernel::HeadRows keys() const { return {k.data(), ElementType::float32, stride_of(dims.head_dim)}; }
  kernel::HeadRows values() const { return {v.data(), ElementType::float32, dims.value_dim}; }

  /// Features of all tokens, in bytes and by the map's own definition.
  Matrix features(bool bytes) const {
    Array<double> x(tokens, 1, dims.head_dim);
    for (Index i = 0; i < tokens; ++i) {
      for (Index d = 0; d < dims.head_dim; ++d) {
        x.row(i, 0)[d] = k[static_cast<std::size_t>(i * stride_of(dims.head_dim) + d)];
      }
    }
    return reference::head_matrix(
        bytes ? reference::int8_features(x, map.map(), {}) : reference::features(x, map.map(), {}), 0);
  }
  Matrix value_matrix() const {
    return Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(v.data(), tokens, dims.value_dim)
        .cast<double>();
  }

  std::int64_t tokens;
  int layers;
  support::RandomFeatureMap map;
  std::vector<float> k, v;
  kernel::Dims dims;
};

/// Of the sums and their read against double: bytes, and halves.
double allowed(Arithmetic mode) { return mode == Arithmetic::int8 ? 3e-2 : 3e-3; }

class NarrowLinearTest : public support::NarrowModesTest {
 protected:
  const Kernels& in(Arithmetic mode) const { return *kernels_in(kernels(), mode); }

  static std::vector<float> scratch(const Kernels& kernels, const kernel::Dims& dims, std::int64_t blocks) {
    return std::vector<float>(static_cast<std::size_t>(kernels.scratch_size(dims, blocks)), NAN);
  }

  /// A and z.
  static std::vector<float> absorb(const Kernels& kernels, const Task& t, const FeatureMap& map) {
    std::vector<float> sums(static_cast<std::size_t>(kernel::sums_size(t.dims)), NAN),
        memory = scratch(kernels, t.dims, 0);
    kernels.absorb({.dims = t.dims,
                    .k = t.keys(),
                    .v = t.values(),
                    .count = t.tokens,
                    .phi_k = &map,
                    .sums = sums.data(),
                    .scratch = memory.data()});
    return sums;
  }
};

Matrix sums_matrix(const std::vector<float>& sums, const kernel::Dims& d) {
  const Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>> all(sums.data(), d.feature_dim,
                                                                            kernel::padded(d.value_dim));
  EXPECT_EQ(all.rightCols(all.cols() - d.value_dim).cwiseAbs().sum(), 0.0f) << "the padding is zero";
  return all.leftCols(d.value_dim).cast<double>();
}

TEST_P(NarrowLinearTest, Absorb) {
  for_each_mode([&](Arithmetic mode) {
    for (const std::uint64_t seed : support::seeds(40)) {
      SCOPED_TRACE(support::replay(seed));
      Random random(seed);
      const Task t(random, random.integer(1, 500), random.integer(1, 130), random.integer(1, 70));
      const std::vector<float> sums = absorb(in(mode), t, t.map.map());
      const Matrix phi = t.features(true), v = t.value_matrix();
      if (mode == Arithmetic::int8) {
        EXPECT_LE(distance(sums_matrix(sums, t.dims), reference::int8_update(phi, v)), turned_bytes);
      }
      const Matrix exact = t.features(false);
      EXPECT_LE(distance(sums_matrix(sums, t.dims), exact.transpose() * v), allowed(mode));
      const Eigen::Map<const Eigen::VectorXf> z(
          sums.data() + t.dims.feature_dim * kernel::padded(t.dims.value_dim), t.dims.feature_dim);
      const Matrix& features = mode == Arithmetic::int8 ? phi : exact;
      EXPECT_LE(distance(z.cast<double>(), features.colwise().sum().transpose()), turned_bytes);
    }
  });
}

/// Packed weights become the same bytes.
TEST_P(NarrowLinearTest, PackedWeights) {
  for_each_mode([&](Arithmetic mode) {
    for (const std::uint64_t seed : support::seeds(10)) {
      SCOPED_TRACE(support::replay(seed));
      Random random(seed);
      const Task t(random, 60, random.integer(1, 130), 20);
      std::vector<char> memory(*packed_weights_size(t.map.map(), t.dims.head_dim));
      const FeatureMap packed = *pack_weights(t.map.map(), t.dims.head_dim, {memory.data(), memory.size()});
      EXPECT_EQ(absorb(in(mode), t, packed), absorb(in(mode), t, t.map.map()));
    }
  });
}

TEST_P(NarrowLinearTest, Read) {
  for_each_mode([&](Arithmetic mode) {
    for (const std::uint64_t seed : support::seeds(40)) {
      SCOPED_TRACE(support::replay(seed));
      Random random(seed);
      const Task t(random, random.integer(1, 200), random.integer(1, 130), random.integer(1, 70));
      const kernel::Dims& d = t.dims;
      // sums of rows as different as features of a low and of a high power
      Matrix sums(d.feature_dim, d.value_dim);
      std::vector<float> padded_sums(static_cast<std::size_t>(kernel::sums_size(d)));
      for (Index f = 0; f < d.feature_dim; ++f) {
        const auto size = static_cast<float>(std::exp(2 * random.normal()));
        for (Index i = 0; i < d.value_dim; ++i) {
          const float x = size * static_cast<float>(random.normal() + 0.3);
          padded_sums[static_cast<std::size_t>(f * kernel::padded(d.value_dim) + i)] = x;
          sums(f, i) = x;
        }
        padded_sums[static_cast<std::size_t>(d.feature_dim * kernel::padded(d.value_dim) + f)] = size;
      }
      const std::int64_t blocks = (t.tokens + in(mode).query_block - 1) / in(mode).query_block;
      std::vector<float> out(static_cast<std::size_t>(t.tokens * d.value_dim)),
          memory = scratch(in(mode), d, blocks);
      std::vector<float> denominators(static_cast<std::size_t>(t.tokens));
      DenominatorReport report;
      const kernel::AttendTask task{.dims = d,
                                    .q = {t.k.data(), ElementType::float32, Task::stride_of(d.head_dim), 0},
                                    .out = {out.data(), ElementType::float32, d.value_dim, 0},
                                    .linear_denominator = {denominators.data(), 1, 0},
                                    .query_count = t.tokens,
                                    .end_block = blocks,
                                    .sums = padded_sums.data(),
                                    .phi_q = &t.map.map(),
                                    .score_scale = 1,
                                    .report = &report,
                                    .scratch = memory.data()};
      in(mode).attend(task);
      Matrix numerators(t.tokens, d.value_dim);
      for (Index i = 0; i < t.tokens; ++i) {
        for (Index j = 0; j < d.value_dim; ++j) {
          numerators(i, j) = static_cast<double>(out[static_cast<std::size_t>(i * d.value_dim + j)]) *
                             static_cast<double>(denominators[static_cast<std::size_t>(i)]);
        }
      }
      if (mode == Arithmetic::int8) {
        EXPECT_LE(distance(numerators, reference::int8_read(t.features(true), sums)), turned_bytes);
      }
      EXPECT_LE(distance(numerators, t.features(false) * sums), allowed(mode));
    }
  });
}

REHYAT_TEST_ALL_ISAS(NarrowLinearTest);

}  // namespace
}  // namespace rehyat
