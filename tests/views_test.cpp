// Strided and offset views between inaccessible pages: no byte outside a view is read or written, whatever
// the sizes.

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "support/clip_stream.hpp"
#include "support/guard_pages.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::evaluate;
using support::Features;
using support::Flush;
using support::Geometry;
using support::GuardedBuffer;
using support::GuardedTensor;
using support::Layout;
using support::Random;
using support::TestClip;
using support::Written;

/// Below, at and above the vectors, tiles and blocks of every instruction set.
constexpr std::array<std::int64_t, 19> dims = {1,  2,  3,  4,  5,  6,  7,  8,  9, 10,
                                               15, 16, 17, 31, 33, 47, 48, 49, 64};
constexpr std::array<std::int64_t, 20> token_counts = {1,  2,  3,  11, 12,  13,  23,  24,  25,  47,
                                                       48, 49, 63, 96, 127, 128, 129, 191, 192, 193};

Flush any_flush(Random& random) { return random.pick({Flush::end, Flush::start}); }

/// The inputs of a clip, each in memory of its own with gaps, read-only, flush against a page that ends the
/// program.
class GuardedInputs {
 public:
  GuardedInputs(const TestClip& clip, Random& random) : random_(random) {
    q_ = guard(clip.q_view(), clip.q);
    k_ = guard(clip.k_view(), clip.k);
    v_ = guard(clip.v_view(), clip.v);
    const GivenFeatures given = clip.given();
    given_ = {guard(given.q, clip.given_q), guard(given.k, clip.given_k),
              guard(given.q_denominator, clip.given_q_denominator),
              guard(given.k_denominator, clip.given_k_denominator)};
    phi_q_ = guard(clip.phi_q, clip.geometry.dim);
    phi_k_ = guard(clip.phi_k, clip.geometry.dim);
  }

  /// Operator parameters or a chunk, on these inputs.
  template <class P>
  void feed(P& parameters) const {
    parameters.q = q_, parameters.k = k_, parameters.v = v_;
    if constexpr (requires { parameters.given; }) parameters.given = given_;
    feed_maps(parameters);
  }
  template <class P>
  void feed_maps(P& parameters) const {
    if constexpr (requires { parameters.phi_q; }) parameters.phi_q = phi_q_, parameters.phi_k = phi_k_;
  }

 private:
  InputView guard(const InputView& view, const std::vector<float>& values) {
    if (view.data == nullptr) return {};
    GuardedTensor& tensor = tensors_.emplace_back(view.batch, view.tokens, view.heads, view.dim,
                                                  Layout::random(random_), any_flush(random_));
    tensor.assign(values);
    tensor.make_read_only();
    return tensor.view();
  }

  const float* guard(const float* values, std::int64_t count) {
    if (values == nullptr) return nullptr;
    GuardedBuffer& buffer = buffers_.emplace_back(count, any_flush(random_));
    std::copy_n(values, count, buffer.data());
    buffer.make_read_only();
    return buffer.data();
  }

  FeatureMap guard(FeatureMap map, std::int64_t in_dim) {
    for (int i = 0; i < map.num_layers; ++i) {
      DenseLayer& layer = map.layers[i];
      layer.weight = guard(layer.weight, map.heads * layer.out_dim * in_dim);
      layer.bias = guard(layer.bias, map.heads * layer.out_dim);
      in_dim = layer.out_dim;
    }
    return map;
  }

  Random& random_;
  std::deque<GuardedTensor> tensors_;
  std::deque<GuardedBuffer> buffers_;
  InputView q_, k_, v_;
  GivenFeatures given_;
  FeatureMap phi_q_, phi_k_;
};

/// The outputs, in the same way but writable.
class GuardedOutputs {
 public:
  GuardedOutputs(const Geometry& g, Random& random)
      : out_(g.batch, g.tokens(), g.heads(), g.value_dim, Layout::random(random), any_flush(random)),
        row_max_(g.batch, g.tokens(), g.heads(), 1, Layout::random(random), any_flush(random)),
        row_sum_(g.batch, g.tokens(), g.heads(), 1, Layout::random(random), any_flush(random)),
        linear_denominator_(g.batch, g.tokens(), g.heads(), 1, Layout::random(random), any_flush(random)),
        written_(g.batch, g.tokens(), g.heads(), g.value_dim) {
    for (GuardedTensor* t : {&row_max_, &row_sum_, &linear_denominator_}) t->assign(written_.row_max);
    out_.assign(written_.out);
  }

  template <class P>
  void receive(P& parameters) {
    parameters.out = out_.view();
    parameters.statistics = {row_max_.view(), row_sum_.view(), linear_denominator_.view()};
    parameters.report = &written_.report;
  }

