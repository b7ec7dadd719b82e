// Every rank runs the same random clips; together they must give what one process gives, within the published
// bound.

#include "attention.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "support/all_results.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat::mpi {
namespace {

using support::Features;
using support::Geometry;
using support::Random;
using support::TestClip;

int number_of(int (*count)(MPI_Comm, int*)) {
  int n = 0;
  count(MPI_COMM_WORLD, &n);
  return n;
}

/// Shards that follow each other, of any length and sometimes empty.
std::vector<Range> random_shards(Random& random, std::int64_t frames, std::int64_t ranks) {
  if (random.coin()) return even_shards(frames, ranks);
  std::vector<std::int64_t> cuts{0, frames};
  for (std::int64_t r = 1; r < ranks; ++r) cuts.push_back(random.integer(0, frames));
  std::sort(cuts.begin(), cuts.end());
  std::vector<Range> shards;
  for (std::size_t r = 0; r + 1 < cuts.size(); ++r) shards.push_back({cuts[r], cuts[r + 1]});
  return shards;
}

/// Copies frames between a clip [batch, token, head, dim] and a tensor of frames.
void copy_frames(FrameTensor& tensor, const Range& frames, std::vector<float>& clip, bool to_clip) {
  const std::int64_t m = tensor.tokens_per_frame, row = tensor.heads * tensor.dim,
                     tokens = static_cast<std::int64_t>(clip.size()) / tensor.batch / row;
  for (std::int64_t b = 0; b < tensor.batch; ++b) {
    for (std::int64_t i = frames.begin * m; i < frames.end * m; ++i) {
      float* here = tensor.at(i / m) + (i % m * tensor.batch + b) * row;
      float* there = clip.data() + (b * tokens + i) * row;
      std::copy_n(to_clip ? here : there, row, to_clip ? there : here);
    }
  }
}

class MpiTest : public support::IsaTest {
 protected:
  void expect_equal_to_one_process(Random& random, TestClip& clip) {
    const Geometry& g = clip.geometry;
    const RecurrentConfig config = clip.recurrent(RecurrentSchedule::hybrid);
    const std::vector<Part> parts = parts_of(random_shards(random, g.frames, ranks_), config.chunking);
    const Part& part = parts[static_cast<std::size_t>(rank_)];
    RankTensors tensors(config, part);
    copy_frames(tensors.q, part.shard, clip.q, false);
    copy_frames(tensors.k, part.shard, clip.k, false);
    copy_frames(tensors.v, part.shard, clip.v, false);
    const RankReport report = attend(config, parts, tensors, MPI_COMM_WORLD, kernels());

    const Communication planned = communication_of(config, parts, static_cast<std::size_t>(rank_));
    EXPECT_EQ(report.bytes.halo, planned.halo);
    EXPECT_EQ(report.bytes.prefix, planned.prefix);
    EXPECT_EQ(report.bytes.outputs, planned.outputs);

    // of the shard; the others hold theirs against the same clip
    const support::Written whole = support::evaluate(clip.hybrid(Direction::causal), kernels());
    std::vector<float> expected = whole.out, out(expected.size(), support::untouched);
    copy_frames(tensors.out, part.shard, out, true);
    FrameTensor ours(part.shard, g.tokens_per_frame, g.batch, g.heads(), g.value_dim);
    copy_frames(ours, part.shard, expected, false);
    std::fill(expected.begin(), expected.end(), support::untouched);
    copy_frames(ours, part.shard, expected, true);
    const support::Distance d = support::distance(out, expected);
    EXPECT_LE(d.l2, 4e-6);
    EXPECT_LE(d.element, 1e-5);
  }

  int rank_ = number_of(MPI_Comm_rank), ranks_ = number_of(MPI_Comm_size);
};

TEST_P(MpiTest, RanksEqualOneProcess) {
  for (const std::uint64_t seed : support::seeds(30)) {
    SCOPED_TRACE(support::replay(seed) + " as rank " + std::to_string(rank_) + " of " +
                 std::to_string(ranks_));
    Random random(seed);
    Geometry geometry = Geometry::random(random);
    geometry.frames = random.integer(1, 25);
    geometry.kv_heads = random.integer(1, 4);
    TestClip clip(random, geometry,
                  random.pick({Features::elu1, Features::polynomial, Features::polynomial}));
    clip.stabilizer = random.pick({Stabilizer::row_max, Stabilizer::none});
    expect_equal_to_one_process(random, clip);
  }
}

/// A halo that is longer than what MPI sends at once, and chunks of several tasks.
TEST_P(MpiTest, LargeFrames) {
  Random random(1);
  TestClip clip(random,
                {.frames = 11,
                 .tokens_per_frame = 300,
                 .chunk_frames = 3,
                 .overlap_frames = 4,
                 .kv_heads = 3,
                 .dim = 32,
                 .value_dim = 32},
                Features::elu1);
  expect_equal_to_one_process(random, clip);
}

REHYAT_TEST_ALL_ISAS(MpiTest);

}  // namespace
}  // namespace rehyat::mpi
