// examples/ggml_op, on the stand-in for ggml or on ggml itself: the bits of the library's own calls for any
// number of threads, types and layouts; and every refusal comes when the node is built.

#include <ggml-cpu.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "hybrid_attention.hpp"
#include "support/isas.hpp"
#include "support/typed_clip.hpp"

namespace rehyat {
namespace {

using support::bit_equal;
using support::ElementTypes;
using support::Geometry;
using support::Random;
using support::TestClip;

ggml_type ggml_type_of(ElementType type) {
  return type == ElementType::float32   ? GGML_TYPE_F32
         : type == ElementType::float16 ? GGML_TYPE_F16
                                        : GGML_TYPE_BF16;
}

/// How the rows of a tensor lie in memory.
enum class Layout { head_major, permuted, with_gaps };

/// Everything a graph is made of.
class Host {
 public:
  explicit Host(bool no_alloc = false)
      : context_(ggml_init({.mem_size = std::size_t{16} << 20, .mem_buffer = nullptr, .no_alloc = no_alloc}),
                 ggml_free) {}

  ggml_context* context() const { return context_.get(); }

  /// [dim, tokens, heads, batch] of a type and layout, its elements not set.
  ggml_tensor* tensor(const InputView& shape, ElementType element, Layout layout) const {
    const ggml_type type = ggml_type_of(element);
    if (layout == Layout::head_major) {
      return ggml_new_tensor_4d(context(), type, shape.dim, shape.tokens, shape.heads, shape.batch);
    }
    const std::int64_t gap = layout == Layout::with_gaps ? 3 : 0;
    ggml_tensor* t =
        ggml_new_tensor_4d(context(), type, shape.dim + gap, shape.heads, shape.tokens, shape.batch);
    t = ggml_permute(context(), t, 0, 2, 1, 3);
    return ggml_view_4d(context(), t, shape.dim, shape.tokens, shape.heads, shape.batch, t->nb[1], t->nb[2],
                        t->nb[3], 0);
  }

  /// The same with the values of a packed view of floats.
  ggml_tensor* tensor(const TensorView<const float>& values, ElementType element, Layout layout) const {
    ggml_tensor* t = tensor(InputView(values), element, layout);
    for (std::int64_t b = 0; b < values.batch; ++b) {
      for (std::int64_t n = 0; n < values.tokens; ++n) {
        for (std::int64_t h = 0; h < values.heads; ++h) {
          for (std::int64_t d = 0; d < values.dim; ++d) {
            support::store_element(at(*t, d, n, h, b), element, values.row(b, n, h)[d]);
          }
        }
      }
    }
    return t;
  }

  ggml_tensor* scratch(std::size_t bytes) const {
    return ggml_new_tensor_1d(context(), GGML_TYPE_I8, static_cast<std::int64_t>(bytes));
  }

  void compute(ggml_tensor* node, int threads) const {
    ggml_cgraph* graph = ggml_new_graph(context());
    ggml_build_forward_expand(graph, node);
    ggml_graph_compute_with_ctx(context(), graph, threads);
  }

  /// An output's elements; it has no gaps.
  static std::span<float> values(ggml_tensor* t) {
    return {static_cast<float*>(t->data), ggml_nbytes(t) / sizeof(float)};
  }

 private:
  static void* at(const ggml_tensor& t, std::int64_t i0, std::int64_t i1, std::int64_t i2, std::int64_t i3) {
    const std::int64_t index[4] = {i0, i1, i2, i3};
    char* address = static_cast<char*>(t.data);
    for (int i = 0; i < 4; ++i) address += static_cast<std::size_t>(index[i]) * t.nb[i];
    return address;
  }

  std::unique_ptr<ggml_context, void (*)(ggml_context*)> context_;
};

struct Inputs {
  ggml_tensor *q, *k, *v;

  Inputs(const Host& host, const TestClip& clip, const ElementTypes& types, Random& random)
      : q(host.tensor(clip.q_view(), types.q, layout(random))),
        k(host.tensor(clip.k_view(), types.k, layout(random))),
        v(host.tensor(clip.v_view(), types.v, layout(random))) {}

