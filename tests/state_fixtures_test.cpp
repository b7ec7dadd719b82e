// State files that earlier versions wrote, tests/data/states (its README says how to add some): every later
// version restores them, and goes on to the outputs that are stored beside them.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "rehyat/io/npy.hpp"
#include "rehyat/io/state_file.hpp"
#include "support/clip_stream.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/state_files.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::ClipStream;
using support::Features;
using support::Geometry;
using support::OwnedState;
using support::Random;
using support::TestClip;
using support::Written;

/// Numbers that are the same on every machine: a few bits each, from integers alone.
std::vector<float> plain_numbers(Random& random, std::size_t count, std::int64_t most) {
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(random.integer(-most, most)) / 32;
  return values;
}

/// A recurrence, and the chunk before which its state was saved.
class Fixture {
  Random random_{1};  // ahead of the clip, which is made with it

 public:
  Fixture(std::string fixture_name, const Geometry& geometry, Features features, RecurrentSchedule schedule)
      : name(std::move(fixture_name)), clip(random_, geometry, features), schedule_(schedule) {
    Random plain(7);
    for (auto* values : {&clip.q, &clip.k, &clip.v}) *values = plain_numbers(plain, values->size(), 64);
    for (auto* values :
         {&clip.given_q, &clip.given_k, &clip.given_q_denominator, &clip.given_k_denominator}) {
      *values = plain_numbers(plain, values->size(), 32);
      for (float& x : *values) x = std::abs(x) + 0.125f;
    }
  }

  /// Two layers, D -> 3 -> 4, with biases and degree 2.
  void use_a_network() {
    Random plain(8);
    for (auto& [map, heads] :
         {std::pair{&clip.phi_q, clip.geometry.heads()}, {&clip.phi_k, clip.geometry.kv_heads}}) {
      *map = {.kind = FeatureMap::Kind::polynomial,
              .num_layers = 2,
              .degree = 2,
              .activation = Activation::gelu,
              .output_activation = Activation::softplus,
              .heads = heads};
      std::int64_t in_dim = clip.geometry.dim;
      for (int i = 0; i < 2; ++i) {
        map->layers[i].out_dim = 3 + i;
        map->layers[i].weight = weights(plain, heads * (3 + i) * in_dim);
        map->layers[i].bias = weights(plain, heads * (3 + i));
        in_dim = 3 + i;
      }
    }
  }

  RecurrentConfig config() const {
    RecurrentConfig c = clip.recurrent(schedule_);
    c.tail_type = tail_type;
    return c;
  }

  /// A state that has seen the chunks before the cut.
  OwnedState state_at_the_cut(const Kernels& kernels) const {
    OwnedState state(config(), 1, kernels);
    run(state, 0, cut);
    return state;
  }

  /// Outputs of the chunks from the cut on; 0 where an entry has none.
  std::vector<float> continued(OwnedState& state) const { return run(state, cut, clip.geometry.chunks()); }

  std::string path(std::uint32_t version, const char* extension) const {
    return std::string(REHYAT_TEST_DATA_DIR "/states/v") + std::to_string(version) + "_" + name + extension;
  }

  std::string name;
  TestClip clip;
  ElementType tail_type = ElementType::float32;
  std::int64_t cut = 2;

 private:
  std::vector<float> run(OwnedState& state, std::int64_t begin, std::int64_t end) const {
    const Geometry& g = clip.geometry;
    Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
    std::fill(written.out.begin(), written.out.end(), 0.0f);
    ClipStream chunks(clip, written);
    SerialExecutor serial;
    for (std::int64_t t = begin; t < end; ++t) {
      const Status status = state.step(chunks.chunk(t), serial);
      EXPECT_TRUE(status.ok()) << status.message();
    }
    return written.out;
  }

  const float* weights(Random& plain, std::int64_t count) {
    return weights_.emplace_back(plain_numbers(plain, static_cast<std::size_t>(count), 32)).data();
  }

  RecurrentSchedule schedule_;
  std::vector<std::vector<float>> weights_;  // of which each keeps its place when this grows
};

