// The same call again gives the same bits: at every address, over whatever memory held before, in any thread,
// after other calls.

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/all_results.hpp"
#include "support/element_tensor.hpp"
#include "support/guard_pages.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {
namespace {

using support::all_results;
using support::Features;
using support::Geometry;
using support::NamedResult;
using support::Random;
using support::TestClip;
using support::Written;

constexpr std::size_t cache_line = 64;

/// Memory at chosen distances from multiples of 64 bytes. What is not copied there holds stale words.
class Places {
 public:
  /// Block i starts first + i * step bytes behind a multiple of 64, modulo 64. Tensors are made of `type`.
  Places(std::size_t first, std::size_t step, std::vector<std::uint32_t> stale,
         ElementType type = ElementType::float32)
      : next_(first), step_(step), stale_(std::move(stale)), type_(type) {}

  /// The start is a multiple of `unit`.
  void* space(std::size_t bytes, std::size_t unit = 1) {
    std::vector<std::uint32_t>& words = blocks_.emplace_back((bytes + 2 * cache_line) / 4);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = stale_[i % stale_.size()];
    const std::size_t address = reinterpret_cast<std::uintptr_t>(words.data());
    const std::size_t to_line = (cache_line - address % cache_line) % cache_line;
    const std::size_t offset = next_ % cache_line / unit * unit;
    next_ += step_;
    return reinterpret_cast<char*>(words.data()) + to_line + offset;
  }

  /// Moves the inputs, packed and float32, of an operator or a chunk.
  template <class P>
  void move_inputs(P& p) {
    move(p.q), move(p.k), move(p.v);
    if constexpr (requires { p.given; }) {
      move(p.given.q), move(p.given.k), move(p.given.q_denominator), move(p.given.k_denominator);
    }
  }
  template <class P>
  void move_maps(P& p, std::int64_t head_dim) {
    if constexpr (requires { p.phi_q; }) move(p.phi_q, head_dim), move(p.phi_k, head_dim);
  }
  /// Gives an operator or a chunk, whose outputs are packed, others of the same shape.
  template <class P>
  void move_outputs(P& p) {
    p.out.type = type_;
    p.out.data = space(bytes_of(p.out, element_size(type_)), unit());
    for (TensorView<float>* view :
         {&p.statistics.row_max, &p.statistics.row_sum, &p.statistics.linear_denominator}) {
      view->data = static_cast<float*>(space(bytes_of(*view, sizeof(float)), sizeof(float)));
    }
  }

 private:
  std::size_t unit() const { return static_cast<std::size_t>(element_size(type_)); }
  static std::size_t bytes_of(const auto& view, std::int64_t element) {
    return static_cast<std::size_t>(view.batch * view.tokens * view.heads * view.dim * element);
  }
  void move(InputView& packed) {
    if (packed.data == nullptr) return;
    const float* values = static_cast<const float*>(packed.data);
    char* to = static_cast<char*>(space(bytes_of(packed, element_size(type_)), unit()));
    for (std::int64_t i = 0; i < packed.batch * packed.tokens * packed.heads * packed.dim; ++i)
      support::store_element(to + i * element_size(type_), type_, values[i]);
    packed.data = to, packed.type = type_;
  }
  const float* copy(const float* values, std::int64_t count) {
    if (values == nullptr) return nullptr;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
    return static_cast<const float*>(std::memcpy(space(bytes, sizeof(float)), values, bytes));
  }
  void move(FeatureMap& map, std::int64_t in_dim) {
    for (int i = 0; i < map.num_layers; ++i) {
      DenseLayer& layer = map.layers[i];
      layer.weight = copy(layer.weight, map.heads * layer.out_dim * in_dim);
      layer.bias = copy(layer.bias, map.heads * layer.out_dim);
      in_dim = layer.out_dim;
    }
  }

  std::size_t next_, step_;
  std::vector<std::uint32_t> stale_;
  ElementType type_;
  std::deque<std::vector<std::uint32_t>> blocks_;
};

template <class P>
void copy_back(const P& p, Written& written) {
  for (std::size_t i = 0; i < written.out.size(); ++i) {
    const std::size_t size = static_cast<std::size_t>(element_size(p.out.type));
    written.out[i] = support::load_element(static_cast<const char*>(p.out.data) + i * size, p.out.type);
  }
  std::copy_n(p.statistics.row_max.data, written.row_max.size(), written.row_max.begin());
  std::copy_n(p.statistics.row_sum.data, written.row_sum.size(), written.row_sum.begin());
  std::copy_n(p.statistics.linear_denominator.data, written.linear_denominator.size(),
              written.linear_denominator.begin());
}

class RepeatTest : public support::IsaTest {
 protected:
  template <class P>
  Written placed(P p, Places& places) {
    const Geometry g{.batch = p.q.batch, .frames = p.q.tokens, .tokens_per_frame = 1};
    Written written(g.batch, g.tokens(), p.q.heads, p.v.dim);
    written.receive(p);
    places.move_inputs(p), places.move_maps(p, p.q.dim), places.move_outputs(p);
    const std::size_t size = *workspace_size(p, 1, kernels());
    EXPECT_TRUE(support::call(p, {places.space(size), size}, serial_, kernels()).ok());
    copy_back(p, written);
    return written;
  }

