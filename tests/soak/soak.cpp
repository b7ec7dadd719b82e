// Everything at once, for a long time: threads call all operators and stream through states of their own and
// of others, on the same inputs and weights. Every result is compared to the bit, and the memory of the
// process must not grow.
//
// A run is a series of rounds: new random clips, their results computed on one thread (those of some also by
// the double reference), then `calls` calls on each of `threads` threads.

#include <gtest/gtest.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "case.hpp"
#include "memory_use.hpp"
#include "worker.hpp"

namespace rehyat::soak {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* usage =
    "rehyat_soak [--minutes N | --rounds N] [--threads N] [--cases N] [--calls N] [--seed N]\n"
    "            [--resident 0|1]\n"
    "  --minutes  ends with the first round after so many minutes\n"
    "  --rounds   ends after so many rounds (3, unless there are minutes)\n"
    "  --threads  threads that call at once (8)\n"
    "  --cases    clips of a round (16)\n"
    "  --calls    calls of each thread in a round (200)\n"
    "  --seed     of everything random (1)\n"
    "  --resident whether memory in RAM counts, not only what is allocated (1; 0 under an emulator)\n"
    "Status 1 if a result is wrong, or memory grows after the first minute (or the first half of the "
    "rounds).\n";

struct Options {
  std::int64_t minutes = 0, rounds = 3, threads = 8, cases = 16, calls = 200, seed = 1, resident = 1;
};

/// False if they are not what the usage says.
bool parse(int count, char** arguments, Options& options) {
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i], value = arguments[i + 1];
    std::int64_t* number = name == "--minutes"    ? &options.minutes
                           : name == "--rounds"   ? &options.rounds
                           : name == "--threads"  ? &options.threads
                           : name == "--cases"    ? &options.cases
                           : name == "--calls"    ? &options.calls
                           : name == "--seed"     ? &options.seed
                           : name == "--resident" ? &options.resident
                                                  : nullptr;
    if (number == nullptr) return false;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number);
    if (error != std::errc() || end != value.data() + value.size() || *number < 0) return false;
  }
  return count % 2 == 1 && options.threads > 0 && options.cases > 0 && options.resident <= 1;
}

class Soak {
 public:
  explicit Soak(const Options& options) : options_(options), watch_(options.resident != 0) {}

  /// The exit status.
  int run() {
    while (!failed_ && !is_over()) {
      round();
      if (warm() && !watch_.has_begun()) watch_.begin();
      if (watch_.has_grown()) {
        std::puts("memory has grown");
        failed_ = true;
      }
      if (minutes() > minutes_told_) tell();
    }
    tell();
    watch_.print();
    const bool ok = !failed_ && !testing::UnitTest::GetInstance()->Failed();
    std::puts(ok ? "all results as expected" : "FAILED");
    return ok ? 0 : 1;
  }

 private:
  std::int64_t minutes() const {
    return std::chrono::duration_cast<std::chrono::minutes>(Clock::now() - start_).count();
  }
  bool is_over() const {
    return options_.minutes > 0 ? minutes() >= options_.minutes : rounds_ >= options_.rounds;
  }
  bool warm() const { return options_.minutes > 0 ? minutes() >= 1 : 2 * rounds_ >= options_.rounds; }

  void round() {
    const std::uint64_t seed = static_cast<std::uint64_t>(options_.seed + rounds_ * 1'000'000);
    std::deque<Case> cases;
    for (std::int64_t i = 0; i < options_.cases; ++i) {
      cases.push_back(Case::random(seed + static_cast<std::uint64_t>(i)));
      if (i % 4 != 0) continue;
      ++against_reference_;
      if (const auto close = cases.back().close_to_reference(); !close) fail(cases.back(), close);
    }
    SharedPool pool(3);
    std::vector<std::thread> threads;
    for (std::int64_t t = 0; t < options_.threads; ++t) {
      threads.emplace_back([&, t] { work(cases, pool, seed + 1000 * static_cast<std::uint64_t>(t + 1)); });
    }
    for (std::thread& thread : threads) thread.join();
    ++rounds_;
  }

  void work(const std::deque<Case>& cases, SharedPool& pool, std::uint64_t seed) {
    Random random(seed);
    Worker worker(seed, pool);
    for (std::int64_t i = 0; i < options_.calls && !failed_; ++i) {
      const Case& c = cases[static_cast<std::size_t>(random.integer(0, options_.cases - 1))];
      if (const auto result = worker.call(c); !result) fail(c, result);
    }
  }

  void fail(const Case& c, const testing::AssertionResult& why) {
    std::printf("case %llu on %s: %s\n", static_cast<unsigned long long>(c.seed), isa_name(c.kernels->isa),
                why.message());
    failed_ = true;
  }

  void tell() {
    minutes_told_ = minutes();
    std::printf("minute %lld: %lld rounds, %lld calls, %lld cases, %lld of them against the reference",
                static_cast<long long>(minutes_told_), static_cast<long long>(rounds_),
                static_cast<long long>(rounds_ * options_.threads * options_.calls),
                static_cast<long long>(rounds_ * options_.cases), static_cast<long long>(against_reference_));
    if (const auto use = memory_use()) {
      std::printf(", resident %.1f MB, allocated %.2f MB", static_cast<double>(use->resident) / (1 << 20),
                  static_cast<double>(use->allocated) / (1 << 20));
    }
    std::puts("");
    std::fflush(stdout);
  }

  const Options options_;
  const Clock::time_point start_ = Clock::now();
  std::int64_t rounds_ = 0, against_reference_ = 0, minutes_told_ = 0;
  std::atomic<bool> failed_{false};
  MemoryWatch watch_;
};

}  // namespace
}  // namespace rehyat::soak

int main(int count, char** arguments) {
  rehyat::soak::Options options;
  if (!rehyat::soak::parse(count, arguments, options)) return std::fputs(rehyat::soak::usage, stderr), 2;
  rehyat::soak::keep_heaps_trimmed();
  return rehyat::soak::Soak(options).run();
}
