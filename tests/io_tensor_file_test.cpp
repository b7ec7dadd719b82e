// A model's safetensors file: any tensors by name, and the feature maps of its layers.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "rehyat/io/tensor_file.hpp"
#include "support/files.hpp"
#include "support/safetensors_fragments.hpp"

namespace rehyat::test {
namespace {

Result<TensorFile> read(const std::string& bytes) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.safetensors");
  write_bytes(path, bytes);
  return TensorFile::read(path.c_str());
}

/// The fragments' phi behind "layer1.", after a half-precision tensor.
PhiFragments model_fragments() {
  PhiFragments f;
  for (std::string* tensor : {&f.q0, &f.q0_bias, &f.q1, &f.k0, &f.k0_bias}) {
    *tensor = replaced(*tensor, "\"phi_", "\"layer1.phi_");
  }
  f.k0_bias += R"(,"norm":{"dtype":"F16","shape":[2],"data_offsets":[224,228]})";
  f.metadata = replaced(f.metadata, "{\"degree", "{\"attention\":\"hybrid\",\"degree");
  f.data_size = 228;
  return f;
}

TEST(TensorFile, GivesTensorsMetadataAndFeatureMaps) {
  const Result<TensorFile> file = read(model_fragments().file());
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(*file->metadata("attention"), "hybrid");
  EXPECT_EQ(file->metadata("phase"), nullptr);
  const auto shape = file->shape("layer1.phi_q.1.weight");
  EXPECT_EQ(std::vector<std::int64_t>(shape.begin(), shape.end()), (std::vector<std::int64_t>{2, 2, 4}));
  EXPECT_TRUE(file->shape("phi_q.1.weight").empty());

  float norm[2] = {-1, -1};
  const std::int64_t two[] = {2};
  ASSERT_TRUE(file->read_tensor("norm", two, norm).ok());
  EXPECT_EQ(norm[0], 0.0f);     // float 56 is 0x42600000
  EXPECT_EQ(norm[1], 3.1875f);  // 0x4260 as a half

  const Result<FeatureMapWeights> maps = file->feature_maps("layer1.", fragment_heads);
  const Result<FeatureMapWeights> expected = parse_phi(PhiFragments().file());
  ASSERT_TRUE(maps.ok()) << maps.status().message();
  ASSERT_EQ(maps->weights.size(), expected->weights.size());
  for (std::size_t i = 0; i < maps->weights.size(); ++i)
    EXPECT_EQ(maps->weights.data()[i], expected->weights.data()[i]);
  EXPECT_EQ(maps->phi_k.degree, 2);
}

void expect_invalid(const Status& status, const char* what) {
  expect_refused(status, StatusCode::invalid_file, "model.safetensors", what);
}

TEST(TensorFile, NamesWhatIsMissingOrOfAnotherShape) {
  const Result<TensorFile> file = read(model_fragments().file());
  ASSERT_TRUE(file.ok());
  float out[2] = {7, 7};
  const std::int64_t two[] = {2}, three[] = {3};
  expect_invalid(file->read_tensor("norm", three, out), "tensor norm has shape [2]; expected [3]");
  expect_invalid(file->read_tensor("gain", two, out), "lacks tensor gain");
  EXPECT_EQ(out[0], 7.0f);
  expect_invalid(file->feature_maps("layer2.", fragment_heads).status(),
                 "(layer2.): lacks tensor phi_q.0.weight");
  expect_refused(file->feature_maps("layer1.", {0, 1, 3}).status(), StatusCode::invalid_argument, "",
                 "query_heads 0");
}

TEST(TensorFile, RefusesWhatIsMalformed) {
  PhiFragments f = model_fragments();
  f.q0 = replaced(f.q0, "phi_q.0.weight", "phi_q.3.weight");
  const Result<TensorFile> unknown = read(f.file());
  ASSERT_TRUE(unknown.ok());
  expect_invalid(unknown->feature_maps("layer1.", fragment_heads).status(),
                 "unknown tensor 'layer1.phi_q.3.weight'");

  f = model_fragments();
  f.k0 = replaced(f.k0, "layer1.phi_k.0.weight", "layer1.phi_q.0.weight");
  expect_invalid(read(f.file()).status(), "tensor layer1.phi_q.0.weight occurs twice");
  f = model_fragments();
  f.metadata = replaced(f.metadata, "\"attention\":", "\"degree\":");
  expect_invalid(read(f.file()).status(), "metadata degree occurs twice");
  f = model_fragments();
  f.data_size = 232;
  expect_invalid(read(f.file()).status(), "its tensors end at 228");
  expect_invalid(TensorFile::read("/nowhere/model.safetensors").status(), "cannot be opened");
}

}  // namespace
}  // namespace rehyat::test
