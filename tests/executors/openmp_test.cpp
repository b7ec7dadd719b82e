#include "rehyat/executors/openmp.hpp"

#include "host_executor_test.hpp"

namespace rehyat {
namespace {

class OpenMpHost {
 public:
  static constexpr bool tasks_may_call_run = true;
  explicit OpenMpHost(int slots) : executor_(slots) {}
  OpenMpExecutor& executor() { return executor_; }

 private:
  OpenMpExecutor executor_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(OpenMp, HostExecutorTest, OpenMpHost);

TEST(OpenMpExecutorTest, HasTheThreadsOfTheEnvironmentUnlessTold) {
  EXPECT_EQ(OpenMpExecutor().slots(), omp_get_max_threads());
  EXPECT_EQ(OpenMpExecutor(0).slots(), 1);
}

/// Teams inside a team, where the host has enabled them.
TEST(OpenMpExecutorTest, NestedTeams) {
  const int levels = omp_get_max_active_levels();
  omp_set_max_active_levels(2);
  OpenMpExecutor executor(3);
  auto outer = [&](std::int64_t, int) { support::expect_promises(executor, 60); };
  executor.run(4, outer);
  omp_set_max_active_levels(levels);
}

}  // namespace
}  // namespace rehyat
