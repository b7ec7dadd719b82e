#pragma once
// Arrays cut from the scratch memory of a task, or measured where it has none yet.

#include "rehyat/kernel/arch.hpp"

REHYAT_BEGIN_ISA_NAMESPACE

/// Call it in the same order to measure and to place.
struct ScratchCutter {
  float* base;  ///< null: only measured
  int64_t used = 0;

  float* operator()(int64_t floats) {
    float* const p = base == nullptr ? nullptr : base + used;
    used += padded(floats);
    return p;
  }
};

REHYAT_END_ISA_NAMESPACE
