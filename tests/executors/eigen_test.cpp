#include "rehyat/executors/eigen.hpp"

#include "host_executor_test.hpp"

namespace rehyat {
namespace {

class EigenHost {
 public:
  static constexpr bool tasks_may_call_run = true;
  explicit EigenHost(int slots) : pool_(slots), executor_(pool_) {}
  EigenExecutor& executor() { return executor_; }

 private:
  Eigen::ThreadPool pool_;
  EigenExecutor executor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Eigen, HostExecutorTest, EigenHost);

TEST(EigenExecutorTest, SlotsOfTheHostsChoice) {
  Eigen::ThreadPool pool(2);
  for (const int slots : {1, 3, 7}) {
    EigenExecutor executor(pool, slots);
    EXPECT_EQ(executor.slots(), slots);
    support::expect_promises(executor, 500);
  }
  EXPECT_EQ(EigenExecutor(pool, 0).slots(), 1);
}

/// Every thread of the pool inside a task of the host's that runs phases: none is left to help.
TEST(EigenExecutorTest, AllThreadsOfThePoolMayCallRunAtOnce) {
  Eigen::ThreadPool pool(3);
  EigenExecutor executor(pool);
  Eigen::Barrier done(3);
  std::atomic<int> arrived{0};
  for (int i = 0; i < 3; ++i) {
    pool.Schedule([&] {
      ++arrived;
      while (arrived < 3) std::this_thread::yield();
      support::expect_promises(executor, 100);
      done.Notify();
    });
  }
  done.Wait();
}

}  // namespace
}  // namespace rehyat
