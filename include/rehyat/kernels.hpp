#pragma once
// Which kernels run. Two ways in: headers alone give the ISA of the including unit's flags; with
// rehyat_add_dispatch() (REHYAT_DISPATCH is then defined) the best ISA of the CPU is picked at run time.

#include "rehyat/kernel/kernel_table.hpp"

#ifdef REHYAT_DISPATCH
#include "rehyat/dispatch.hpp"

namespace rehyat {

/// The kernels that operators use unless told otherwise.
inline const Kernels& default_kernels() { return active_kernels(); }

}  // namespace rehyat

#else
#include "rehyat/kernel/instantiate.hpp"

// Named by their ISA, as the kernels are: units of one program may have different flags, and each has its
// own.
REHYAT_BEGIN_ISA_NAMESPACE

/// The kernels that operators use unless told otherwise.
inline const Kernels& default_kernels() { return native_table; }

/// The ISA in use.
inline Isa active() { return native_isa; }

/// Whether an ISA is the one in use: there is no other here.
inline bool available(Isa isa) { return isa == native_isa; }

REHYAT_END_ISA_NAMESPACE

namespace rehyat {
using kernel::active;
using kernel::available;
using kernel::default_kernels;
}  // namespace rehyat

#endif
