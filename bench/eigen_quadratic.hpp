#pragma once
// Plain quadratic attention on Eigen, float32: what one writes first. Stores the N x N weights of a head.

#include <cstdint>

#include "rehyat/kernel/kernel_table.hpp"

namespace rehyat::bench {

/// One head: q, k [tokens, head_dim] and v, out [tokens, value_dim], packed row by row.
struct QuadraticHead {
  const float* q;
  const float* k;
  const float* v;
  float* out;
  std::int64_t tokens, head_dim, value_dim;
  float scale;
  float* weights;  ///< tokens * tokens floats of scratch
};

/// out = softmax(scale q k^T) v, compiled with the flags of one instruction set each; scalar: without Eigen's
/// vector code.
void eigen_quadratic_scalar(const QuadraticHead& head);
void eigen_quadratic_avx2(const QuadraticHead& head);
void eigen_quadratic_avx512(const QuadraticHead& head);
void eigen_quadratic_neon(const QuadraticHead& head);

/// The one for an instruction set that is built in.
inline auto* eigen_quadratic(Isa isa) {
  switch (isa) {
#ifdef REHYAT_DISPATCH_AVX2
    case Isa::avx2:
      return &eigen_quadratic_avx2;
#endif
#ifdef REHYAT_DISPATCH_AVX512
    case Isa::avx512:
      return &eigen_quadratic_avx512;
#endif
#ifdef REHYAT_DISPATCH_NEON
    case Isa::neon:
      return &eigen_quadratic_neon;
#endif
    default:
      return &eigen_quadratic_scalar;
  }
}

}  // namespace rehyat::bench
