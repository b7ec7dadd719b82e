// Reading and writing the weights of feature maps, and refusing every file that is not what it declares.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rehyat/io/safetensors.hpp"
#include "support/files.hpp"
#include "support/safetensors_fragments.hpp"

namespace rehyat::test {
namespace {

TEST(Safetensors, ReadsWeightsBiasesAndMetadata) {
  const Result<FeatureMapWeights> maps = parse_phi(PhiFragments().file());
  ASSERT_TRUE(maps.ok()) << maps.status().message();
  expect_consistent(maps);
  EXPECT_EQ(maps->phi_q.num_layers, 2);
  EXPECT_EQ(maps->phi_k.num_layers, 1);
  EXPECT_EQ(maps->phi_q.degree, 2);
  EXPECT_EQ(maps->phi_k.activation, Activation::gelu);
  EXPECT_EQ(maps->phi_k.output_activation, Activation::softplus);
  EXPECT_EQ(maps->phi_q.layers[1].bias, nullptr);
  for (std::size_t i = 0; i < maps->weights.size(); ++i)
    EXPECT_EQ(maps->weights.data()[i], static_cast<float>(i));
}

TEST(Safetensors, TakesConv1dShapesAnyTensorOrderAndPadding) {
  PhiFragments f;
  f.q0 = replaced(f.q0, "[2,4,3]", "[8,3,1]");
  f.q0_bias = replaced(f.q0_bias, "[2,4]", "[8]");
  f.q1 = replaced(f.q1, "[2,2,4]", "[4,4,1]");
  f.k0 = replaced(f.k0, "[1,2,3]", "[2,3,1]");
  std::swap(f.q0, f.k0);
  std::swap(f.metadata, f.q1);
  f.k0_bias += "   \n";
  const Result<FeatureMapWeights> maps = parse_phi(f.file());
  ASSERT_TRUE(maps.ok()) << maps.status().message();
  expect_consistent(maps);
  for (std::size_t i = 0; i < maps->weights.size(); ++i)
    EXPECT_EQ(maps->weights.data()[i], static_cast<float>(i));
}

TEST(Safetensors, ConvertsEveryFloatType) {
  const std::string metadata =
      R"({"__metadata__":{"degree":"1","activation":"relu","output_activation":"elu1","format":"pt"},)";
  const std::string header = metadata +
                             R"("phi_q.0.weight":{"dtype":"F16","shape":[1,1,1],"data_offsets":[0,2]},)"
                             R"("phi_q.0.bias":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},)"
                             R"("phi_k.0.weight":{"dtype":"F64","shape":[1,1,1],"data_offsets":[4,12]}})";
  const std::string data =
      bytes_of(std::vector<std::uint16_t>{0x3E00, 0xBF80}) + bytes_of(std::vector<double>{0.1});
  const Result<FeatureMapWeights> maps = parse_phi(with_length(header.size(), header, data), {1, 1, 1});
  ASSERT_TRUE(maps.ok()) << maps.status().message();
  EXPECT_EQ(*maps->phi_q.layers[0].weight, 1.5f);
  EXPECT_EQ(*maps->phi_q.layers[0].bias, -1.0f);
  EXPECT_EQ(*maps->phi_k.layers[0].weight, 0.1f);
}

TEST(Safetensors, WritesWhatItReads) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("phi.safetensors");
  const Result<FeatureMapWeights> maps = parse_phi(PhiFragments().file());
  ASSERT_TRUE(maps.ok());
  const std::uint32_t nan_with_payload = 0xFFA12345u;
  std::memcpy(const_cast<float*>(maps->phi_q.layers[0].bias), &nan_with_payload, sizeof nan_with_payload);
  for (int round = 0; round < 2; ++round) {  // the second replaces the first
    const Status written =
        write_feature_maps(path.c_str(), maps->phi_q, maps->phi_k, fragment_heads.head_dim);
    ASSERT_TRUE(written.ok()) << written.message();
  }
  EXPECT_EQ(directory.names(), std::vector<std::string>{"phi.safetensors"});
  Result<FeatureMapWeights> again = read_feature_maps(path.c_str(), fragment_heads);
  ASSERT_TRUE(again.ok()) << again.status().message();
  const FeatureMapWeights moved = std::move(*again);
  EXPECT_EQ(moved.phi_q.layers[0].weight, moved.weights.data()) << "moving keeps the views";
  ASSERT_EQ(moved.weights.size(), maps->weights.size());
  EXPECT_EQ(std::memcmp(moved.weights.data(), maps->weights.data(), maps->weights.size() * sizeof(float)), 0);
}

TEST(Safetensors, WritesTheFormatOfTheReferenceWriter) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("phi.safetensors");
  const float weight[] = {1, 2};
  FeatureMap map;
  map.kind = FeatureMap::Kind::polynomial;
  map.num_layers = 1;
  map.heads = 1;
  map.layers[0] = {.weight = weight, .bias = weight, .out_dim = 1};
  ASSERT_TRUE(write_feature_maps(path.c_str(), map, map, 2).ok());
  std::string header =
      R"({"__metadata__": {"degree": "1", "activation": "gelu", "output_activation": "identity"}, )"
      R"("phi_q.0.weight": {"dtype": "F32", "shape": [1, 1, 2], "data_offsets": [0, 8]}, )"
      R"("phi_q.0.bias": {"dtype": "F32", "shape": [1, 1], "data_offsets": [8, 12]}, )"
      R"("phi_k.0.weight": {"dtype": "F32", "shape": [1, 1, 2], "data_offsets": [12, 20]}, )"
      R"("phi_k.0.bias": {"dtype": "F32", "shape": [1, 1], "data_offsets": [20, 24]}})";
  while (header.size() % 8 != 0) header += ' ';
  EXPECT_EQ(read_bytes(path),
            with_length(header.size(), header, bytes_of(std::vector<float>{1, 2, 1, 1, 2, 1})));
}

