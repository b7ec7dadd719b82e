#pragma once

/// @file rehyat/c_api/implementation.hpp
/// The functions of rehyat/rehyat.h: for one translation unit of a program, which rehyat_add_c_api() in CMake
/// makes. Kernels as in C++: of the unit's own flags or, with rehyat_add_dispatch(), of the CPU.

#include "rehyat/c_api/executor.hpp"
#include "rehyat/c_api/operators.hpp"
#include "rehyat/c_api/recurrent.hpp"
#include "rehyat/c_api/saved_state.hpp"
#include "rehyat/c_api/tensor.hpp"
#include "rehyat/kernels.hpp"
#include "rehyat/rehyat.h"

#define REHYAT_TEXT(x) #x
#define REHYAT_VERSION_TEXT(major, minor, patch) \
  REHYAT_TEXT(major) "." REHYAT_TEXT(minor) "." REHYAT_TEXT(patch)

extern "C" const char* rehyat_version(void) {
  return REHYAT_VERSION_TEXT(REHYAT_VERSION_MAJOR, REHYAT_VERSION_MINOR, REHYAT_VERSION_PATCH);
}

#undef REHYAT_VERSION_TEXT
#undef REHYAT_TEXT

extern "C" rehyat_isa rehyat_active_isa(void) { return static_cast<rehyat_isa>(rehyat::active()); }

extern "C" int32_t rehyat_isa_available(rehyat_isa isa) {
  if (isa < 0 || isa >= rehyat::num_isas) return 0;
  return rehyat::available(static_cast<rehyat::Isa>(isa)) ? 1 : 0;
}

extern "C" const char* rehyat_isa_name(rehyat_isa isa) {
  if (isa < 0 || isa >= rehyat::num_isas) return nullptr;
  return rehyat::isa_name(static_cast<rehyat::Isa>(isa));
}
