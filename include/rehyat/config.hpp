#pragma once
// What every header of rehyat relies on: a compiler that keeps IEEE arithmetic, and a way to force inlining.

#ifdef __FAST_MATH__
#error \
    "rehyat must not be compiled with -ffast-math: its NaN, infinity and bit-equality promises would not hold"
#endif

#if __cplusplus < 202002L
#error "rehyat needs C++20"
#endif

#if !defined(__GNUC__) && !defined(__clang__)
#error "rehyat is written for GCC and Clang"
#endif

/// Forces a call to disappear. The register tiles live in such functions: not inlined, they would go to
/// memory.
#define REHYAT_INLINE inline __attribute__((always_inline))
