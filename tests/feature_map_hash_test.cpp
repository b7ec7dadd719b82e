// The hash by which a state file knows its feature maps, against its description.

#include "rehyat/io/feature_map_hash.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "support/files.hpp"
#include "support/state_files.hpp"

namespace rehyat {
namespace {

std::string numbers(const std::vector<std::int64_t>& values) { return test::bytes_of(values); }

TEST(FeatureMapHash, EveryBitOfANetworkCounts) {
  // one head, 2 -> 3 (biases) -> 2 (none)
  const float first[] = {1, 2, 3, 4, 5, 6}, bias[] = {-1, -0.0f, 0.5f}, second[] = {7, 8, 9, 10, 11, 12};
  FeatureMap map{.kind = FeatureMap::Kind::polynomial,
                 .num_layers = 2,
                 .degree = 2,
                 .activation = Activation::silu,
                 .output_activation = Activation::softplus,
                 .layers = {{first, bias, 3}, {second, nullptr, 2}},
                 .heads = 1};
  const std::string plain = numbers({2, 2, 2, 3, 4, 1, 2, 3, 1}) +
                            test::bytes_of(std::vector(first, first + 6)) +
                            test::bytes_of(std::vector(bias, bias + 3)) + numbers({2, 0}) +
                            test::bytes_of(std::vector(second, second + 6));
  const std::uint64_t hash = detail::feature_map_hash(map, 2);
  EXPECT_EQ(hash, support::plain_crc64(plain));
  EXPECT_EQ(detail::feature_map_hash(FeatureMap::given(7), 2), support::plain_crc64(numbers({3, 7})));

  const auto expect_other = [&](const FeatureMap& changed) {
    EXPECT_NE(detail::feature_map_hash(changed, 2), hash);
  };
  const auto expect_every_bit_counts = [&](const float*& values, std::size_t count) {
    const float* const original = values;
    for (std::size_t bit = 0; bit < 32 * count; ++bit) {
      std::vector<float> changed(original, original + count);
      changed[bit / 32] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(changed[bit / 32]) ^
                                               std::uint32_t{1} << bit % 32);
      values = changed.data();
      expect_other(map);
    }
    values = original;
  };
  expect_every_bit_counts(map.layers[0].weight, 6);
  expect_every_bit_counts(map.layers[0].bias, 3);
  expect_every_bit_counts(map.layers[1].weight, 6);
  const auto change = [&](auto edit) {
    FeatureMap changed = map;
    edit(changed);
    expect_other(changed);
  };
  change([](FeatureMap& m) { m.degree = 1; });
  change([](FeatureMap& m) { m.activation = Activation::gelu; });
  change([](FeatureMap& m) { m.output_activation = Activation::elu1; });
  change([](FeatureMap& m) { m.layers[0].bias = nullptr; });
  change([](FeatureMap& m) { m.num_layers = 1; });

  FeatureMap one_layer = map, other_activation = map;  // between no layers
  one_layer.num_layers = other_activation.num_layers = 1;
  other_activation.activation = Activation::relu;
  EXPECT_EQ(detail::feature_map_hash(one_layer, 2), detail::feature_map_hash(other_activation, 2));
}

}  // namespace
}  // namespace rehyat
