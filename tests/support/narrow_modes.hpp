#pragma once
// Tests of the arithmetic modes besides float32 that an instruction set has.

#include <vector>

#include "isas.hpp"
#include "rehyat/arithmetic.hpp"

namespace rehyat::support {

class NarrowModesTest : public IsaTest {
 protected:
  std::vector<Arithmetic> modes() const {
    std::vector<Arithmetic> modes;
    for (const Arithmetic mode : {Arithmetic::int8, Arithmetic::float16}) {
      if (has_arithmetic(kernels(), mode)) modes.push_back(mode);
    }
    return modes;
  }

  void SetUp() override {
    if (modes().empty()) GTEST_SKIP() << "no arithmetic but float32";
  }

  /// body(mode) for each.
  template <class Body>
  void for_each_mode(Body body) const {
    for (const Arithmetic mode : modes()) {
      SCOPED_TRACE(arithmetic_name(mode));
      body(mode);
    }
  }
};

}  // namespace rehyat::support