  Written placed(const TestClip& clip, RecurrentSchedule schedule, Places& places) {
    const Geometry& g = clip.geometry;
    RecurrentConfig config = clip.recurrent(schedule);
    places.move_maps(config, g.dim);
    const std::size_t size = *RecurrentState::size_bytes(config);
    const std::size_t workspace_size = *RecurrentState::workspace_size(config, 1, kernels());
    RecurrentState state = *RecurrentState::create(config, places.space(size, 8), size);
    Written written(g.batch, g.tokens(), g.heads(), g.value_dim);
    RecurrentChunk whole{.q = clip.q_view(), .k = clip.k_view(), .v = clip.v_view(), .given = clip.given()};
    written.receive(whole);
    places.move_inputs(whole), places.move_outputs(whole);
    support::ClipStream chunks(clip, whole);
    DenominatorReport total;
    for (std::int64_t t = 0; t < chunks.chunks(); ++t) {
      const Workspace workspace{places.space(workspace_size), workspace_size};
      EXPECT_TRUE(state.step(chunks.chunk(t), workspace, serial_, kernels()).ok());
      support::merge(total, *whole.report);
    }
    copy_back(whole, written);
    written.report = total;
    return written;
  }

  std::vector<NamedResult> all_placed(const TestClip& clip, Places places) {
    std::vector<NamedResult> results;
    clip.for_each_operator([&](const char* name, const auto& p) {
      results.push_back({name, placed(p, places)});
    });
    results.push_back({"recurrent hybrid", placed(clip, RecurrentSchedule::hybrid, places)});
    results.push_back({"recurrent linear", placed(clip, RecurrentSchedule::linear, places)});
    return results;
  }

  SerialExecutor serial_;
};

/// Blocks of queries and keys that are full, and ones that are not; dims that vectors divide, and ones they
/// do not.
std::vector<TestClip> clips() {
  Random random(1);
  std::vector<TestClip> all;
  const auto add = [&](const Geometry& g, Features features, Stabilizer stabilizer) {
    all.emplace_back(random, g, features);
    all.back().stabilizer = stabilizer;
  };
  add({.batch = 2, .frames = 5, .tokens_per_frame = 11, .heads_per_kv = 2, .dim = 16, .value_dim = 32},
      Features::polynomial, Stabilizer::row_max);
  add({.frames = 5, .tokens_per_frame = 29, .overlap_frames = 3, .dim = 7, .value_dim = 19, .given_dim = 21},
      Features::given_separate, Stabilizer::none);
  return all;
}

TEST_P(RepeatTest, AtEveryAlignment) {
  for (const TestClip& clip : clips()) {
    const std::vector<NamedResult> expected = all_results(clip, kernels());
    for (std::size_t offset = 0; offset < cache_line; offset += 4) {
      SCOPED_TRACE(offset);
      support::expect_bit_equal(all_placed(clip, Places(offset, 0, {0})), expected);   // all blocks alike
      support::expect_bit_equal(all_placed(clip, Places(offset, 20, {0})), expected);  // each another
    }
  }
}

TEST_P(RepeatTest, AtAlignmentsOfTwoByteElements) {
  for (const TestClip& clip : clips()) {
    for (const ElementType type : {ElementType::bfloat16, ElementType::float16}) {
      SCOPED_TRACE(element_name(type));
      const std::vector<NamedResult> expected = all_placed(clip, Places(0, 0, {0}, type));
      for (std::size_t offset = 2; offset < cache_line; offset += 6) {
        SCOPED_TRACE(offset);
        support::expect_bit_equal(all_placed(clip, Places(offset, 22, {0}, type)), expected);
      }
    }
  }
}

/// Outputs, workspace and a new state's memory, whatever they held.
TEST_P(RepeatTest, OverStaleMemory) {
  std::vector<std::uint32_t> garbage;
  Random random(2);
  for (int i = 0; i < 997; ++i) garbage.push_back(static_cast<std::uint32_t>(random.integer(0, 0xffffffff)));
  const std::vector<std::uint32_t> stale[] = {{0},                       // zeros
                                              {0x7fc00000},              // NaN
                                              {support::canary_bits},    // a signalling one
                                              {0x7f800000, 0xff800000},  // infinities
                                              {0x7f7fffff, 0xff7fffff},  // the largest numbers
                                              {0x00000001, 0x807fffff},  // subnormals
                                              {0xffffffff},
                                              garbage};
  for (const TestClip& clip : clips()) {
    const std::vector<NamedResult> expected = all_results(clip, kernels());
    for (const std::vector<std::uint32_t>& words : stale) {
      SCOPED_TRACE(testing::Message() << "words like " << std::hex << words.front());
      support::expect_bit_equal(all_placed(clip, Places(0, 4, words)), expected);
    }
  }
}

/// In one pool and in many, in this thread and in another, after calls of other shapes and with NaN in them.
TEST_P(RepeatTest, InAnyThreadAndAfterOtherCalls) {
  const std::vector<TestClip> both = clips();
  std::vector<std::vector<NamedResult>> expected;
  for (const TestClip& clip : both) expected.push_back(all_results(clip, kernels()));
  TestClip poisoned = std::move(clips()[0]);
  poisoned.q[3] = poisoned.k[5] = poisoned.v[7] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    for (std::size_t i = 0; i < both.size(); ++i) {
      support::expect_bit_equal(all_results(both[i], kernels()), expected[i]);
      support::expect_bit_equal(all_results(both[i], pool, kernels()), expected[i]);
      std::thread([&] { support::expect_bit_equal(all_results(both[i], kernels()), expected[i]); }).join();
      all_results(poisoned, pool, kernels());
    }
  }
}

REHYAT_TEST_ALL_ISAS(RepeatTest);

}  // namespace
}  // namespace rehyat
