#pragma once
// Causal hybrid attention over a clip whose frames lie on several ranks.

#include <span>

#include "communication.hpp"
#include "rehyat/recurrent.hpp"
#include "shards.hpp"

namespace rehyat::mpi {

/// The tensors of one rank: q over the hull of its shard and its queries, k and v over that of its shard and
/// its keys, out like q. Before: the shard's q, k, v are there. After: the shard's outputs.
struct RankTensors {
  FrameTensor q, k, v, out;

  RankTensors(const RecurrentConfig& config, const Part& part);
};

/// What a run took on this rank.
struct RankReport {
  Communication bytes = {};
  double seconds = 0;
  double halo_in_flight = 0, halo_waited = 0;
  double prefix_in_flight = 0, prefix_waited = 0;
  double outputs_waited = 0;
};

/// Runs this rank's part of a clip; collective, with the same config and parts on all ranks of `comm`. Equal
/// to hybrid_attention() of the clip in one process up to rounding: the sums are added in another order.
/// Needs the schedule `hybrid` and feature maps that are not `given`. Throws std::runtime_error with the
/// library's message where it refuses something.
RankReport attend(const RecurrentConfig& config, std::span<const Part> parts, RankTensors& tensors,
                  MPI_Comm comm, const Kernels& kernels = default_kernels());

}  // namespace rehyat::mpi
