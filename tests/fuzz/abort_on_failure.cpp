// GoogleTest's assertions in a fuzzer: what fails ends the program, which is how libFuzzer hears of it.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "case_description.hpp"

namespace rehyat::fuzz {
namespace {

class AbortOnFailure : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "%s:%d: %s\n", result.file_name(), result.line_number(), result.message());
    if (describe_case) std::fprintf(stderr, "The case: %s\n", describe_case().c_str());
    std::abort();
  }
};

}  // namespace
}  // namespace rehyat::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new rehyat::fuzz::AbortOnFailure);
  return 0;
}
