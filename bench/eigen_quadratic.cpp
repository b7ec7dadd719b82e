// Compiled once per instruction set, with its flags and BENCH_ISA = its name. Eigen's templates must then not
// be merged by the linker, which would keep one set's code for all: the namespace is named after the
// instruction set.

#define BENCH_JOIN_NAMES(a, b) a##b
#define BENCH_JOIN(a, b) BENCH_JOIN_NAMES(a, b)
#define Eigen BENCH_JOIN(eigen_for_, BENCH_ISA)

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // GCC 12's own AVX-512 intrinsics, wherever they are inlined
#endif

#include "eigen_quadratic.hpp"

#include <Eigen/Core>

namespace rehyat::bench {

void BENCH_JOIN(eigen_quadratic_, BENCH_ISA)(const QuadraticHead& head) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Matrix> q(head.q, head.tokens, head.head_dim);
  const Eigen::Map<const Matrix> k(head.k, head.tokens, head.head_dim);
  const Eigen::Map<const Matrix> v(head.v, head.tokens, head.value_dim);
  Eigen::Map<Matrix> out(head.out, head.tokens, head.value_dim);
  Eigen::Map<Matrix> weights(head.weights, head.tokens, head.tokens);

  weights.noalias() = q * k.transpose();
  for (Eigen::Index i = 0; i < head.tokens; ++i) {
    auto row = weights.row(i);
    row = ((row.array() - row.maxCoeff()) * head.scale).exp();
    row /= row.sum();
  }
  out.noalias() = weights * v;
}

}  // namespace rehyat::bench
