#include "rehyat/executors/tbb.hpp"

#include <tbb/global_control.h>

#include "host_executor_test.hpp"

namespace rehyat {
namespace {

class TbbHost {
 public:
  static constexpr bool tasks_may_call_run = true;
  explicit TbbHost(int slots)
      : threads_(tbb::global_control::max_allowed_parallelism, 16), arena_(slots), executor_(arena_) {}
  TbbExecutor& executor() { return executor_; }

 private:
  tbb::global_control threads_;  // more than this machine may have cores
  tbb::task_arena arena_;
  TbbExecutor executor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Tbb, HostExecutorTest, TbbHost);

/// The host's own tasks in the same arena: a thread that waits for its phase must not start another of them.
TEST(TbbExecutorTest, WaitingTakesNoOtherTaskOfTheHost) {
  TbbHost host(3);
  tbb::task_arena arena(3);
  TbbExecutor executor(arena);
  std::atomic<int> interrupted{0};
  arena.execute([&] {
    tbb::parallel_for(0, 200, [&](int) {
      thread_local bool inside = false;
      if (inside) ++interrupted;
      inside = true;
      auto task = [](std::int64_t, int) { std::this_thread::yield(); };
      executor.run(3, task);
      inside = false;
    });
  });
  EXPECT_EQ(interrupted, 0);
}

}  // namespace
}  // namespace rehyat
