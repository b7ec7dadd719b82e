// A second unit with the same headers.
#include "rehyat/rehyat.hpp"

const rehyat::Kernels& kernels_of_other_unit();
const rehyat::Kernels& kernels_of_other_unit() { return rehyat::default_kernels(); }
