// Strided and offset views between inaccessible pages: no byte outside a view is read or written, whatever
// the sizes.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "rehyat/arithmetic.hpp"
#include "support/clip_stream.hpp"
#include "support/executors.hpp"
#include "support/guarded_clip.hpp"
#include "support/guarded_kernels.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::ElementTypes;
using support::evaluate;
using support::Features;
using support::Flush;
using support::Geometry;
using support::GuardedBytes;
using support::GuardedInputs;
using support::GuardedKernels;
using support::GuardedOutputs;
using support::GuardedWorkspace;
using support::Random;
using support::TestClip;
using support::Written;

/// Below, at and above the vectors, tiles and blocks of every instruction set.
constexpr std::array<std::int64_t, 19> dims = {1,  2,  3,  4,  5,  6,  7,  8,  9, 10,
                                               15, 16, 17, 31, 33, 47, 48, 49, 64};
constexpr std::array<std::int64_t, 20> token_counts = {1,  2,  3,  11, 12,  13,  23,  24,  25,  47,
                                                       48, 49, 63, 96, 127, 128, 129, 191, 192, 193};

/// A state in guarded memory. Chunks alternate between step and peek with commit.
class GuardedState {
 public:
  GuardedState(const RecurrentConfig& config, Flush flush)
      : memory_(*RecurrentState::size_bytes(config), flush),
        state_(*RecurrentState::create(config, memory_.workspace().data, memory_.workspace().size)) {}

  template <class E>
  Status advance(const RecurrentChunk& chunk, bool in_one_pass, Workspace workspace, E& executor,
                 const Kernels& kernels) {
    if (in_one_pass) return state_.step(chunk, workspace, executor, kernels);
    REHYAT_RETURN_IF_ERROR(state_.peek(chunk, workspace, executor, kernels));
    return state_.commit(chunk, workspace, executor, kernels);
  }

  RecurrentState* operator->() { return &state_; }
  RecurrentState& operator*() { return state_; }
  bool rest_untouched() const { return memory_.rest_untouched(); }

 private:
  GuardedBytes memory_;
  RecurrentState state_;
};

class ViewsTest : public support::IsaTest {
 protected:
  void other_arithmetic(Arithmetic mode);

  /// `feed` puts the parameters' inputs into guarded memory.
  template <class P, class Feed>
  void expect_same_guarded(Feed feed, P parameters, ElementType out_type, Random& random, Flush flush) {
    Written expected = evaluate(parameters, kernels());
    expected.out = support::rounded(expected.out, out_type);
    feed(parameters);
    GuardedOutputs outputs(parameters.q.batch, parameters.q.tokens, parameters.q.heads, parameters.v.dim,
                           out_type, random, flush);
    outputs.receive(parameters);
    support::Shuffling executor(static_cast<std::uint64_t>(random.integer(0, 1000)));
    const GuardedKernels guarded(kernels(), flush);
    GuardedWorkspace workspace(*workspace_size(parameters, executor.slots(), kernels()), flush);
    const Status status = support::call(parameters, workspace.get(), executor, guarded.table());
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(bit_equal(outputs.written(), expected));
    EXPECT_TRUE(outputs.gaps_untouched());
    EXPECT_TRUE(workspace.rest_untouched());
  }

