#include "allocation_counter.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__has_feature)
#define REHYAT_TEST_HAS_FEATURE(x) __has_feature(x)
#else
#define REHYAT_TEST_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                           \
    REHYAT_TEST_HAS_FEATURE(address_sanitizer) || REHYAT_TEST_HAS_FEATURE(thread_sanitizer) || \
    REHYAT_TEST_HAS_FEATURE(memory_sanitizer) || !defined(__GLIBC__)
#define REHYAT_TEST_REPLACES_MALLOC 0
#else
#define REHYAT_TEST_REPLACES_MALLOC 1
#endif

namespace {

std::atomic<bool> armed{false};
std::atomic<std::int64_t> allocations{0};

}  // namespace

namespace rehyat::support {

AllocationCounter::AllocationCounter() {
  allocations = 0;
  armed = true;
}

AllocationCounter::~AllocationCounter() { stop(); }

std::int64_t AllocationCounter::stop() {
  armed = false;
  return allocations;
}

bool AllocationCounter::works() { return REHYAT_TEST_REPLACES_MALLOC == 1; }

}  // namespace rehyat::support

#if REHYAT_TEST_REPLACES_MALLOC

namespace {

void count() {
  if (armed.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

extern "C" {

void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* memory, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;

void* malloc(std::size_t size) noexcept {
  count();
  return __libc_malloc(size);
}

void* calloc(std::size_t number, std::size_t size) noexcept {
  count();
  return __libc_calloc(number, size);
}

void* realloc(void* memory, std::size_t size) noexcept {
  count();
  return __libc_realloc(memory, size);
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
  count();
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept { return memalign(alignment, size); }

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  void* result = memalign(alignment, size);
  if (result == nullptr) return ENOMEM;
  *memory = result;
  return 0;
}

}  // extern "C"

#endif
