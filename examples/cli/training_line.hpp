#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "rehyat/train/distillation_parameters.hpp"

namespace rehyat::cli {

/// One look at the validation frames.
struct CurvePoint {
  std::int64_t step;
  double loss, validation;
};

/// What training shows while it runs, on standard error and only on a terminal: a bar, the loss and the
/// validation error of the head that was last heard of, the time left. Keeps every head's curve for the
/// report.
class TrainingLine {
 public:
  TrainingLine(std::int64_t kv_heads, std::int64_t steps);
  ~TrainingLine();
  TrainingLine(const TrainingLine&) = delete;
  TrainingLine& operator=(const TrainingLine&) = delete;

  /// From any thread. Nothing is shown or kept of a head without a look.
  void update(const train::DistillationProgress& progress);

  const std::vector<CurvePoint>& curve(std::int64_t kv_head) const {
    return curves_[static_cast<std::size_t>(kv_head)];
  }

 private:
  void draw(const train::DistillationProgress& progress);

  using Clock = std::chrono::steady_clock;
  std::mutex mutex_;
  std::int64_t steps_;
  std::vector<std::vector<CurvePoint>> curves_;
  bool wanted_, drawn_ = false;
  Clock::time_point start_;
};

}  // namespace rehyat::cli