TEST(Safetensors, RefusesToWriteWhatItWouldNotRead) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("phi.safetensors");
  const Result<FeatureMapWeights> maps = parse_phi(PhiFragments().file());
  ASSERT_TRUE(maps.ok());
  const auto refuses = [&](auto change, std::string_view reason) {
    FeatureMap phi_q = maps->phi_q;
    change(phi_q);
    expect_refused(write_feature_maps(path.c_str(), phi_q, maps->phi_k, fragment_heads.head_dim),
                   StatusCode::invalid_argument, "", reason);
  };
  refuses([](FeatureMap& m) { m = FeatureMap::elu1(); }, "only polynomial");
  refuses([](FeatureMap& m) { m.num_layers = 4; }, "num_layers");
  refuses([](FeatureMap& m) { m.degree = 0; }, "degree");
  refuses([](FeatureMap& m) { m.degree = 1; }, "agree");
  refuses([](FeatureMap& m) { m.degree = 4; }, "multiple of degree");
  refuses([](FeatureMap& m) { m.heads = 0; }, "heads");
  refuses([](FeatureMap& m) { m.heads = 1LL << 60; }, "larger than any file");
  refuses([](FeatureMap& m) { m.layers[0].weight = nullptr; }, "no weight");
  refuses([](FeatureMap& m) { m.layout = WeightLayout::panels; }, "packed weights");
  refuses([](FeatureMap& m) { m.layers[0].out_dim = 0; }, "out_dim");
  refuses([](FeatureMap& m) { m.output_activation = Activation::relu; }, "agree");
  EXPECT_TRUE(directory.names().empty());
}

