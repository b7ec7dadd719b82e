// Whatever C++ refuses C refuses with the same code and message; and what only C can get wrong is refused by
// name. Nothing is written then.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "c_api/outputs.hpp"
#include "rehyat/io/state_file.hpp"
#include "rehyat/operation_count.hpp"
#include "rehyat/packed_weights.hpp"

namespace rehyat {
namespace {

using namespace c_test;

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t too_many[] = {1, 5}, negative[] = {-1, 2}, none[] = {0, 0};

constexpr Geometry geometry{
    .batch = 2, .frames = 4, .tokens_per_frame = 3, .heads_per_kv = 2, .dim = 6, .value_dim = 5};

void expect_same(const rehyat_status& c, const Status& cpp) {
  EXPECT_EQ(c.code, static_cast<rehyat_status_code>(cpp.code()));
  EXPECT_STREQ(c.message, cpp.message());
}

void expect_refused(const rehyat_status& status, const std::string& message) {
  EXPECT_EQ(status.code, REHYAT_INVALID_ARGUMENT);
  EXPECT_EQ(status.message, message);
}

/// Calls spoil(change) with changes that make an operator's parameters, or a chunk, unacceptable.
template <class P, class Spoil>
void for_each_mistake(Spoil spoil) {
  spoil([](P& p) { p.q.dim = 0; });
  spoil([](P& p) { p.q.batch = 0; });
  spoil([](P& p) { p.q.heads = 5; });
  spoil([](P& p) { p.q.tokens = -1; });
  spoil([](P& p) { p.k.tokens = 7; });
  spoil([](P& p) { p.v.dim = 513; });
  spoil([](P& p) { p.out.dim = 6; });
  spoil([](P& p) { p.q.data = nullptr; });
  spoil([](P& p) { p.out.data = nullptr; });
  spoil([](P& p) { p.k.token_stride = huge / 2; });
  spoil([](P& p) { p.out.token_stride = 0; });
  spoil([](P& p) { p.statistics.row_max.heads = 1; });
  spoil([](P& p) { p.statistics.linear_denominator.batch_stride = 1; });
  if constexpr (requires(P p) { p.scale; }) {
    spoil([](P& p) { p.scale = nan; });
    spoil([](P& p) { p.scale = 3e38f; });
  }
  if constexpr (requires(P p) { p.query_tokens; }) {
    spoil([](P& p) { p.query_tokens = negative; });
    spoil([](P& p) { p.key_tokens = none; });
  }
  if constexpr (requires(P p) { p.frames; }) {
    spoil([](P& p) { p.frames = too_many; });
    spoil([](P& p) { p.frames = negative; });
  }
  if constexpr (requires(P p) { p.tokens; }) spoil([](P& p) { p.tokens = negative; });
  if constexpr (requires(P p) { p.rate; }) spoil([](P& p) { p.rate = 0; });
  if constexpr (requires(P p) { p.chunking; }) {
    spoil([](P& p) { p.chunking.tokens_per_frame = 0; });
    spoil([](P& p) { p.chunking.tokens_per_frame = 5; });
    spoil([](P& p) { p.chunking.chunk_frames = 0; });
    spoil([](P& p) { p.chunking.overlap_frames = -1; });
  }
  if constexpr (requires(P p) { p.phi_q; }) {
    spoil([](P& p) { p.phi_q = {}; });
    spoil([](P& p) { p.phi_k = FeatureMap::given(3); });
    spoil([](P& p) { p.phi_q.kind = FeatureMap::Kind::polynomial; });
    spoil([](P& p) { p.denominator_epsilon = -1; });
    spoil([](P& p) { p.denominator_floor = nan; });
  }
  if constexpr (requires(P p) {
                  p.given;
                  p.phi_q;
                }) {
    spoil([](P& p) { p.phi_q = p.phi_k = FeatureMap::given(3); });
  }
  if constexpr (requires(P p) {
                  p.stabilizer;
                  p.denominator_floor;
                }) {
    spoil([](P& p) { p.stabilizer = Stabilizer::none, p.denominator_floor = 1; });
  }
}

class CMessages : public testing::Test {
 protected:
  Random random_{1};
  TestClip clip_{random_, geometry, support::Features::elu1};
  std::vector<char> workspace_ = std::vector<char>(1 << 20);
  SerialExecutor serial_;
  rehyat_executor executor_ = rehyat_serial_executor();
};

TEST_F(CMessages, OfOperators) {
  clip_.for_each_operator([&](const char* name, auto good) {
    SCOPED_TRACE(name);
    using P = decltype(good);
    Written written(good.q.batch, good.q.tokens, good.q.heads, good.v.dim);
    written.receive(good);
    const Written before = written;
    int number = 0;
    for_each_mistake<P>([&](auto change) {
      SCOPED_TRACE(number++);
      P bad = good;
      change(bad);
      const Result<std::size_t> size = workspace_size(bad, 1);  // without memory for the tensors it has one
      const Status refused =
          support::call(bad, {workspace_.data(), workspace_.size()}, serial_, default_kernels());
      ASSERT_FALSE(refused.ok());
      Arguments<typename CStruct<P>::type> a;
      to_c(bad, a);
      with_functions(bad, [&](auto workspace_bytes, auto attention, auto operations) {
        std::size_t bytes = 77;
        expect_same(workspace_bytes(&a.c, 1, &bytes), size.status());
        EXPECT_EQ(bytes, size.ok() ? *size : 77u);
        expect_same(attention(&a.c, workspace_.data(), workspace_.size(), &executor_), refused);
        EXPECT_EQ(a.report.nan_count, -1);
        rehyat_operation_count count = {.softmax = -1, .feature_map = -1, .read = -1, .absorb = -1};
        expect_same(operations(&a.c, &count), size.status());
        EXPECT_EQ(count.softmax, size.ok() ? operation_count(bad).softmax : -1);
      });
    });
    EXPECT_TRUE(support::bit_equal(written, before));

    Arguments<typename CStruct<P>::type> a;
    to_c(good, a);
    with_functions(good, [&](auto workspace_bytes, auto attention, auto) {
      std::size_t bytes = 0;
      expect_same(workspace_bytes(&a.c, 0, &bytes), workspace_size(good, 0).status());
      expect_same(attention(&a.c, nullptr, 100, &executor_),
                  support::call(good, {nullptr, 100}, serial_, default_kernels()));
      expect_same(attention(&a.c, workspace_.data(), 100, &executor_),
                  support::call(good, {workspace_.data(), 100}, serial_, default_kernels()));
    });
  });
}

TEST_F(CMessages, OfARecurrence) {
  const auto refused_alike = [](const RecurrentConfig& config) {
    const Status expected = RecurrentState::size_bytes(config).status();
    ASSERT_FALSE(expected.ok());
    const rehyat_recurrent_config c = to_c(config);
    std::size_t bytes = 0;
    expect_same(rehyat_recurrent_size(&c, &bytes), expected);
    expect_same(rehyat_recurrent_workspace_size(&c, 1, &bytes), expected);
    rehyat_recurrent_state* state = nullptr;
    expect_same(rehyat_recurrent_create(&c, nullptr, 0, &state), expected);
    EXPECT_EQ(state, nullptr);
  };
  const RecurrentConfig good = clip_.recurrent(RecurrentSchedule::hybrid);
  const auto spoiled = [&](auto change) {
    RecurrentConfig config = good;
    change(config);
    refused_alike(config);
  };
  spoiled([](auto& c) { c.batch = 0; });
  spoiled([](auto& c) { c.heads = 0; });
  spoiled([](auto& c) { c.kv_heads = 3; });
  spoiled([](auto& c) { c.head_dim = 513; });
  spoiled([](auto& c) { c.value_dim = 0; });
  spoiled([](auto& c) { c.chunking.chunk_frames = 0; });
  spoiled([](auto& c) { c.chunking.overlap_frames = huge; });
  spoiled([](auto& c) { c.schedule = RecurrentSchedule::linear; });
  spoiled([](auto& c) { c.phi_k = {}; });
  spoiled([](auto& c) { c.separate_denominator = true; });
  spoiled([](auto& c) { c.stabilizer = Stabilizer::none, c.denominator_epsilon = 1; });
  spoiled([](auto& c) { c.scale = nan; });

  const rehyat_recurrent_config config = to_c(good);
  std::size_t bytes = 0;
  ASSERT_TRUE(ok(rehyat_recurrent_size(&config, &bytes)));
  std::vector<double> memory(bytes / 8 + 1), cpp_memory(memory);
  rehyat_recurrent_state* state = nullptr;
  const auto create = [&](void* data, std::size_t size) {
    return rehyat_recurrent_create(&config, data, size, &state);
  };
  expect_refused(create(nullptr, bytes), "data is null, expected memory");
  expect_refused(create(reinterpret_cast<char*>(memory.data()) + 4, bytes), "data modulo 8 is 4, expected 0");
  expect_refused(
      create(memory.data(), bytes - 1),
      "size is " + std::to_string(bytes - 1) + ", expected at least " + std::to_string(bytes) + " bytes");
  ASSERT_TRUE(ok(create(memory.data(), bytes)));
  RecurrentState cpp = *RecurrentState::create(good, cpp_memory.data(), cpp_memory.size() * 8);

  Written written(good.batch, clip_.geometry.tokens(), good.heads, good.value_dim);
  RecurrentChunk chunk;
  chunk.q = clip_.q_view(), chunk.k = clip_.k_view(), chunk.v = clip_.v_view();
  written.receive(chunk);
  for (auto* view : {&chunk.q, &chunk.k, &chunk.v}) *view = view->slice_tokens(0, 6);
  chunk.out = chunk.out.slice_tokens(0, 6);
  for (auto* view :
       {&chunk.statistics.row_max, &chunk.statistics.row_sum, &chunk.statistics.linear_denominator}) {
    *view = view->slice_tokens(0, 6);
  }
  const Workspace workspace{workspace_.data(), workspace_.size()};
  int number = 0;
  for_each_mistake<RecurrentChunk>([&](auto change) {
    SCOPED_TRACE(number++);
    RecurrentChunk bad = chunk;
    change(bad);
    Arguments<rehyat_recurrent_chunk> a;
    to_c(bad, a);
    const Status expected = cpp.peek(bad, workspace, serial_);
    ASSERT_FALSE(expected.ok());
    expect_same(rehyat_recurrent_peek(state, &a.c, workspace.data, workspace.size, &executor_), expected);
    expect_same(rehyat_recurrent_step(state, &a.c, workspace.data, workspace.size, &executor_), expected);
  });

  expect_same(rehyat_recurrent_reset_entry(state, 2), cpp.reset(2));
  expect_same(rehyat_recurrent_copy_entry(state, -1, state, 0), cpp.copy_entry(-1, cpp, 0));
  expect_same(rehyat_recurrent_copy_entry(state, 0, state, 2), cpp.copy_entry(0, cpp, 2));
  std::int64_t frames = 0;
  std::int32_t finished = 0;
  expect_same(rehyat_recurrent_frames_seen(state, 2, &frames), cpp.reset(2));
  expect_same(rehyat_recurrent_finished(state, -1, &finished), cpp.reset(-1));

  std::vector<std::byte> file(state_file_size(cpp));
  expect_same(rehyat_recurrent_save(state, nullptr, 5), save_state(cpp, std::span<std::byte>()));
  expect_same(rehyat_recurrent_save(state, file.data(), 5), save_state(cpp, std::span(file).first(5)));
  expect_same(rehyat_recurrent_save_entry(state, 7, file.data(), 5),
              save_entry(cpp, 7, std::span(file).first(5)));
  expect_same(rehyat_recurrent_restore(state, file.data(), file.size()), restore_state(cpp, file));
  expect_same(rehyat_recurrent_restore(state, nullptr, 0), restore_state(cpp, std::span<std::byte>()));
  expect_same(rehyat_recurrent_restore_entry(state, 3, file.data(), file.size(), 0),
              restore_entry(cpp, 3, file, 0));
}

TEST_F(CMessages, OfPackedWeights) {
  const TestClip clip(random_, geometry, support::Features::polynomial);
  std::size_t bytes = 0;
  rehyat_feature_map packed = rehyat_feature_map_defaults();
  for (const FeatureMap& map : {FeatureMap::elu1(), FeatureMap{}}) {
    const rehyat_feature_map c = to_c(map);
    expect_same(rehyat_packed_weights_size(&c, 6, &bytes), packed_weights_size(map, 6).status());
    expect_same(rehyat_pack_weights(&c, 6, nullptr, 0, &packed), pack_weights(map, 6, {}).status());
  }
  const rehyat_feature_map c = to_c(clip.phi_q);
  expect_same(rehyat_packed_weights_size(&c, 0, &bytes), packed_weights_size(clip.phi_q, 0).status());
  expect_same(rehyat_pack_weights(&c, 6, nullptr, 0, &packed), pack_weights(clip.phi_q, 6, {}).status());
  expect_same(rehyat_pack_weights(&c, 6, workspace_.data(), 9, &packed),
              pack_weights(clip.phi_q, 6, {workspace_.data(), 9}).status());
}

}  // namespace
}  // namespace rehyat
