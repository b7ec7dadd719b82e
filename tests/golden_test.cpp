// The cases under tests/data/golden, written by an independent float64 implementation of the set definitions:
// settings and tolerance in case.json, inputs as float32, the answer as float64.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "rehyat/io/npy.hpp"
#include "rehyat/io/safetensors.hpp"
#include "support/isas.hpp"
#include "support/run.hpp"

namespace rehyat {
namespace {

using nlohmann::json;

/// One folder of a case.
class GoldenCase {
 public:
  explicit GoldenCase(const std::filesystem::path& folder) : folder_(folder) {
    settings = json::parse(std::ifstream(folder / "case.json"));
    q_ = read("q");
    k_ = read("k");
    v_ = read("v");
    expected_ = read("out");
    load_features();
  }

  std::int64_t number(const char* key) const { return settings.at(key).get<std::int64_t>(); }
  bool is(const char* key, const char* value) const { return settings.at(key).get<std::string>() == value; }

  TensorView<const float> q() const { return view(q_, number("H"), number("D")); }
  TensorView<const float> k() const { return view(k_, number("Hkv"), number("D")); }
  TensorView<const float> v() const { return view(v_, number("Hkv"), number("Dv")); }

  /// max |out - expected| / max |expected|
  double error(const std::vector<float>& out) const {
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double e = static_cast<double>(expected_.data.data()[i]);
      const double difference = std::abs(static_cast<double>(out[i]) - e);
      if (!(difference <= worst)) worst = difference;  // NaN sticks
      largest = std::max(largest, std::abs(e));
    }
    return worst / largest;
  }

  void run(TensorView<float> out, const Kernels& kernels) const {
    std::optional<float> scale;
    if (!settings.at("scale").is_null()) scale = settings.at("scale").get<float>();
    const Direction direction = is("direction", "causal") ? Direction::causal : Direction::bidirectional;
    const Stabilizer stabilizer = is("stabilizer", "none") ? Stabilizer::none : Stabilizer::row_max;
    const Chunking chunking{
        .tokens_per_frame = number("M"), .chunk_frames = number("Tc"), .overlap_frames = number("To")};
    if (is("schedule", "uniform")) {
      support::run(UniformAttention{.q = q(),
                                    .k = k(),
                                    .v = v(),
                                    .out = out,
                                    .rate = number("R"),
                                    .phi_q = phi_q,
                                    .phi_k = phi_k,
                                    .given = given,
                                    .stabilizer = stabilizer,
                                    .scale = scale},
                   kernels);
    } else if (is("schedule", "linear")) {
      support::run(LinearAttention{.q = q(),
                                   .k = k(),
                                   .v = v(),
                                   .out = out,
                                   .chunking = {chunking.tokens_per_frame, chunking.chunk_frames, 0},
                                   .direction = direction,
                                   .phi_q = phi_q,
                                   .phi_k = phi_k,
                                   .given = given},
                   kernels);
    } else {
      support::run(HybridAttention{.q = q(),
                                   .k = k(),
                                   .v = v(),
                                   .out = out,
                                   .chunking = chunking,
                                   .direction = direction,
                                   .phi_q = phi_q,
                                   .phi_k = phi_k,
                                   .given = given,
                                   .stabilizer = stabilizer,
                                   .scale = scale},
                   kernels);
    }
  }

  json settings;
  FeatureMap phi_q, phi_k;
  GivenFeatures given;

 private:
  NpyArray read(const std::string& name) const {
    Result<NpyArray> array = read_npy((folder_ / (name + ".npy")).c_str());
    EXPECT_TRUE(array.ok()) << array.status().message();
    return std::move(*array);
  }

  TensorView<const float> view(const NpyArray& array, std::int64_t heads, std::int64_t dim) const {
    return TensorView<const float>::token_major(array.data.data(), 1, number("T") * number("M"), heads, dim);
  }

  void load_features() {
    const std::string phi = settings.at("phi").get<std::string>();
    const std::int64_t heads = number("H"), kv_heads = number("Hkv"), width = number("F");
    if (phi == "polynomial") {
      Result<FeatureMapWeights> read =
          read_feature_maps((folder_ / "phi.safetensors").c_str(), {heads, kv_heads, number("D")});
      ASSERT_TRUE(read.ok()) << read.status().message();
      weights_ = std::move(*read);
      phi_q = weights_->phi_q;
      phi_k = weights_->phi_k;
    } else if (phi == "elu1" || phi == "relu") {
      phi_q = phi_k = phi == "elu1" ? FeatureMap::elu1() : FeatureMap::relu();
    } else {
      phi_q = phi_k = FeatureMap::given(width);
      features_.push_back(read("phi_q"));
      features_.push_back(read("phi_k"));
      if (phi == "split") {
        features_.push_back(read("phi_q_den"));
        features_.push_back(read("phi_k_den"));
        given.q_denominator = view(features_[2], heads, width);
        given.k_denominator = view(features_[3], kv_heads, width);
      }
      given.q = view(features_[0], heads, width);
      given.k = view(features_[1], kv_heads, width);
    }
  }

  std::filesystem::path folder_;
  NpyArray q_, k_, v_, expected_;
  std::optional<FeatureMapWeights> weights_;
  std::vector<NpyArray> features_;
};

/// The committed cases, and those of a folder that REHYAT_GOLDEN_DIR names instead (other seeds).
std::vector<std::filesystem::path> case_folders() {
  const char* other = std::getenv("REHYAT_GOLDEN_DIR");
  std::vector<std::filesystem::path> folders;
  for (const auto& entry :
       std::filesystem::directory_iterator(other != nullptr ? other : REHYAT_TEST_DATA_DIR "/golden")) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

class GoldenTest : public support::IsaTest {};

TEST_P(GoldenTest, EveryCaseIsWithinItsTolerance) {
  const std::vector<std::filesystem::path> folders = case_folders();
  EXPECT_GE(folders.size(), 35u);
  for (const std::filesystem::path& folder : folders) {
    SCOPED_TRACE(folder.filename());
    const GoldenCase golden(folder);
    std::vector<float> out(static_cast<std::size_t>(golden.q().tokens * golden.q().heads * golden.v().dim));
    golden.run(
        TensorView<float>::token_major(out.data(), 1, golden.q().tokens, golden.q().heads, golden.v().dim),
        kernels());
    const double error = golden.error(out), tolerance = golden.settings.at("tolerance").get<double>();
    EXPECT_LE(error, tolerance);
    RecordProperty(folder.filename().string(), std::to_string(error / tolerance));
  }
}

REHYAT_TEST_ALL_ISAS(GoldenTest);

}  // namespace
}  // namespace rehyat
