#pragma once

#include <cstddef>
#include <vector>

#include "report.hpp"
#include "tune_grid.hpp"

namespace rehyat::cli {

/// What a budget allows.
struct BudgetReport {
  double budget = 0;                       ///< as given
  double operations = 0;                   ///< that it is
  std::vector<std::size_t> settings = {};  ///< that were chosen, indices by layer; none if an interrupted run
                                           ///< measured none that it allows
  double operations_used = 0, error = 0;   ///< of those, over all layers
};

/// Everything that was measured and chosen.
struct TuneReport {
  std::vector<TunedLayer> layers;
  std::vector<std::vector<std::size_t>> fronts = {};  ///< indices of settings, by layer, by rising operations
  std::vector<BudgetReport> budgets = {};
  double seconds = 0;
  bool was_interrupted = false;

  double softmax_operations() const;
};

Json to_json(const TuneOptions& options, const TuneReport& report);
void print_text(const TuneOptions& options, const TuneReport& report);

}  // namespace rehyat::cli
