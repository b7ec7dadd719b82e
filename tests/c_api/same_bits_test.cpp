// Every operator, from C and from C++: equal to the bit, reports and operation counts included.

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "c_api/outputs.hpp"
#include "rehyat/operation_count.hpp"
#include "rehyat/packed_weights.hpp"
#include "support/executors.hpp"

namespace rehyat {
namespace {

using namespace c_test;

template <class P>
void run_in_c(const P& p, const rehyat_executor& executor) {
  Arguments<typename CStruct<P>::type> a;
  to_c(p, a);
  with_functions(p, [&](auto workspace_bytes, auto attention, auto operations) {
    std::size_t bytes = 0;
    ASSERT_TRUE(ok(workspace_bytes(&a.c, executor.slots, &bytes)));
    EXPECT_EQ(bytes, *workspace_size(p, executor.slots));
    support::NanWorkspace workspace(bytes);
    ASSERT_TRUE(ok(attention(&a.c, workspace.get().data, bytes, &executor)));

    rehyat_operation_count count = {};
    ASSERT_TRUE(ok(operations(&a.c, &count)));
    const OperationCount expected = operation_count(p);
    EXPECT_EQ(count.softmax, expected.softmax);
    EXPECT_EQ(count.feature_map, expected.feature_map);
    EXPECT_EQ(count.read, expected.read);
    EXPECT_EQ(count.absorb, expected.absorb);
  });
  store(a.report, p.report);
}

TEST(CSameBits, Operators) {
  for (const std::uint64_t seed : support::seeds(60)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    Case c(random);
    const Arithmetic other = seed % 8 == 0 ? Arithmetic::float16 : Arithmetic::int8;
    if (seed % 4 == 0 && kernels_in(default_kernels(), other) != nullptr) c.clip.arithmetic = other;
    const support::TypedInputs inputs(c.clip, c.types);
    support::Shuffling shuffling(seed);
    const bool shuffles = random.coin();
    const rehyat_executor executor = shuffles ? executor_of(shuffling) : rehyat_serial_executor();
    c.clip.for_each_operator([&](const char* name, auto p) {
      SCOPED_TRACE(name);
      inputs.feed(p);
      Outputs expected(p, c.types.out), actual(p, c.types.out);
      expected.receive(p);
      support::run(p, default_kernels());
      actual.receive(p);
      run_in_c(p, executor);
      expect_equal(actual, expected);
    });
  }
}

/// Only what is asked for is written.
TEST(CSameBits, WithoutStatisticsAndReport) {
  Random random(1);
  const TestClip clip(random, Geometry{}, support::Features::elu1);
  HybridAttention p = clip.hybrid(Direction::causal);
  Outputs expected(p, ElementType::float32), actual(p, ElementType::float32);
  expected.receive(p);
  support::run(p, default_kernels());
  p.out = actual.out.output();
  p.statistics = {};
  p.report = nullptr;
  run_in_c(p, rehyat_serial_executor());
  EXPECT_TRUE(support::bit_equal(actual.out.values(), expected.out.values()));
}

TEST(CSameBits, PackedWeights) {
  for (const std::uint64_t seed : support::seeds(10)) {
    SCOPED_TRACE(support::replay(seed));
    Random random(seed);
    const TestClip clip(random, Geometry::random(random), support::Features::polynomial);
    rehyat_feature_map packed = to_c(clip.phi_k);
    std::size_t bytes = 0;
    ASSERT_TRUE(ok(rehyat_packed_weights_size(&packed, clip.geometry.dim, &bytes)));
    ASSERT_EQ(bytes, *packed_weights_size(clip.phi_k, clip.geometry.dim));
    std::vector<char> memory(bytes);
    ASSERT_TRUE(ok(rehyat_pack_weights(&packed, clip.geometry.dim, memory.data(), bytes, &packed)));
    EXPECT_EQ(packed.layout, REHYAT_WEIGHT_PANELS);

    HybridAttention p = clip.hybrid(Direction::causal);
    Written expected = support::evaluate(p, default_kernels());
    Written actual(p.q.batch, p.q.tokens, p.q.heads, p.v.dim);
    actual.receive(p);
    Arguments<rehyat_hybrid_parameters> a;
    to_c(p, a);
    a.c.phi_k = packed;
    const rehyat_executor executor = rehyat_serial_executor();
    ASSERT_TRUE(ok(rehyat_hybrid_workspace_size(&a.c, 1, &bytes)));
    std::vector<char> workspace(bytes);
    ASSERT_TRUE(ok(rehyat_hybrid_attention(&a.c, workspace.data(), bytes, &executor)));
    store(a.report, p.report);
    EXPECT_TRUE(support::bit_equal(actual, expected));
  }
}

}  // namespace
}  // namespace rehyat
