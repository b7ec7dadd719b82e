// What operators rely on: every index once, a slot to one task at a time, all done when run() returns.

#include "rehyat/executor.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <thread>
#include <vector>

#include "rehyat/thread_pool.hpp"
#include "support/executor_promises.hpp"
#include "support/executors.hpp"

namespace rehyat {
namespace {

static_assert(Executor<SerialExecutor> && Executor<const SerialExecutor> && Executor<ThreadPool> &&
              Executor<ExecutorRef>);
static_assert(Executor<support::Shuffling> && Executor<support::Watching<ThreadPool>>);
static_assert(!Executor<int>);
static_assert(!std::copyable<ThreadPool>);

using support::expect_promises;

TEST(ExecutorTest, EveryIndexOnceInASlotOfItsOwn) {
  SerialExecutor serial;
  for (const std::int64_t count : {0, 1, 2, 1000}) expect_promises(serial, count);
  for (const int slots : {1, 2, 3, 7, 16}) {
    ThreadPool pool(slots);
    for (const std::int64_t count : {0, 1, 2, 6, 7, 8, 1000, 20000}) expect_promises(pool, count);
  }
}

TEST(ExecutorTest, ManySmallPhases) {
  ThreadPool pool(4);
  std::int64_t sum = 0;  // written by tasks, read between phases: run() must order them
  std::vector<std::int64_t> parts(3);
  for (std::int64_t phase = 0; phase < 5000; ++phase) {
    auto task = [&](std::int64_t index, int) { parts[static_cast<std::size_t>(index)] += index + phase; };
    pool.run(3, task);
  }
  for (const std::int64_t p : parts) sum += p;
  EXPECT_EQ(sum, 3 * (5000LL * 4999 / 2) + 3 * 5000);
}

TEST(ExecutorTest, ThreadsWorkTogether) {
  ThreadPool pool(3);
  std::atomic<int> arrived{0};
  auto wait_for_all = [&](std::int64_t, int) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  };
  pool.run(3, wait_for_all);  // never returns if fewer than 3 threads take tasks
  EXPECT_EQ(arrived, 3);
}

TEST(ExecutorTest, SlotsBelowOneCountAsOne) {
  for (const int slots : {0, -5}) {
    ThreadPool pool(slots);
    EXPECT_EQ(pool.slots(), 1);
    expect_promises(pool, 10);
  }
}

TEST(ExecutorTest, OneSlotRunsOnTheCaller) {
  const std::thread::id caller = std::this_thread::get_id();
  bool elsewhere = false;
  auto task = [&](std::int64_t, int) { elsewhere = elsewhere || std::this_thread::get_id() != caller; };
  ThreadPool pool(1);
  pool.run(100, task);
  SerialExecutor().run(100, task);
  EXPECT_FALSE(elsewhere);
}

TEST(ExecutorTest, SerialRunsInOrder) {
  std::vector<std::int64_t> order;
  auto task = [&](std::int64_t index, int slot) {
    EXPECT_EQ(slot, 0);
    order.push_back(index);
  };
  SerialExecutor().run(4, task);
  EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3}));
}

TEST(ExecutorTest, ATaskRefBorrowsWhatItIsMadeFrom) {
  struct Counter {
    std::int64_t total = 0;
    void operator()(std::int64_t index, int slot) { total += 100 * index + slot; }
  } counter;
  const TaskRef task(counter), copy = task;
  task(3, 1);
  copy(2, 5);
  EXPECT_EQ(counter.total, 506);
  const auto read_only = [](std::int64_t, int) {};
  TaskRef{read_only}(0, 0);
  static_assert(sizeof(TaskRef) == 2 * sizeof(void*));
}

TEST(ExecutorTest, AnExecutorRefHandsOn) {
  ThreadPool pool(3);
  support::Watching watching(pool);
  ExecutorRef executor(watching);
  EXPECT_EQ(executor.slots(), 3);
  expect_promises(executor, 500);
  EXPECT_EQ(watching.most_tasks, 500);
  auto never = [](std::int64_t, int) { ADD_FAILURE() << "no task was asked for"; };
  executor.run(0, never);
}

}  // namespace
}  // namespace rehyat
