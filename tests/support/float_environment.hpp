#pragma once
// The floating-point environment of a thread, as a host may have set it: rounding, and whether subnormals are
// flushed.

#include <fenv.h>

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace rehyat::support {

/// The control register of vector and scalar arithmetic: MXCSR on x86 (without the sticky exception flags,
/// which any arithmetic sets), FPCR on 64-bit ARM.
inline std::uint64_t float_control() {
#if defined(__SSE2__)
  return _mm_getcsr() & ~std::uint64_t{_MM_EXCEPT_MASK};
#elif defined(__aarch64__)
  std::uint64_t bits;
  __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
  return bits;
#endif
}

inline void set_float_control(std::uint64_t bits) {
#if defined(__SSE2__)
  _mm_setcsr(static_cast<unsigned>(bits) | (_mm_getcsr() & _MM_EXCEPT_MASK));
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(bits) : "memory");
#endif
}

/// An environment that a host may have set.
struct FloatEnvironment {
  const char* name;
  int rounding;  ///< for fesetround()
  bool flush;  ///< subnormal results become 0 (x86: FTZ), and subnormal operands count as 0 (DAZ); both with
               ///< ARM's FZ
};

inline constexpr FloatEnvironment other_environments[] = {{"flush", FE_TONEAREST, true},
                                                          {"upward", FE_UPWARD, false},
                                                          {"downward", FE_DOWNWARD, false},
                                                          {"flush, toward zero", FE_TOWARDZERO, true}};

/// The calling thread's environment is another one for as long as this lives.
class ScopedEnvironment {
 public:
  explicit ScopedEnvironment(const FloatEnvironment& e)
      : before_(float_control()), rounding_before_(fegetround()) {
    fesetround(e.rounding);
    if (e.flush) set_float_control(float_control() | flush_bits);
  }
  ~ScopedEnvironment() {
    fesetround(rounding_before_);
    set_float_control(before_);
  }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

 private:
#if defined(__SSE2__)
  static constexpr std::uint64_t flush_bits = 0x8040;  // FTZ, DAZ
#else
  static constexpr std::uint64_t flush_bits = 1u << 24;  // FZ
#endif
  std::uint64_t before_;
  int rounding_before_;
};

}  // namespace rehyat::support
