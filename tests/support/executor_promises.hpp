#pragma once
// What operators rely on: every index once, a slot to one task at a time.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace rehyat::support {

/// Runs phases of `count` tasks and checks what an executor promises.
template <class E>
void expect_promises(E& executor, std::int64_t count) {
  std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
  std::vector<std::atomic<int>> busy(static_cast<std::size_t>(executor.slots()));
  std::atomic<int> shared_slots{0}, bad_slots{0};
  auto task = [&](std::int64_t index, int slot) {
    if (slot < 0 || slot >= executor.slots()) {
      ++bad_slots;
      return;
    }
    std::atomic<int>& users = busy[static_cast<std::size_t>(slot)];
    if (users.fetch_add(1) != 0) ++shared_slots;
    ++calls[static_cast<std::size_t>(index)];
    if (index % 64 == 0) std::this_thread::yield();
    users.fetch_sub(1);
  };
  executor.run(count, task);
  EXPECT_EQ(bad_slots, 0);
  EXPECT_EQ(shared_slots, 0);
  for (const std::atomic<int>& n : calls) ASSERT_EQ(n, 1);
}

}  // namespace rehyat::support
