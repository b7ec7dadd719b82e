// Packed weights give the bits of unpacked ones, stand alone, and bad input is refused.

#include "rehyat/packed_weights.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/random_feature_map.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::FeatureMapShape;
using support::Random;
using support::RandomFeatureMap;
using support::TestClip;
using support::Written;

/// A packed map with its memory, at an address that no vector is aligned to.
class Packed {
 public:
  Packed(const FeatureMap& map, std::int64_t head_dim)
      : memory_(*packed_weights_size(map, head_dim) + 1),
        map_(*pack_weights(map, head_dim, {memory_.data() + 1, memory_.size() - 1})) {}
  const FeatureMap& map() const { return map_; }

 private:
  std::vector<char> memory_;
  FeatureMap map_;
};

class PackedWeightsTest : public support::IsaTest {};

TEST_P(PackedWeightsTest, GiveTheSameBits) {
  for (const std::uint64_t seed : support::seeds(12)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    support::Geometry geometry = support::Geometry::random(random);
    geometry.frames += geometry.chunk_frames + geometry.overlap_frames;  // so that there are linear keys
    TestClip clip(random, geometry, support::Features::elu1);
    const FeatureMapShape shape{.num_layers = static_cast<int>(random.integer(1, 3)),
                                .hidden_dim = random.integer(1, 20),
                                .feature_dim = random.pick<std::int64_t>({2, 6, 8, 10, 34}),
                                .bias = random.coin()};
    const RandomFeatureMap q(random, geometry.heads(), geometry.dim, shape),
        k(random, geometry.kv_heads, geometry.dim, shape);
    const Packed packed_q(q.map(), geometry.dim), packed_k(k.map(), geometry.dim);
    const auto run = [&](const FeatureMap& phi_q, const FeatureMap& phi_k) {
      HybridAttention p = clip.hybrid(Direction::causal);
      p.phi_q = phi_q;
      p.phi_k = phi_k;
      Written written(geometry.batch, geometry.tokens(), geometry.heads(), geometry.value_dim);
      written.receive(p);
      support::run(p, kernels());
      return written.out;
    };
    EXPECT_EQ(run(packed_q.map(), packed_k.map()), run(q.map(), k.map()));
  }
}

REHYAT_TEST_ALL_ISAS(PackedWeightsTest);

/// [heads, ceil(out / 8), in, 8], zeros after the last output: what an engine that packs offline writes.
TEST(PackWeights, LayOutPanels) {
  Random random(1);
  const RandomFeatureMap source(random, 2, 3, {.num_layers = 1, .feature_dim = 10});
  const Packed packed(source.map(), 3);
  const DenseLayer &from = source.map().layers[0], &to = packed.map().layers[0];
  EXPECT_EQ(packed.map().layout, WeightLayout::panels);
  EXPECT_EQ(to.out_dim, 10);
  for (int head = 0; head < 2; ++head) {
    for (int unit = 0; unit < 16; ++unit) {
      for (int in = 0; in < 3; ++in) {
        const float expected = unit < 10 ? from.weight[(head * 10 + unit) * 3 + in] : 0.0f;
        EXPECT_EQ(to.weight[((head * 2 + unit / 8) * 3 + in) * 8 + unit % 8], expected);
      }
    }
  }
  EXPECT_TRUE(std::equal(to.bias, to.bias + 20, from.bias));
  EXPECT_NE(to.bias, from.bias) << "the original may be freed";
}

TEST(PackWeights, RefuseBadInput) {
  Random random(1);
  const RandomFeatureMap source(random, 2, 3, {});
  std::vector<char> memory(*packed_weights_size(source.map(), 3), 'x');
  const auto refused = [&](FeatureMap map, std::int64_t head_dim, Workspace at, const char* message) {
    const Result<FeatureMap> result = pack_weights(map, head_dim, at);
    EXPECT_FALSE(result.ok());
    EXPECT_NE(std::string(result.status().message()).find(message), std::string::npos)
        << result.status().message();
    EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](char c) { return c == 'x'; }));
  };
  const Workspace whole{memory.data(), memory.size()};
  refused(FeatureMap::elu1(), 3, whole, "map is not polynomial");
  refused(source.map(), 0, whole, "head_dim is 0");
  refused(source.map(), 3, {memory.data(), memory.size() - 1}, "memory.size is");
  refused(source.map(), 3, {nullptr, memory.size()}, "memory.data is null");
  FeatureMap map = source.map();
  map.layout = WeightLayout::panels;
  refused(map, 3, whole, "map.layout (0: rows) is 1, expected 0");
  map = source.map();
  map.layers[1].weight = nullptr;
  refused(map, 3, whole, "layers[].weight of layer is 1");
  map = source.map();
  map.heads = 0;
  refused(map, 3, whole, "map.heads is 0");
}

}  // namespace
}  // namespace rehyat
