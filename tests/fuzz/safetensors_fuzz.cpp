// The reader of feature maps on any bytes: it refuses with a message, or gives maps that view what was
// loaded.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "safetensors_mutator.hpp"
#include "support/safetensors_fragments.hpp"

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  return rehyat::fuzz::mutate_safetensors({data, size}, max_size, seed);
}

/// `data` is memory of exactly `size` bytes already: libFuzzer copies every input.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace rehyat;
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  const Result<FeatureMapWeights> maps = parse_feature_maps(file, test::fragment_heads, "phi.safetensors");
  test::expect_consistent(maps);
  if (!maps.ok()) EXPECT_EQ(std::string_view(maps.status().message()).find('\n'), std::string_view::npos);
  return 0;
}
