#include "rehyat/executors/pthreadpool.hpp"

#include <memory>

#include "host_executor_test.hpp"

namespace rehyat {
namespace {

class PthreadpoolHost {
 public:
  static constexpr bool tasks_may_call_run = false;
  explicit PthreadpoolHost(int slots)
      : pool_(pthreadpool_create(static_cast<std::size_t>(slots)), pthreadpool_destroy),
        executor_(pool_.get()) {}
  PthreadpoolExecutor& executor() { return executor_; }

 private:
  std::unique_ptr<pthreadpool, void (*)(pthreadpool_t)> pool_;
  PthreadpoolExecutor executor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Pthreadpool, HostExecutorTest, PthreadpoolHost);

TEST(PthreadpoolExecutorTest, NoPoolIsTheCallingThread) {
  PthreadpoolExecutor executor(nullptr);
  EXPECT_EQ(executor.slots(), 1);
  support::expect_promises(executor, 100);
  const std::thread::id caller = std::this_thread::get_id();
  auto task = [&](std::int64_t, int) { EXPECT_EQ(std::this_thread::get_id(), caller); };
  executor.run(10, task);
}

}  // namespace
}  // namespace rehyat
