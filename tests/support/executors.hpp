#pragma once
// Executors that do what the concept allows and the library's own never do.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "random.hpp"
#include "rehyat/executor.hpp"

namespace rehyat::support {

/// Hands on to another executor and remembers the largest phase.
template <class E>
class Watching {
 public:
  explicit Watching(E& executor) : executor_(executor) {}
  int slots() const { return executor_.slots(); }
  void run(std::int64_t count, TaskRef task) {
    most_tasks = std::max(most_tasks, count);
    executor_.run(count, task);
  }

  std::int64_t most_tasks = 0;

 private:
  E& executor_;
};

/// One task at a time, in random order, in random slots.
class Shuffling {
 public:
  explicit Shuffling(std::uint64_t seed) : random_(seed) {}
  int slots() const { return 5; }
  void run(std::int64_t count, TaskRef task) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    for (std::int64_t i = count - 1; i > 0; --i) {
      std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random_.integer(0, i))]);
    }
    for (const std::int64_t index : order) task(index, static_cast<int>(random_.integer(0, 4)));
  }

 private:
  Random random_;
};

/// Workspace for more slots than are ever used.
struct Wasteful {
  int slots() const { return 9; }
  void run(std::int64_t count, TaskRef task) const {
    for (std::int64_t i = 0; i < count; ++i) task(i, 4);
  }
};

}  // namespace rehyat::support
