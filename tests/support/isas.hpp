#pragma once
// Tests that run once for every instruction set this machine has, and say which in their name.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rehyat/kernels.hpp"

namespace rehyat::support {

/// The ISAs that are built in and run here.
inline std::vector<Isa> tested_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon}) {
    if (available(isa)) isas.push_back(isa);
  }
  return isas;
}

/// Base of a suite with one instance per ISA.
class IsaTest : public testing::TestWithParam<Isa> {
 protected:
  const Kernels& kernels() const { return **find_kernels(isa_name(GetParam())); }
};

inline std::string name_of_isa(const testing::TestParamInfo<Isa>& info) { return isa_name(info.param); }

}  // namespace rehyat::support

/// Instantiates a suite derived from IsaTest for every ISA of this machine.
#define REHYAT_TEST_ALL_ISAS(suite)                                                                          \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(::rehyat::support::tested_isas()), \
                           ::rehyat::support::name_of_isa)
