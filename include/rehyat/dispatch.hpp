#pragma once
// Run-time choice of the instruction set, for targets that called rehyat_add_dispatch() in CMake: it compiles
// one small unit per ISA and defines REHYAT_DISPATCH_<ISA>=1 for each.

#include <atomic>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "rehyat/kernel/kernel_table.hpp"
#include "rehyat/status.hpp"

namespace rehyat {

namespace dispatch {
const Kernels* kernels_scalar();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_neon();

#if defined(__x86_64__) || defined(__i386__)
/// Clang 14 does not know its name.
inline bool cpu_has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

/// Whether this CPU (and its operating system) runs the ISA's code.
inline bool cpu_has(Isa isa) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();  // whoever asks may come before the compiler's own initialiser
#endif
  switch (isa) {
    case Isa::scalar:
      return true;
#if defined(__x86_64__) || defined(__i386__)
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpu_has_f16c();
    case Isa::avx512:
      return cpu_has(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
             __builtin_cpu_supports("avx512vl");
#elif defined(__aarch64__)
    case Isa::neon:
      return true;
#endif
    default:
      return false;
  }
}

/// The ISA's table if it was built into this program, else null.
inline const Kernels* built_in(Isa isa) {
  switch (isa) {
#ifdef REHYAT_DISPATCH_SCALAR
    case Isa::scalar:
      return kernels_scalar();
#endif
#ifdef REHYAT_DISPATCH_AVX2
    case Isa::avx2:
      return kernels_avx2();
#endif
#ifdef REHYAT_DISPATCH_AVX512
    case Isa::avx512:
      return kernels_avx512();
#endif
#ifdef REHYAT_DISPATCH_NEON
    case Isa::neon:
      return kernels_neon();
#endif
    default:
      return nullptr;
  }
}
}  // namespace dispatch

/// Whether an ISA is built into this program and had by this CPU.
inline bool available(Isa isa) { return dispatch::built_in(isa) != nullptr && dispatch::cpu_has(isa); }

/// The kernels of an ISA by name ("scalar", "avx2", "avx512", "neon"), or of the best one ("auto"). An
/// unknown name, an ISA that is not built in or one that the CPU lacks is an error that says which of these
/// it is.
inline Result<const Kernels*> find_kernels(const char* name) {
  const bool best = std::strcmp(name, "auto") == 0;
  for (const Isa isa : {Isa::avx512, Isa::avx2, Isa::neon, Isa::scalar}) {
    if (!best && std::strcmp(name, isa_name(isa)) != 0) continue;
    if (available(isa)) return dispatch::built_in(isa);
    if (best) continue;
    return Status::error(
        StatusCode::unsupported_isa, "isa is %s, which %s", name,
        dispatch::built_in(isa) == nullptr ? "is not built into this program" : "this CPU does not have");
  }
  if (best)
    return Status::error(StatusCode::unsupported_isa, "isa is auto, but no built-in one runs on this CPU");
  return Status::error(StatusCode::unsupported_isa, "isa is %s, expected auto, scalar, avx2, avx512 or neon",
                       name);
}

/// The kernels in use, chosen once at the first call: the ISA that the environment variable REHYAT_ISA names,
/// else the best. An unusable REHYAT_ISA ends the program with its message: running something else in silence
/// would be worse.
inline const Kernels& active_kernels() {
  static constinit std::atomic<const Kernels*> chosen{nullptr};
  const Kernels* kernels = chosen.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    const char* forced = std::getenv("REHYAT_ISA");
    const Result<const Kernels*> found = find_kernels(forced == nullptr || *forced == '\0' ? "auto" : forced);
    if (!found.ok()) {
      std::fprintf(stderr, "rehyat: REHYAT_ISA: %s\n", found.status().message());
      std::abort();
    }
    kernels = *found;
    chosen.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

/// The ISA in use.
inline Isa active() { return active_kernels().isa; }

}  // namespace rehyat