TEST(Safetensors, RefusesBadTensorsWithAReason) {
  using Part = PhiFragments;
  struct Case {
    std::string Part::*fragment;
    const char* from;
    const char* to;
    const char* reason;
  };
  const Case cases[] = {
      {&Part::metadata, "\"2\"", "\"5\"", "degree is '5'; expected 1 to 4"},
      {&Part::metadata, "\"2\"", "\"02\"", "degree is '02'"},
      {&Part::metadata, "\"2\"", "2", "metadata degree is a number; expected a string"},
      {&Part::metadata, "\"2\"", "null", "metadata degree is null"},
      {&Part::metadata, "\"2\"", "[[[[", "metadata degree is a list"},
      {&Part::metadata, "\"degree\":\"2\",", "", "lacks metadata degree"},
      {&Part::metadata,
       "\"degree\":", "\"activation\":\"relu\",\"degree\":", "metadata activation occurs twice"},
      {&Part::metadata, "gelu", "tanh", "activation is 'tanh'"},
      {&Part::metadata, "softplus", "soft\\nplus", "output_activation is 'soft?plus'"},
      {&Part::metadata, "{", "7,\"a\":{", "__metadata__ is a number; expected an object"},
      {&Part::q0, "F32", "I32", "tensor phi_q.0.weight has dtype 'I32'"},
      {&Part::q0, "\"F32\"", "32", "phi_q.0.weight: dtype is a number; expected a string"},
      {&Part::q0, "\"dtype\":\"F32\",", "", "phi_q.0.weight lacks dtype"},
      {&Part::q0, ",\"data_offsets\":[0,96]", "", "phi_q.0.weight lacks data_offsets"},
      {&Part::q0, "\"dtype\"", "\"layout\":1,\"dtype\"", "unknown field 'layout'"},
      {&Part::q0, "\"dtype\"", "\"shape\":[1],\"dtype\"", "shape occurs twice"},
      {&Part::q0, "[2,4,3]", "[2,4,3,1]", "more than 3 numbers"},
      {&Part::q0, "[2,4,3]", "[2,4,-3]", "shape holds a negative number"},
      {&Part::q0, "[2,4,3]", "[2,4,3.0]", "shape holds a fraction"},
      {&Part::q0, "[2,4,3]", "[2,4,18446744073709551616]", "shape holds a fraction or too large"},
      {&Part::q0, "[2,4,3]", "[2,4,18446744073709551615]", "above 2^63 - 1"},
      {&Part::q0, "[2,4,3]", "[2,4,[3]]", "shape holds a list"},
      {&Part::q0, "[2,4,3]", "{}", "shape is an object"},
      {&Part::q0, "[2,4,3]", "[4611686018427387904,4,2]", "not the size of shape"},
      {&Part::q0, "[2,4,3]", "[2,3,4]", "shape [2, 3, 4]; expected [2, n, 3] or [2 * n, 3, 1]"},
      {&Part::q0, "[2,4,3]", "[24]", "shape [24]; expected [2, n, 3]"},
      {&Part::q0, "[0,96]", "[0,96,96]", "data_offsets has more than 2"},
      {&Part::q0, "[0,96]", "[0]", "data_offsets has 1 numbers"},
      {&Part::q0, "[0,96]", "[96,0]", "do not lie in the 224 bytes"},
      {&Part::q0, "[0,96]", "[0,100]", "has 100 bytes, which is not the size of shape [2, 4, 3]"},
      {&Part::q0, "[0,96]", "[4,100]", "begins at byte 4 of the data, leaving a gap"},
      {&Part::q0, "{\"dtype\"", "3,\"a\":{\"dtype\"", "phi_q.0.weight is a number; expected an object"},
      {&Part::q0, "phi_q.0.weight", "phi_q.3.weight", "unknown tensor 'phi_q.3.weight'"},
      {&Part::q0, "phi_q.0.weight", "phi_q.1.weight", "phi_q.1.weight occurs twice"},
      {&Part::q0, "phi_q.0.weight", "phi_q.2.weight", "lacks tensor phi_q.0.weight"},
      {&Part::q0_bias, "[2,4]", "[4,2]", "phi_q.0.bias has shape [4, 2]; expected [2, 4] or [8]"},
      {&Part::q0_bias, "[96,128]", "[64,96]", "inside another tensor"},
      {&Part::q0_bias, "phi_q.0.bias", "phi_q.2.bias", "lacks tensor phi_q.2.weight"},
      {&Part::q1, "[2,2,4]", "[2,4,2]", "phi_q.1.weight has shape [2, 4, 2]; expected [2, n, 4]"},
      {&Part::q1, "phi_q.1.weight", "phi_q.2.weight", "has tensor phi_q.2.weight but lacks phi_q.1.weight"},
      {&Part::k0_bias, "[216,224]", "[216,228]", "[216, 228] do not lie"},
      {&Part::k0_bias, "phi_k", "__metadata__\":{},\"phi_k", "__metadata__ occurs twice"},
      {&Part::k0_bias, "}", "},", "not valid JSON"},
      {&Part::k0_bias, "}", "}}", "not valid JSON"},
  };
  for (const Case& c : cases) {
    PhiFragments f;
    f.*c.fragment = replaced(f.*c.fragment, c.from, c.to);
    const Result<FeatureMapWeights> maps = parse_phi(f.file());
    ASSERT_FALSE(maps.ok()) << c.reason;
    expect_refused(maps.status(), StatusCode::invalid_file, "phi.safetensors: ", c.reason);
  }
}

