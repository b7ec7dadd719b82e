#pragma once
// GoogleTest's assertions in a fuzzer: what fails ends the program, which is how libFuzzer hears of it.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>

namespace rehyat::fuzz {

/// Says what the current case is; asked only when an assertion fails.
inline std::function<std::string()> describe_case;

/// Lets describe_case be `describe` for as long as it lives.
class CaseDescription {
 public:
  explicit CaseDescription(std::function<std::string()> describe) { describe_case = std::move(describe); }
  ~CaseDescription() { describe_case = nullptr; }
  CaseDescription(const CaseDescription&) = delete;
  CaseDescription& operator=(const CaseDescription&) = delete;
};

class AbortOnFailure : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "%s:%d: %s\n", result.file_name(), result.line_number(), result.message());
    if (describe_case) std::fprintf(stderr, "The case: %s\n", describe_case().c_str());
    std::abort();
  }
};

/// Call it once, from LLVMFuzzerInitialize.
inline void abort_on_failure() {
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new AbortOnFailure);
}

}  // namespace rehyat::fuzz
