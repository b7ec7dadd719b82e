#pragma once
// Block sizes, each with its arithmetic. Chosen by ISA alone: geometry decides how many blocks there are,
// never how a sum inside one is ordered.

#include "rehyat/kernel/arch.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// The register tile: `rows` broadcast scalars against `vectors` vectors, rows * vectors accumulators.
///
/// Per step it loads `vectors` vectors and `rows` broadcasts for rows * vectors FMAs. Two FMA pipes of
/// latency 4 need 8 accumulators in flight; two load ports must not fall behind the two FMA pipes, hence rows
/// + vectors <= rows * vectors. AVX-512 and NEON, 32 registers: 8 x 3 = 24 accumulators + 3 vectors +
/// broadcasts; 11 loads to 24 FMAs. AVX2, 16 registers: 4 x 3 = 12 accumulators + 3 vectors + 1 broadcast; 7
/// loads to 12 FMAs. Scalar (16 registers on x86): the AVX2 shape.
struct TileShape {
#if defined(REHYAT_KERNEL_ISA_AVX512) || defined(REHYAT_KERNEL_ISA_NEON)
  static constexpr int rows = 8;
  static constexpr int vectors = 3;
#else
  static constexpr int rows = 4;
  static constexpr int vectors = 3;
#endif
};

using V = Vec<NativeArch>;

/// C vectors: one row of a tile.
template <int C>
using Lanes = V[static_cast<std::size_t>(C)];

/// Queries (or tokens) of a block: the width of the tile. AVX-512 48, AVX2 24, NEON 12, scalar 3.
inline constexpr int64_t query_block = TileShape::vectors * V::lanes;

/// Keys of a block. With AVX-512 and D = Dv = 128 a block's scores take 128 * 48 * 4 = 24 KB, as much as the
/// packed queries (128 * 48 * 4) or the accumulators: two of the three are in use at a time and fill a 48 KB
/// L1. A key block of K and V is 2 * 128 * 128 * 4 = 128 KB, in L2, read by all query blocks of the group;
/// rescaling the accumulators costs 1 multiplication for 128 FMAs.
inline constexpr int64_t key_block = 128;

/// Tokens whose features are made at once by absorb: their update of A (read and written once per token
/// block, from L2) is amortised over 192 FMAs an element, and they take 192 * 256 * 4 = 192 KB at F = 256,
/// within L2.
inline constexpr int64_t absorb_block = 192 / query_block * query_block;

REHYAT_END_ISA_NAMESPACE