  Written written() const {
    Written w = written_;
    w.out = out_.packed();
    w.row_max = row_max_.packed(), w.row_sum = row_sum_.packed(),
    w.linear_denominator = linear_denominator_.packed();
    return w;
  }
  bool gaps_untouched() const {
    return out_.gaps_untouched() && row_max_.gaps_untouched() && row_sum_.gaps_untouched() &&
           linear_denominator_.gaps_untouched();
  }

 private:
  GuardedTensor out_, row_max_, row_sum_, linear_denominator_;
  Written written_;
};

/// Exactly `bytes` (a multiple of 4) between guard pages.
class GuardedBytes {
 public:
  GuardedBytes(std::size_t bytes, Flush flush)
      : buffer_(static_cast<std::int64_t>(bytes / 4), flush), bytes_(bytes) {
    EXPECT_EQ(bytes % 4, 0u);
  }
  Workspace workspace() { return {buffer_.data(), bytes_}; }
  bool rest_untouched() const {
    return buffer_.canaries_left_outside([](std::size_t) { return true; });
  }

 private:
  GuardedBuffer buffer_;
  std::size_t bytes_;
};

class ViewsTest : public support::IsaTest {
 protected:
  template <class P>
  void expect_same_guarded(const GuardedInputs& inputs, const Geometry& g, P parameters, Random& random) {
    const Written expected = evaluate(parameters, kernels());
    GuardedOutputs outputs(g, random);
    inputs.feed(parameters);
    outputs.receive(parameters);
    SerialExecutor serial;
    GuardedBytes workspace(*workspace_size(parameters, 1, kernels()), any_flush(random));
    const Status status = support::call(parameters, workspace.workspace(), serial, kernels());
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(bit_equal(outputs.written(), expected));
    EXPECT_TRUE(outputs.gaps_untouched());
    EXPECT_TRUE(workspace.rest_untouched());
  }

  void expect_same_guarded_stream(const GuardedInputs& inputs, const TestClip& clip,
                                  RecurrentSchedule schedule, Random& random) {
    const Geometry& g = clip.geometry;
    RecurrentConfig config = clip.recurrent(schedule);
    support::OwnedState plain(config, 1, kernels());
    SerialExecutor serial;
    const Written expected = support::stream(clip, plain, serial);

    inputs.feed_maps(config);
    GuardedOutputs outputs(g, random);
    GuardedBytes memory(*RecurrentState::size_bytes(config), any_flush(random));
    GuardedBytes workspace(*RecurrentState::workspace_size(config, 1, kernels()), any_flush(random));
    Result<RecurrentState> state =
        RecurrentState::create(config, memory.workspace().data, memory.workspace().size);
    ASSERT_TRUE(state.ok()) << state.status().message();
    RecurrentChunk whole;
    inputs.feed(whole);
    outputs.receive(whole);
    DenominatorReport total;
    support::ClipStream chunks(clip, whole);
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      const Status status = state->step(chunks.chunk(t), workspace.workspace(), serial, kernels());
      ASSERT_TRUE(status.ok()) << status.message();
      support::merge(total, *whole.report);
    }
    Written written = outputs.written();
    written.report = total;
    EXPECT_TRUE(bit_equal(written, expected));
    EXPECT_TRUE(outputs.gaps_untouched());
    EXPECT_TRUE(workspace.rest_untouched());
    EXPECT_TRUE(memory.rest_untouched());
  }

  void expect_same(const TestClip& clip, Random& random) {
    const GuardedInputs inputs(clip, random);
    clip.for_each_operator([&](const char* name, const auto& parameters) {
      SCOPED_TRACE(name);
      expect_same_guarded(inputs, clip.geometry, parameters, random);
    });
    for (const RecurrentSchedule schedule : {RecurrentSchedule::hybrid, RecurrentSchedule::linear}) {
      SCOPED_TRACE(schedule == RecurrentSchedule::hybrid ? "recurrent hybrid" : "recurrent linear");
      expect_same_guarded_stream(inputs, clip, schedule, random);
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

TEST_P(ViewsTest, NoTokensAndNoFrames) {
  Random random(2);
  TestClip clip(random, {.batch = 2, .dim = 3, .value_dim = 5}, Features::polynomial);
  clip.frames = {0, 0}, clip.tokens = {0, 0};
  expect_same(clip, random);
  clip.geometry.frames = 0;
  clip.frames = {}, clip.tokens = {};
  clip.for_each_operator([&](const char* name, const auto& parameters) {
    SCOPED_TRACE(name);
    EXPECT_EQ(evaluate(parameters, kernels()).report.smallest, std::numeric_limits<float>::infinity());
  });
}

REHYAT_TEST_ALL_ISAS(ViewsTest);

}  // namespace
}  // namespace rehyat
