#pragma once
// What every adapter to a host's threads must do. A program defines a Host: it is made with the number of
// slots, owns what the adapter borrows, and has
//   executor()           the adapter
//   tasks_may_call_run   whether the executor may be used by its own tasks

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "rehyat/executor.hpp"
#include "support/all_results.hpp"
#include "support/executor_promises.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat {

template <class Host>
class HostExecutorTest : public testing::Test {};

TYPED_TEST_SUITE_P(HostExecutorTest);

TYPED_TEST_P(HostExecutorTest, EveryIndexOnceInASlotOfItsOwn) {
  for (const int slots : {1, 2, 3, 8}) {
    TypeParam host(slots);
    auto& executor = host.executor();
    static_assert(Executor<decltype(executor)>);
    EXPECT_EQ(executor.slots(), slots);
    for (const std::int64_t count : {0, 1, 2, 7, 8, 9, 1000, 20000})
      support::expect_promises(executor, count);
  }
}

/// One call after another; what tasks wrote without synchronisation is read after each.
TYPED_TEST_P(HostExecutorTest, EffectsAreVisibleWhenRunReturns) {
  TypeParam host(4);
  std::vector<std::int64_t> parts(5);
  for (std::int64_t phase = 0; phase < 200; ++phase) {
    auto task = [&](std::int64_t index, int) { parts[static_cast<std::size_t>(index)] += index + phase; };
    host.executor().run(5, task);
    for (std::int64_t i = 0; i < 5; ++i) {
      ASSERT_EQ(parts[static_cast<std::size_t>(i)], (phase + 1) * i + phase * (phase + 1) / 2);
    }
  }
}

TYPED_TEST_P(HostExecutorTest, ThreadsWorkTogether) {
  TypeParam host(3);
  std::atomic<int> arrived{0};
  auto wait_for_all = [&](std::int64_t, int) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  };
  host.executor().run(3, wait_for_all);  // never returns if fewer than 3 threads take tasks
  EXPECT_EQ(arrived, 3);
}

TYPED_TEST_P(HostExecutorTest, SeveralThreadsMayUseOneExecutor) {
  TypeParam host(3);
  std::vector<std::thread> users;
  for (int i = 0; i < 3; ++i) {
    users.emplace_back([&host] {
      for (int phase = 0; phase < 20; ++phase) support::expect_promises(host.executor(), 40);
    });
  }
  for (std::thread& t : users) t.join();
}

TYPED_TEST_P(HostExecutorTest, TasksMayCallRun) {
  if (!TypeParam::tasks_may_call_run) GTEST_SKIP() << "not with this one";
  TypeParam host(3);
  auto outer = [&](std::int64_t, int) { support::expect_promises(host.executor(), 60); };
  for (int phase = 0; phase < 20; ++phase) host.executor().run(8, outer);
}

/// All operators and both recurrences, of clips with counts that differ between batch entries.
TYPED_TEST_P(HostExecutorTest, TheBitsOfTheSerialExecutor) {
  TypeParam two(2), five(5);
  for (const std::uint64_t seed : support::seeds(12)) {
    SCOPED_TRACE(support::replay(seed));
    support::Random random(seed);
    support::Geometry geometry = support::Geometry::random(random);
    geometry.batch = 2;
    const support::TestClip clip = support::TestClip::random(random, geometry);
    const Kernels& kernels = default_kernels();
    const std::vector<support::NamedResult> expected = support::all_results(clip, kernels);
    support::expect_bit_equal(support::all_results(clip, two.executor(), kernels), expected);
    support::expect_bit_equal(support::all_results(clip, five.executor(), kernels), expected);
  }
}

REGISTER_TYPED_TEST_SUITE_P(HostExecutorTest, EveryIndexOnceInASlotOfItsOwn, EffectsAreVisibleWhenRunReturns,
                            ThreadsWorkTogether, SeveralThreadsMayUseOneExecutor, TasksMayCallRun,
                            TheBitsOfTheSerialExecutor);

}  // namespace rehyat
