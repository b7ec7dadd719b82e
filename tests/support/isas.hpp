#pragma once
// Tests that run once for every instruction set this machine has, and say which in their name.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
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

/// Every program that includes this says what it ran on; the build checks that nothing this machine has was
/// left out. On an emulated other processor, which REHYAT_TEST_PROCESSOR names, it says so and is not asked.
class IsaReport : public testing::Environment {
 public:
  void SetUp() override {
    const char* const other = std::getenv("REHYAT_TEST_PROCESSOR");
    std::printf("rehyat tests ran%s%s on:", other == nullptr ? "" : " as on ", other == nullptr ? "" : other);
    for (const Isa isa : tested_isas()) std::printf(" %s", isa_name(isa));
    std::printf("\n");
  }
};
inline testing::Environment* const isa_report = testing::AddGlobalTestEnvironment(new IsaReport);

/// Base of a suite with one instance per ISA.
class IsaTest : public testing::TestWithParam<Isa> {
 protected:
  const Kernels& kernels() const { return **find_kernels(isa_name(GetParam())); }
};

inline std::string name_of_isa(const testing::TestParamInfo<Isa>& info) { return isa_name(info.param); }

}  // namespace rehyat::support

/// Instantiates a suite derived from IsaTest for every ISA of this machine.
#define REHYAT_TEST_ALL_ISAS(suite)                                                         \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(::rehyat::support::tested_isas()), \
                           ::rehyat::support::name_of_isa)
