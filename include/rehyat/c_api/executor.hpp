#pragma once
// Executors of C for the operators, and the library's for C.

#include <cstdint>
#include <new>

#include "rehyat/c_api/convert.hpp"
#include "rehyat/executor.hpp"
#include "rehyat/rehyat.h"
#include "rehyat/thread_pool.hpp"

struct rehyat_thread_pool {
  rehyat::ThreadPool pool;
};

namespace rehyat::c_api {

/// A caller's executor, checked, as the operators take it.
class CallersExecutor {
 public:
  explicit CallersExecutor(const rehyat_executor& executor) : executor_(executor) {}

  int slots() const { return executor_.slots; }
  void run(std::int64_t count, TaskRef task) const {
    executor_.run(executor_.context, count, run_task, &task);
  }

 private:
  static void run_task(void* task, std::int64_t index, std::int32_t slot) {
    (*static_cast<const TaskRef*>(task))(index, slot);
  }

  const rehyat_executor& executor_;
};

inline Status check_executor(const rehyat_executor* executor) {
  if (executor == nullptr) return detail::refuse_null("executor");
  if (executor->run == nullptr) {
    return Status::error(StatusCode::invalid_argument, "executor.run is null, expected a function");
  }
  return {};
}

inline void run_on_pool(void* pool, std::int64_t count, rehyat_task task, void* task_context) {
  const auto call_task = [&](std::int64_t index, int slot) { task(task_context, index, slot); };
  static_cast<ThreadPool*>(pool)->run(count, call_task);
}

}  // namespace rehyat::c_api

extern "C" rehyat_executor rehyat_serial_executor(void) {
  const auto run = [](void*, std::int64_t count, rehyat_task task, void* task_context) {
    for (std::int64_t i = 0; i < count; ++i) task(task_context, i, 0);
  };
  return {.slots = 1, .context = nullptr, .run = run};
}

extern "C" rehyat_thread_pool* rehyat_thread_pool_create(int32_t slots) {
#ifdef __cpp_exceptions
  try {
    return new (std::nothrow) rehyat_thread_pool{rehyat::ThreadPool(slots)};
  } catch (...) {
    return nullptr;
  }
#else
  return new (std::nothrow) rehyat_thread_pool{rehyat::ThreadPool(slots)};
#endif
}

extern "C" void rehyat_thread_pool_destroy(rehyat_thread_pool* pool) { delete pool; }

extern "C" rehyat_executor rehyat_thread_pool_executor(rehyat_thread_pool* pool) {
  if (pool == nullptr) return {};
  return {.slots = pool->pool.slots(), .context = &pool->pool, .run = rehyat::c_api::run_on_pool};
}
