#include "progress.hpp"

#include <unistd.h>

#include <cinttypes>
#include <cstdio>

namespace rehyat::cli {
namespace {
constexpr std::chrono::milliseconds first_draw{1000}, redraw{100};
}

Progress::Progress(const char* unit)
    : unit_(unit), wanted_(::isatty(STDERR_FILENO) == 1), next_(Clock::now() + first_draw) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::advance(bool draws) {
  const std::int64_t done = done_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (wanted_ && draws && Clock::now() >= next_) draw(done);
}

void Progress::draw(std::int64_t done) {
  const double percent = 100.0 * static_cast<double>(done) / static_cast<double>(total_);
  std::fprintf(stderr, "\r%3.0f %%  %" PRId64 " of %" PRId64 " %s", percent, done, total_, unit_);
  std::fflush(stderr);
  drawn_ = true;
  next_ = Clock::now() + redraw;
}

}  // namespace rehyat::cli