  /// Every chunk in a copy of the state that saw the one before.
  void expect_same_guarded_stream(GuardedInputs& inputs, const TestClip& clip, RecurrentSchedule schedule,
                                  const ElementTypes& types, Random& random, Flush flush) {
    const Geometry& g = clip.geometry;
    RecurrentConfig config = clip.recurrent(schedule);
    support::OwnedState plain(config, 1, kernels());
    SerialExecutor serial;
    Written expected = support::stream(clip, plain, serial);
    expected.out = support::rounded(expected.out, types.out);

    inputs.feed_maps(config);
    config.tail_type = types.tail();
    GuardedOutputs outputs(g.batch, g.tokens(), g.heads(), g.value_dim, types.out, random, flush);
    GuardedState states[2] = {{config, flush}, {config, flush}};
    GuardedWorkspace workspace(*RecurrentState::workspace_size(config, 1, kernels()), flush);
    const GuardedKernels guarded(kernels(), flush);
    RecurrentChunk whole;
    inputs.feed(whole);
    outputs.receive(whole);
    DenominatorReport total;
    support::ClipStream chunks(clip, whole);
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      GuardedState &state = states[t % 2], &next = states[(t + 1) % 2];
      RecurrentChunk chunk = chunks.chunk(t);
      chunk.frames = inputs.guard_counts(chunk.frames);
      const Status status = state.advance(chunk, random.coin(), workspace.get(), serial, guarded.table());
      ASSERT_TRUE(status.ok()) << status.message();
      support::merge(total, *whole.report);
      ASSERT_TRUE(next->copy_from(*state).ok());
      state->reset();
    }
    Written written = outputs.written();
    written.report = total;
    EXPECT_TRUE(bit_equal(written, expected));
    EXPECT_TRUE(outputs.gaps_untouched());
    EXPECT_TRUE(workspace.rest_untouched());
    for (const GuardedState& state : states) EXPECT_TRUE(state.rest_untouched());
  }

  /// All operators, with every buffer's end at a page, then with every buffer's start at one.
  void expect_same(TestClip clip, Random& random) {
    const ElementTypes types = random.coin() ? ElementTypes{} : ElementTypes::random(random);
    types.round(clip);
    for (const Flush flush : {Flush::end, Flush::start}) {
      SCOPED_TRACE(flush == Flush::end ? "page behind the end" : "page before the start");
      GuardedInputs inputs(clip, types, random, flush, random.coin());
      clip.for_each_operator([&](const char* name, const auto& parameters) {
        SCOPED_TRACE(name);
        expect_same_guarded([&](auto& p) { inputs.feed(p); }, parameters, types.out, random, flush);
      });
      for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear}) {
        SCOPED_TRACE(schedule == RecurrentSchedule::hybrid ? "recurrent hybrid" : "recurrent linear");
        expect_same_guarded_stream(inputs, clip, schedule, types, random, flush);
      }
    }
  }
};

/// Every dim and token count of the lists, as many times as there are seeds.
TEST_P(ViewsTest, NothingOutsideIsReadOrWritten) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const std::size_t i = static_cast<std::size_t>(seed);
    const std::int64_t tokens = token_counts[i % token_counts.size()];
    const Geometry geometry{.batch = random.integer(1, 2),
                            .frames = random.integer(1, tokens > 100 ? 2 : 3),
                            .tokens_per_frame = tokens,
                            .chunk_frames = random.integer(1, 2),
                            .overlap_frames = random.integer(0, 2),
                            .kv_heads = random.integer(1, 2),
                            .heads_per_kv = random.integer(1, tokens > 100 ? 1 : 2),
                            .dim = dims[i % dims.size()],
                            .value_dim = dims[(i / 4 + 7 * i) % dims.size()],
                            .given_dim = dims[(i / 3) % dims.size()]};
    expect_same(TestClip::random(random, geometry), random);
  }
}

/// The kernels of other arithmetic read and write other arrays, in other blocks.
void ViewsTest::other_arithmetic(Arithmetic mode) {
  if (!has_arithmetic(kernels(), mode)) GTEST_SKIP() << "no such kernels";
  Random random(7);
  for (std::size_t i = 0; i < dims.size(); i += 2) {
    const std::int64_t tokens = token_counts[i];
    TestClip clip(random,
                  {.frames = 2,
                   .tokens_per_frame = tokens,
                   .chunk_frames = 1,
                   .overlap_frames = 1,
                   .dim = dims[i],
                   .value_dim = dims[(5 * i + 2) % dims.size()]},
                  i % 4 == 0 ? Features::elu1 : Features::polynomial);
    clip.arithmetic = mode;
    SCOPED_TRACE(testing::Message() << tokens << " tokens, " << dims[i] << " wide");
    expect_same(std::move(clip), random);
  }
}

TEST_P(ViewsTest, Int8) { other_arithmetic(Arithmetic::int8); }
TEST_P(ViewsTest, Float16) { other_arithmetic(Arithmetic::float16); }

TEST_P(ViewsTest, WideHeads) {
  Random random(1);
  for (const std::int64_t dim : {127, 128, 129, 512}) {
    SCOPED_TRACE(dim);
    expect_same(
        TestClip(random,
                 {.frames = 2, .tokens_per_frame = 2, .chunk_frames = 1, .dim = dim, .value_dim = dim},
                 Features::elu1),
        random);
  }
}