  static Layout layout(Random& random) {
    return random.pick({Layout::head_major, Layout::permuted, Layout::with_gaps});
  }
};

/// What the user of the node says: everything but the tensors.
HybridAttention settings_of(const TestClip& clip, Direction direction) {
  HybridAttention settings = clip.hybrid(direction);
  settings.q = settings.k = settings.v = {};
  return settings;
}

TEST(GgmlOp, GivesTheBitsOfTheLibrarysOwnCall) {
  for (const std::uint64_t seed : support::seeds(20)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    TestClip clip = TestClip::random(random, Geometry::random(random));
    const ElementTypes types = ElementTypes::random(random);
    types.round(clip);
    for (const Direction direction : {Direction::causal, Direction::bidirectional}) {
      const support::Written expected = support::evaluate(clip.hybrid(direction), default_kernels());
      const Host host;
      const Inputs in(host, clip, types, random);
      HybridAttention settings = settings_of(clip, direction);
      const Result<std::size_t> bytes = rehyat_ggml::scratch_size(settings, in.q, in.k, in.v);
      ASSERT_TRUE(bytes.ok()) << bytes.status().message();
      const Result<ggml_tensor*> node =
          rehyat_ggml::hybrid_attention(host.context(), in.q, in.k, in.v, host.scratch(*bytes), &settings);
      ASSERT_TRUE(node.ok()) << node.status().message();
      for (const int threads : {1, 2, 3, 8}) {
        const std::span<float> out = Host::values(*node);
        std::fill(out.begin(), out.end(), support::untouched);
        host.compute(*node, threads);
        EXPECT_TRUE(bit_equal(out, expected.out)) << threads << " threads";
      }
    }
  }
}

TEST(GgmlOp, StreamingGivesTheBitsOfTheClipAtOnce) {
  for (const std::uint64_t seed : support::seeds(20, 101)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const Geometry g = Geometry::random(random);
    TestClip clip(random, g, random.pick({support::Features::elu1, support::Features::polynomial}));
    const ElementTypes types = ElementTypes::random(random);
    types.round(clip);
    const support::Written expected = support::evaluate(clip.hybrid(Direction::causal), default_kernels());
    const std::int64_t frame = g.heads() * g.value_dim * g.tokens_per_frame;
    for (const int threads : {1, 2, 3, 8}) {
      const Host host;
      const Inputs in(host, clip, types, random);
      const RecurrentConfig config = clip.recurrent(RecurrentSchedule::hybrid);
      support::OwnedState state(config, 1, default_kernels());
      ggml_tensor* scratch = host.scratch(*rehyat_ggml::scratch_size(config));
      for (std::int64_t first = 0; first < g.frames; first += g.chunk_frames) {
        const std::int64_t frames = std::min(g.chunk_frames, g.frames - first);
        const auto chunk = [&](ggml_tensor* t) {
          return ggml_view_4d(host.context(), t, t->ne[0], frames * g.tokens_per_frame, t->ne[2], t->ne[3],
                              t->nb[1], t->nb[2], t->nb[3],
                              static_cast<std::size_t>(first * g.tokens_per_frame) * t->nb[1]);
        };
        for (const auto build : {rehyat_ggml::peek, rehyat_ggml::step}) {
          const Result<ggml_tensor*> node =
              build(host.context(), chunk(in.q), chunk(in.k), chunk(in.v), scratch, &*state);
          ASSERT_TRUE(node.ok()) << node.status().message();
          host.compute(*node, threads);
          for (std::int64_t b = 0; b < g.batch; ++b) {
            const std::span<const float> all(expected.out);
            EXPECT_TRUE(bit_equal(Host::values(*node).subspan(static_cast<std::size_t>(b * frames * frame),
                                                              static_cast<std::size_t>(frames * frame)),
                                  all.subspan(static_cast<std::size_t>((b * g.frames + first) * frame),
                                              static_cast<std::size_t>(frames * frame))))
                << "entry " << b << ", frame " << first << ", " << threads << " threads";
          }
        }
        EXPECT_EQ(state->frames_seen(), first + frames);
      }
    }
  }
}

/// A clip of one chunk of 2 frames with 3 tokens, 2 heads that share a kv head.
class GgmlOpRefusals : public testing::Test {
 protected:
  ggml_tensor* tensor(std::int64_t dim, std::int64_t heads, ggml_type type = GGML_TYPE_F32) const {
    return ggml_new_tensor_4d(host_.context(), type, dim, 6, heads, 1);
  }

  void expect_refused(ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, ggml_tensor* scratch,
                      const std::string& words) {
    const Result<ggml_tensor*> node =
        rehyat_ggml::hybrid_attention(host_.context(), q, k, v, scratch, &settings_);
    EXPECT_FALSE(node.ok()) << words;
    EXPECT_NE(std::string(node.status().message()).find(words), std::string::npos) << node.status().message();
    const Result<ggml_tensor*> step = rehyat_ggml::step(host_.context(), q, k, v, scratch, &*state_);
    EXPECT_FALSE(step.ok()) << words;
    EXPECT_NE(std::string(step.status().message()).find(words), std::string::npos) << step.status().message();
  }