std::vector<Fixture> fixtures() {
  const Geometry geometry{.batch = 2,
                          .frames = 7,
                          .tokens_per_frame = 2,
                          .overlap_frames = 3,
                          .heads_per_kv = 2,
                          .dim = 5,
                          .value_dim = 3,
                          .given_dim = 4};
  std::vector<Fixture> all;

  Geometry alone = geometry;
  alone.batch = 1, alone.kv_heads = 2;
  all.emplace_back("hybrid_polynomial", alone, Features::elu1, RecurrentSchedule::hybrid).use_a_network();

  all.emplace_back("linear_elu1", geometry, Features::elu1, RecurrentSchedule::linear).clip.frames = {7, 3};

  Fixture& given = all.emplace_back("hybrid_given_separate", geometry, Features::given_separate,
                                    RecurrentSchedule::hybrid);
  given.clip.denominator_epsilon = 0.0625f, given.clip.denominator_floor = 1.5f, given.clip.scale = 0.375f;
  given.clip.frames = {7, 3};

  Geometry short_overlap = geometry;
  short_overlap.chunk_frames = 3, short_overlap.overlap_frames = 1;
  Fixture& unshifted =
      all.emplace_back("hybrid_none", short_overlap, Features::relu, RecurrentSchedule::hybrid);
  unshifted.clip.stabilizer = Stabilizer::none;

  for (const ElementType type : {ElementType::bfloat16, ElementType::float16}) {
    all.emplace_back(std::string("hybrid_tail_") + element_name(type), alone, Features::elu1,
                     RecurrentSchedule::hybrid)
        .tail_type = type;
  }
  return all;
}

class StateFixtures : public support::IsaTest {};

TEST_P(StateFixtures, OfEveryVersionGoOn) {
  for (const Fixture& fixture : fixtures()) {
    for (std::uint32_t version = 1; version <= state_file_version; ++version) {
      const std::string file = fixture.path(version, ".state");
      SCOPED_TRACE(file);
      OwnedState state(fixture.config(), 1, kernels());
      const Status status = restore_state(*state, file.c_str());
      ASSERT_TRUE(status.ok()) << status.message();
      for (std::int64_t b = 0; b < fixture.config().batch; ++b) {
        const std::int64_t frames =
            fixture.clip.frames.empty() ? 7 : fixture.clip.frames[static_cast<std::size_t>(b)];
        EXPECT_EQ(state->frames_seen(b),
                  std::min(frames, fixture.cut * fixture.config().chunking.chunk_frames));
      }

      const Result<NpyArray> expected = read_npy(fixture.path(version, ".npy").c_str());
      ASSERT_TRUE(expected.ok()) << expected.status().message();
      const std::span<const float> values = expected->data.span();
      EXPECT_LE(
          support::relative_error(fixture.continued(state), std::vector<float>(values.begin(), values.end())),
          1e-5);
    }
  }
}

REHYAT_TEST_ALL_ISAS(StateFixtures);

/// What is written has not changed while the version's number stayed.
TEST(StateFixtures, TheHeaderIsStillThatOfItsVersion) {
  for (const Fixture& fixture : fixtures()) {
    SCOPED_TRACE(fixture.name);
    const std::string old = test::read_bytes(fixture.path(state_file_version, ".state"));
    const std::string now = support::saved(*fixture.state_at_the_cut(default_kernels()));
    EXPECT_EQ(now.size(), old.size());
    EXPECT_EQ(now.substr(0, detail::state_header_size), old.substr(0, detail::state_header_size));
  }
}

/// Not a test: adds the files of this version that are missing. What is there is never replaced.
TEST(StateFixtures, AddMissing) {
  if (std::getenv("REHYAT_ADD_STATE_FIXTURES") == nullptr) {
    GTEST_SKIP() << "REHYAT_ADD_STATE_FIXTURES=1 adds the fixtures of this version that are missing";
  }
  for (const Fixture& fixture : fixtures()) {
    const std::string file = fixture.path(state_file_version, ".state");
    if (std::filesystem::exists(file)) continue;
    OwnedState state = fixture.state_at_the_cut(**find_kernels("scalar"));
    Status status = save_state(*state, file.c_str());
    ASSERT_TRUE(status.ok()) << status.message();
    const Geometry& g = fixture.clip.geometry;
    const std::int64_t shape[] = {g.batch, g.tokens(), g.heads(), g.value_dim};
    status = write_npy(fixture.path(state_file_version, ".npy").c_str(), shape, fixture.continued(state));
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

}  // namespace
}  // namespace rehyat
