// Who holds, needs and does what, against a search over all frames.

#include "shards.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace rehyat::mpi {
namespace {

/// All clips of up to 13 frames on up to 8 ranks.
void for_each_case(auto visit) {
  for (std::int64_t frames = 1; frames <= 13; ++frames) {
    for (std::int64_t ranks = 1; ranks <= 8; ++ranks) {
      for (std::int64_t chunk_frames = 1; chunk_frames <= 5; ++chunk_frames) {
        for (const std::int64_t overlap_frames : {0, 1, 2, 3, 7, 20}) {
          SCOPED_TRACE(testing::Message() << frames << " frames on " << ranks << " ranks, chunks of "
                                          << chunk_frames << ", overlap " << overlap_frames);
          const Chunking chunking{
              .tokens_per_frame = 2, .chunk_frames = chunk_frames, .overlap_frames = overlap_frames};
          visit(frames, ranks, chunking, parts_of(even_shards(frames, ranks), chunking));
        }
      }
    }
  }
}

bool contains(const Range& r, std::int64_t frame) { return r.begin <= frame && frame < r.end; }

TEST(Shards, AreEven) {
  for_each_case([](std::int64_t frames, std::int64_t ranks, const Chunking&, const std::vector<Part>& parts) {
    ASSERT_EQ(parts.size(), static_cast<std::size_t>(ranks));
    std::int64_t next = 0;
    for (const Part& part : parts) {
      EXPECT_EQ(part.shard.begin, next);
      EXPECT_GE(part.shard.size(), frames / ranks);
      EXPECT_LE(part.shard.size(), ceil_div(frames, ranks));
      next = part.shard.end;
    }
    EXPECT_EQ(next, frames);
  });
}

/// Frame by frame: in a range if a chunk of the rank says so.
TEST(Shards, RanksNeedWhatTheirChunksSee) {
  for_each_case([](std::int64_t frames, std::int64_t, const Chunking& c, const std::vector<Part>& parts) {
    for (const Part& part : parts) {
      for (std::int64_t frame = 0; frame < frames; ++frame) {
        bool query = false, key = false;
        for (std::int64_t t = 0; t < chunk_count(frames, c); ++t) {
          if (!contains(part.shard, t * c.chunk_frames)) {
            EXPECT_FALSE(contains(part.chunks, t));
            continue;
          }
          EXPECT_TRUE(contains(part.chunks, t));
          const ChunkSets sets = hybrid_sets(frames, t, c, Direction::causal);
          query = query || contains(sets.queries, frame);
          key = key || contains(sets.softmax, frame);
        }
        EXPECT_EQ(contains(part.queries, frame), query);
        EXPECT_EQ(contains(part.keys, frame), key);
      }
      for (const Range& needed : {part.queries, part.keys}) {
        const Range held = hull(part.shard, needed);
        EXPECT_EQ(held.size(), part.shard.size() + needed.size() - common(part.shard, needed).size())
            << "no frame between them";
      }
    }
  });
}

/// What the ranks before a chunk's own absorb, and the rank itself before the chunk, are its linear keys:
/// each once.
TEST(Shards, ContributionsAddUpToTheLinearKeys) {
  for_each_case([](std::int64_t frames, std::int64_t, const Chunking& c, const std::vector<Part>& parts) {
    std::int64_t before = 0;
    for (const Part& part : parts) {
      if (part.chunks.empty()) {
        EXPECT_TRUE(part.absorbed.empty());
        continue;
      }
      EXPECT_EQ(part.absorbed.begin, softmax_begin(part.chunks.begin, c));
      EXPECT_EQ(part.absorbed.begin, before);
      EXPECT_EQ(common(part.absorbed, part.keys), part.absorbed) << "keys that are there anyway";
      before = part.absorbed.end;
    }
    EXPECT_EQ(before, softmax_begin(chunk_count(frames, c) - 1, c));
  });
}

TEST(Shards, WhatIsSentIsReceived) {
  for_each_case([](std::int64_t, std::int64_t, const Chunking& c, const std::vector<Part>& parts) {
    const RecurrentConfig config{.batch = 2,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 3,
                                 .value_dim = 5,
                                 .chunking = c,
                                 .phi_q = FeatureMap::elu1(),
                                 .phi_k = FeatureMap::elu1()};
    Communication all;
    for (std::size_t r = 0; r < parts.size(); ++r) {
      const Part& part = parts[r];
      const Communication n = communication_of(config, parts, r);
      const std::int64_t row = 2 * 2 * 4;  // bytes of a channel of a frame's tokens and batch entries
      const auto lacking = [&](const Range& needed) {
        return needed.size() - common(needed, part.shard).size();
      };
      EXPECT_EQ(n.halo.received, row * (lacking(part.queries) * 4 * 3 + lacking(part.keys) * 2 * (3 + 5)));
      EXPECT_EQ(n.outputs.sent, row * lacking(part.queries) * 4 * 5);
      EXPECT_EQ(n.prefix.sent, r + 1 < parts.size() ? 2 * 2 * 2 * (3 * 16 + 16) * 4 : 0);
      for (Bytes Communication::*kind :
           {&Communication::halo, &Communication::prefix, &Communication::outputs})
        (all.*kind).sent += (n.*kind).sent, (all.*kind).received += (n.*kind).received;
    }
    for (Bytes Communication::*kind : {&Communication::halo, &Communication::prefix, &Communication::outputs})
      EXPECT_EQ((all.*kind).sent, (all.*kind).received);
  });
}

TEST(Shards, OperationsAddUpToTheClips) {
  const float weights[64] = {};
  FeatureMap phi = FeatureMap::elu1();
  phi.kind = FeatureMap::Kind::polynomial, phi.num_layers = 1, phi.layers[0] = {weights, nullptr, 4};
  for_each_case([&](std::int64_t frames, std::int64_t, const Chunking& c, const std::vector<Part>& parts) {
    RecurrentConfig config{.batch = 2,
                           .heads = 4,
                           .kv_heads = 2,
                           .head_dim = 3,
                           .value_dim = 5,
                           .chunking = c,
                           .phi_q = phi,
                           .phi_k = phi};
    OperationCount sum;
    for (const Part& part : parts) {
      const OperationCount n = operations_of(config, frames, part);
      sum.softmax += n.softmax, sum.feature_map += n.feature_map, sum.read += n.read, sum.absorb += n.absorb;
    }
    HybridAttention clip{.chunking = c, .phi_q = phi, .phi_k = phi};
    const auto shaped = [&](std::int64_t heads, std::int64_t dim) {
      return TensorView<const float>::token_major(nullptr, 2, frames * c.tokens_per_frame, heads, dim);
    };
    clip.q = shaped(4, 3), clip.k = shaped(2, 3), clip.v = shaped(2, 5);
    const OperationCount whole = operation_count(clip);
    EXPECT_EQ(sum.softmax, whole.softmax);
    EXPECT_EQ(sum.feature_map, whole.feature_map);
    EXPECT_EQ(sum.read, whole.read);
    EXPECT_EQ(sum.absorb, whole.absorb);
  });
}

}  // namespace
}  // namespace rehyat::mpi