/// Each kind of features, with one token a frame: one query and one key in the first chunk.
TEST_P(ViewsTest, OneTokenAFrame) {
  Random random(3);
  for (const Features features : {Features::elu1, Features::polynomial, Features::polynomial, Features::given,
                                  Features::given_separate}) {
    for (const std::int64_t dim : {1, 5, 17}) {
      SCOPED_TRACE(dim);
      expect_same(TestClip(random,
                           {.frames = 3,
                            .tokens_per_frame = 1,
                            .chunk_frames = 1,
                            .overlap_frames = random.integer(0, 1),
                            .dim = dim,
                            .value_dim = 18 - dim,
                            .given_dim = dim},
                           features),
                  random);
    }
  }
}

/// Queries and keys of different numbers, one of each among them.
TEST_P(ViewsTest, SoftmaxWithOtherKeyCount) {
  Random random(4);
  for (const std::int64_t queries : {1, 3, 49}) {
    for (const std::int64_t keys : {1, 2, 127, 129}) {
      SCOPED_TRACE(testing::Message() << queries << " queries, " << keys << " keys");
      const Geometry geometry{
          .batch = 2, .frames = 1, .dim = random.integer(1, 40), .value_dim = random.integer(1, 40)};
      Geometry of_queries = geometry, of_keys = geometry;
      of_queries.tokens_per_frame = queries, of_keys.tokens_per_frame = keys;
      const TestClip q(random, of_queries, Features::elu1), kv(random, of_keys, Features::elu1);
      const std::int64_t query_tokens[] = {random.integer(0, queries), queries},
                         key_tokens[] = {random.integer(1, keys), keys};
      const SoftmaxAttention cross{.q = q.q_view(),
                                   .k = kv.k_view(),
                                   .v = kv.v_view(),
                                   .query_tokens = query_tokens,
                                   .key_tokens = key_tokens};
      for (const Flush flush : {Flush::end, Flush::start}) {
        GuardedInputs inputs(kv, {}, random, flush, false);
        const auto feed = [&](SoftmaxAttention& p) {
          inputs.feed(p);
          p.q = inputs.guard(q.q_view(), q.q, ElementType::float32);
        };
        expect_same_guarded(feed, cross, ElementType::float32, random, flush);
      }
    }
  }
}

TEST_P(ViewsTest, NoTokensAndNoFrames) {
  Random random(2);
  TestClip none_valid(random, {.batch = 2, .dim = 3, .value_dim = 5}, Features::polynomial);
  none_valid.frames = {0, 0}, none_valid.tokens = {0, 0};
  expect_same(std::move(none_valid), random);
  TestClip clip(random, {.batch = 2, .dim = 3, .value_dim = 5}, Features::polynomial);
  clip.geometry.frames = 0;
  clip.for_each_operator([&](const char* name, const auto& parameters) {
    SCOPED_TRACE(name);
    EXPECT_EQ(evaluate(parameters, kernels()).report.smallest, std::numeric_limits<float>::infinity());
  });
}

REHYAT_TEST_ALL_ISAS(ViewsTest);

TEST(PackedViewsTest, PackingStaysInside) {
  Random random(5);
  for (const Flush flush : {Flush::end, Flush::start}) {
    for (const std::int64_t feature_dim : {1, 7, 8, 9, 34}) {
      SCOPED_TRACE(feature_dim);
      const support::RandomFeatureMap source(random, 2, 5,
                                             {.hidden_dim = 3, .feature_dim = feature_dim, .degree = 1});
      const std::size_t size = *packed_weights_size(source.map(), 5);
      const TestClip no_clip(random, {}, Features::elu1);
      GuardedInputs inputs(no_clip, {}, random, flush, false);
      GuardedWorkspace memory(size, flush);
      std::vector<char> plain(size);
      const Result<FeatureMap> packed = pack_weights(inputs.guard(source.map(), 5, false), 5, memory.get());
      ASSERT_TRUE(packed.ok()) << packed.status().message();
      EXPECT_TRUE(memory.rest_untouched());
      const Result<FeatureMap> expected = pack_weights(source.map(), 5, {plain.data(), size});
      const DenseLayer &last = packed->layers[1], &expected_last = expected->layers[1];
      EXPECT_TRUE(
          std::equal(last.weight, last.weight + 2 * round_up(feature_dim, 8) * 3, expected_last.weight));
      EXPECT_TRUE(std::equal(last.bias, last.bias + 2 * feature_dim, expected_last.bias));
    }
  }
}

}  // namespace
}  // namespace rehyat
