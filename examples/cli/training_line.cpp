#include "training_line.hpp"

#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>

namespace rehyat::cli {

TrainingLine::TrainingLine(std::int64_t kv_heads, std::int64_t steps)
    : steps_(std::max<std::int64_t>(steps, 1)),
      curves_(static_cast<std::size_t>(kv_heads)),
      wanted_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()) {}

TrainingLine::~TrainingLine() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void TrainingLine::update(const train::DistillationProgress& progress) {
  if (std::isnan(progress.best_validation)) return;
  const std::lock_guard lock(mutex_);
  curves_[static_cast<std::size_t>(progress.kv_head)].push_back(
      {progress.step, progress.loss, progress.validation});
  if (wanted_) draw(progress);
}

void TrainingLine::draw(const train::DistillationProgress& progress) {
  std::int64_t taken = 0;
  for (const std::vector<CurvePoint>& curve : curves_) taken += curve.empty() ? 0 : curve.back().step;
  const double done =
      static_cast<double>(taken) / static_cast<double>(steps_ * static_cast<std::int64_t>(curves_.size()));
  constexpr int width = 24;
  const int full = static_cast<int>(done * width);
  std::fprintf(stderr, "\r\033[K[%.*s%*s] %3.0f %%  head %" PRId64 ": ", full, "########################",
               width - full, "", 100 * done, progress.kv_head);
  if (progress.step > 0) std::fprintf(stderr, "loss %.4f, ", progress.loss);
  std::fprintf(stderr, "validation %.4f", progress.validation);
  if (taken > 0) {
    const double so_far = std::chrono::duration<double>(Clock::now() - start_).count();
    const auto left = static_cast<std::int64_t>(so_far * (1 - done) / done);
    std::fprintf(stderr, ", %" PRId64 ":%02" PRId64 " left", left / 60, left % 60);
  }
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace rehyat::cli
