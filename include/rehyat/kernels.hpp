#pragma once
// Which kernels run. Two ways in: headers alone give the ISA of the including unit's flags; with
// rehyat_add_dispatch() (REHYAT_DISPATCH is then defined) the best ISA of the CPU is picked at run time.

#include "rehyat/kernel/kernel_table.hpp"

#ifdef REHYAT_DISPATCH
#include "rehyat/dispatch.hpp"
#else
#include "rehyat/kernel/instantiate.hpp"
#endif

namespace rehyat {

/// The kernels that operators use unless told otherwise.
inline const Kernels& default_kernels() {
#ifdef REHYAT_DISPATCH
  return active_kernels();
#else
  return kernel::native_table;
#endif
}

}  // namespace rehyat