TEST(Safetensors, RefusesBadFilesWithAReason) {
  PhiFragments trailing, odd_features, few_features;
  trailing.data_size = 228;
  odd_features.metadata = replaced(odd_features.metadata, "\"2\"", "\"4\"");
  few_features.k0 = replaced(few_features.k0, "[1,2,3]", "[1,1,3]");
  few_features.k0 = replaced(few_features.k0, "[192,216]", "[192,204]");
  few_features.k0_bias = "";
  few_features.metadata = replaced(few_features.metadata, "\"2\"", "\"1\"");
  few_features.data_size = 204;
  const std::string big = std::string(1 << 16, '[');
  const std::pair<std::string, const char*> cases[] = {
      {"", "has 0 bytes"},
      {"1234567", "has 7 bytes"},
      {with_length(0, "", ""), "not a JSON object"},
      {with_length(3, "{}", ""), "header of 3 bytes"},
      {with_length(~std::uint64_t{0}, "{}", ""), "header of 18446744073709551615 bytes"},
      {with_length(2, "[]", ""), "not a JSON object"},
      {with_length(3, " {}", ""), "not a JSON object"},
      {with_length(3, std::string("{}\0", 3), ""), "not a JSON object"},
      {with_length(3, "{\xFF}", ""), "not valid JSON"},
      {with_length(2, "{}", ""), "lacks metadata degree"},
      {with_length(4, "{}{}", ""), "not valid JSON"},
      {with_length(big.size() + 5, "{\"a\":" + big, ""), "unknown tensor 'a'"},
      {with_length(big.size() + 16, "{\"__metadata__\":" + big, ""), "__metadata__ is a list"},
      {trailing.file(), "has 228 bytes of data; its tensors end at 224"},
      {odd_features.file(), "gives 2 features; expected a multiple of the degree 4"},
      {few_features.file(), "phi_q gives 2 features and phi_k 1"},
  };
  for (const auto& [bytes, reason] : cases) {
    const Result<FeatureMapWeights> maps = parse_phi(bytes);
    ASSERT_FALSE(maps.ok()) << reason;
    expect_refused(maps.status(), StatusCode::invalid_file, "phi.safetensors: ", reason);
  }
  expect_refused(parse_phi(PhiFragments().file(), {2, 0, 3}).status(), StatusCode::invalid_argument, "",
                 "kv_heads 0");
  expect_refused(parse_phi(PhiFragments().file(), {3, 1, 3}).status(), StatusCode::invalid_file, "",
                 "expected [3, n, 3]");
  expect_refused(read_feature_maps("/", fragment_heads).status(), StatusCode::invalid_file,
                 "/: ", "not a regular file");
}

TEST(Safetensors, SurvivesTruncationFlippedBytesAndGarbage) {
  const std::string good = PhiFragments().file();
  ASSERT_TRUE(parse_phi(good).ok());
  EXPECT_FALSE(parse_phi(good + '\0').ok());
  for_each_truncation(good, [](const std::string& cut) { EXPECT_FALSE(parse_phi(cut).ok()) << cut.size(); });
  for_each_flip(good, [](const std::string& damaged) { expect_consistent(parse_phi(damaged)); });

  // Pieces of a header are swapped, repeated and left out.
  const std::string header = good.substr(8, good.size() - 8 - 224);
  std::mt19937 random(20260);
  for (int round = 0; round < 5000; ++round) {
    std::string shuffled = header;
    for (unsigned edits = 1 + random() % 4; edits > 0; --edits) {
      const std::string piece = shuffled.substr(random() % shuffled.size(), random() % 24);
      shuffled.replace(random() % shuffled.size(), random() % 24, piece);
    }
    expect_consistent(parse_phi(with_length(shuffled.size(), shuffled, good.substr(good.size() - 224))));
  }
}

}  // namespace
}  // namespace rehyat::test
