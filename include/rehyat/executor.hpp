#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "rehyat/config.hpp"

namespace rehyat {

/// A borrowed callable `void(index, slot)`: one task of a phase. Two words, no allocation; it must not
/// outlive what it was made from.
class TaskRef {
 public:
  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, TaskRef> && std::invocable<F&, std::int64_t, int>)
      TaskRef(F& function)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
        call_([](void* object, std::int64_t index, int slot) { (*static_cast<F*>(object))(index, slot); }) {}

  void operator()(std::int64_t index, int slot) const { call_(object_, index, slot); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, int);
};

/// Runs the tasks of a phase. `run(count, task)` calls `task(index, slot)` exactly once for every index in
/// [0, count), in any order and on any threads, and returns when all have returned; the effects of the tasks
/// are then visible to the caller. `slot` names the worker: in [0, slots()), and no two tasks that run at the
/// same time share one, because each slot has its own scratch memory. Results never depend on the order or
/// the workers.
template <class E>
concept Executor = requires(E& executor, std::int64_t count, TaskRef task) {
  { executor.slots() } -> std::convertible_to<int>;
  executor.run(count, task);
};

/// Runs every task on the calling thread.
struct SerialExecutor {
  int slots() const { return 1; }
  void run(std::int64_t count, TaskRef task) const {
    for (std::int64_t i = 0; i < count; ++i) task(i, 0);
  }
};

/// A borrowed executor of any type: what the operators hold, so that they are compiled once and not per
/// executor.
class ExecutorRef {
 public:
  template <Executor E>
  requires(!std::same_as<std::remove_cvref_t<E>, ExecutorRef>) ExecutorRef(E& executor)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(executor)))),
        slots_(static_cast<int>(executor.slots())),
        run_([](void* object, std::int64_t count, TaskRef task) {
          static_cast<E*>(object)->run(count, task);
        }) {}

  int slots() const { return slots_; }
  void run(std::int64_t count, TaskRef task) const {
    if (count > 0) run_(object_, count, task);
  }

 private:
  void* object_;
  int slots_;
  void (*run_)(void*, std::int64_t, TaskRef);
};

}  // namespace rehyat
