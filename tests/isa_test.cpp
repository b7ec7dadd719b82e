// Which instruction sets there are, and how one is chosen.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

#include "support/isas.hpp"

namespace rehyat {
namespace {

constexpr Isa all_isas[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon};

TEST(IsaTest, NamesAreThoseOfTheTables) {
  for (const Isa isa : all_isas) {
    if (!available(isa)) continue;
    const Result<const Kernels*> found = find_kernels(isa_name(isa));
    ASSERT_TRUE(found.ok()) << found.status().message();
    EXPECT_EQ((*found)->isa, isa);
    EXPECT_GE((*found)->query_block, 1);
    EXPECT_EQ(*found, dispatch::built_in(isa));
  }
  EXPECT_TRUE(available(Isa::scalar));
}

#if defined(__x86_64__) && defined(__linux__)
/// The flags of the first processor that Linux lists.
std::set<std::string> cpu_flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

TEST(IsaTest, AvailabilityIsWhatLinuxSays) {
  const std::set<std::string> flags = cpu_flags();
  if (flags.empty()) GTEST_SKIP() << "/proc/cpuinfo lists no flags";
  const auto has = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (!flags.contains(name)) return false;
    }
    return true;
  };
  EXPECT_EQ(available(Isa::avx2), has({"avx2", "fma", "f16c"}));
  EXPECT_EQ(available(Isa::avx512),
            has({"avx2", "fma", "f16c", "avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"}));
  EXPECT_FALSE(available(Isa::neon));
}
#endif

#if defined(__aarch64__)
TEST(IsaTest, NeonIsAlwaysThere) {
  EXPECT_TRUE(available(Isa::neon));
  EXPECT_FALSE(available(Isa::avx2));
  EXPECT_FALSE(available(Isa::avx512));
}
#endif

TEST(IsaTest, AutoIsTheBest) {
  const Result<const Kernels*> found = find_kernels("auto");
  ASSERT_TRUE(found.ok()) << found.status().message();
  for (const Isa isa : {Isa::avx512, Isa::avx2, Isa::neon, Isa::scalar}) {
    if (!available(isa)) continue;
    EXPECT_EQ((*found)->isa, isa);
    break;
  }
}

TEST(IsaTest, UnknownAndMissingOnesAreRefused) {
  for (const char* name : {"", "sse2", "AVX2", "avx5120"}) {
    const Result<const Kernels*> found = find_kernels(name);
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.status().code(), StatusCode::unsupported_isa);
    EXPECT_EQ(found.status().message(),
              std::string("isa is ") + name + ", expected auto, scalar, avx2, avx512 or neon");
  }
  for (const Isa isa : all_isas) {
    if (available(isa)) continue;
    const Result<const Kernels*> found = find_kernels(isa_name(isa));
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.status().code(), StatusCode::unsupported_isa);
    const char* why =
        dispatch::built_in(isa) == nullptr ? "is not built into this program" : "this CPU does not have";
    EXPECT_EQ(found.status().message(), std::string("isa is ") + isa_name(isa) + ", which " + why);
  }
}

/// The choice is made once a process: each of these makes it in a process of its own, forked before any was
/// made here.
class IsaDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "fast"; }

  /// Ends the process with a status that says which kernels run.
  [[noreturn]] static void choose(const char* forced) {
    forced == nullptr ? unsetenv("REHYAT_ISA") : setenv("REHYAT_ISA", forced, 1);
    const Isa chosen = active();
    setenv("REHYAT_ISA", "nothing", 1);  // too late to matter
    std::exit(10 + static_cast<int>(active() == chosen && &default_kernels() == &active_kernels() ? chosen
                                                                                                  : Isa{99}));
  }
};

TEST_F(IsaDeathTest, EnvironmentVariableForcesOne) {
  for (const Isa isa : all_isas) {
    if (!available(isa)) continue;
    EXPECT_EXIT(choose(isa_name(isa)), testing::ExitedWithCode(10 + static_cast<int>(isa)), "");
  }
  const int best = 10 + static_cast<int>((*find_kernels("auto"))->isa);
  EXPECT_EXIT(choose(nullptr), testing::ExitedWithCode(best), "");
  EXPECT_EXIT(choose(""), testing::ExitedWithCode(best), "");
  EXPECT_EXIT(choose("auto"), testing::ExitedWithCode(best), "");
}

TEST_F(IsaDeathTest, AnUnusableOneEndsTheProgram) {
  EXPECT_EXIT(choose("mmx"), testing::KilledBySignal(SIGABRT),
              "rehyat: REHYAT_ISA: isa is mmx, expected auto, scalar, avx2, avx512 or neon");
  for (const Isa isa : all_isas) {
    if (dispatch::built_in(isa) != nullptr) continue;
    EXPECT_EXIT(choose(isa_name(isa)), testing::KilledBySignal(SIGABRT),
                "which is not built into this program");
  }
}

}  // namespace
}  // namespace rehyat