  Host host_;
  HybridAttention settings_{.chunking = {.tokens_per_frame = 3, .chunk_frames = 2, .overlap_frames = 1},
                            .phi_q = FeatureMap::elu1(),
                            .phi_k = FeatureMap::elu1()};
  support::OwnedState state_{{.heads = 2,
                              .kv_heads = 1,
                              .head_dim = 8,
                              .value_dim = 4,
                              .chunking = settings_.chunking,
                              .phi_q = FeatureMap::elu1(),
                              .phi_k = FeatureMap::elu1()},
                             1,
                             default_kernels()};
  ggml_tensor *q_ = tensor(8, 2), *k_ = tensor(8, 1), *v_ = tensor(4, 1);
  ggml_tensor* scratch_ = host_.scratch(1 << 20);
};

TEST_F(GgmlOpRefusals, AreSaidWhenTheNodeIsBuilt) {
  EXPECT_TRUE(rehyat_ggml::hybrid_attention(host_.context(), q_, k_, v_, scratch_, &settings_).ok());
  EXPECT_TRUE(rehyat_ggml::step(host_.context(), q_, k_, v_, scratch_, &*state_).ok());

  expect_refused(q_, tensor(8, 1, GGML_TYPE_I32), v_, scratch_, "k.type is i32, expected f32, f16 or bf16");
  expect_refused(ggml_permute(host_.context(), q_, 1, 0, 2, 3), k_, v_, scratch_,
                 "q.nb[0] is 32, expected 4");
  ggml_tensor* odd = tensor(4, 1, GGML_TYPE_F16);
  odd->nb[1] = 9;
  expect_refused(q_, k_, odd, scratch_, "v.nb[1] is 9, expected a multiple of 2");
  expect_refused(q_, tensor(7, 1), v_, scratch_, "k.dim is 7, expected 8");
  expect_refused(q_, k_, tensor(4, 3), scratch_, "v.heads is 3, expected 1");
  expect_refused(q_, k_, v_, host_.scratch(100), "scratch has 100 bytes, expected at least ");

  settings_.chunking.tokens_per_frame = 4;
  EXPECT_STREQ(rehyat_ggml::scratch_size(settings_, q_, k_, v_).status().message(),
               "chunking.tokens_per_frame is 4, expected a divisor of q.tokens (6)");
  settings_.chunking.chunk_frames = 0;
  EXPECT_FALSE(rehyat_ggml::scratch_size(settings_, q_, k_, v_).ok());
}

/// One byte less than scratch_size() is refused, for the clip and for chunks.
TEST_F(GgmlOpRefusals, OfScratchToTheByte) {
  const std::size_t clip = *rehyat_ggml::scratch_size(settings_, q_, k_, v_),
                    chunk = *rehyat_ggml::scratch_size(state_->config());
  for (const std::size_t less : {std::size_t{0}, std::size_t{1}}) {
    EXPECT_EQ(
        rehyat_ggml::hybrid_attention(host_.context(), q_, k_, v_, host_.scratch(clip - less), &settings_)
            .ok(),
        less == 0);
    for (const auto build : {rehyat_ggml::peek, rehyat_ggml::step}) {
      EXPECT_EQ(build(host_.context(), q_, k_, v_, host_.scratch(chunk - less), &*state_).ok(), less == 0);
    }
  }
}

/// A graph allocator gives the tensors of a graph memory when all nodes are known.
TEST_F(GgmlOpRefusals, MemoryMayComeAfterTheNode) {
  const Host planning(true);
  const auto planned = [&](std::int64_t dim, std::int64_t heads) {
    return ggml_new_tensor_4d(planning.context(), GGML_TYPE_F32, dim, 6, heads, 1);
  };
  ggml_tensor* tensors[] = {planned(8, 2), planned(8, 1), planned(4, 1), nullptr};
  tensors[3] = planning.scratch(*rehyat_ggml::scratch_size(settings_, tensors[0], tensors[1], tensors[2]));
  const Result<ggml_tensor*> node = rehyat_ggml::hybrid_attention(planning.context(), tensors[0], tensors[1],
                                                                  tensors[2], tensors[3], &settings_);
  ASSERT_TRUE(node.ok()) << node.status().message();
  EXPECT_TRUE(rehyat_ggml::step(planning.context(), tensors[0], tensors[1], tensors[2],
                                host_.scratch(1 << 20), &*state_)
                  .ok());
  EXPECT_EQ(state_->frames_seen(), 0);

  std::vector<std::vector<float>> memory;
  const auto give = [&](ggml_tensor* t) {
    t->data = memory.emplace_back(ggml_nbytes(t) / sizeof(float) + 1, 0.5f).data();
  };
  for (ggml_tensor* t : tensors) give(t);
  give(*node);
  host_.compute(*node, 2);
  for (const float y : Host::values(*node)) EXPECT_FLOAT_EQ(y, 0.5f);  // an average of equal values
}

}  // namespace
}  // namespace rehyat
