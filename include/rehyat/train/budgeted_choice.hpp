#pragma once

/// @file rehyat/train/budgeted_choice.hpp
/// Attention Surgery's choice (arXiv 2509.24899): an alternative for each layer, with the least
/// total error that a budget allows. Exact. Needs the standard library alone.

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "rehyat/status.hpp"
#include "rehyat/train/pareto.hpp"

namespace rehyat::train {

/// An alternative for each layer, and the sums over them.
struct LayerChoice {
  std::vector<std::size_t> alternatives = {};
  double cost = 0, error = 0;
};

/// The choices that are best at some budget, for the layers it is made of: dynamic programming over the
/// layers, last to first. Costs are too large for a table by cost; a state is a pair of sums (cost, error)
/// over the layers from one on, and a state that another beats can be dropped: whatever is chosen for the
/// layers before, the better one stays better. Rounding does not change that (a + c <= b + c wherever a <=
/// b), so that no choice has a smaller sum, in this order of summation, than the one that is found.
///
/// Memory and time go with the number of states: at each layer, the sums that nothing beats. For 30 layers
/// with 15 alternatives on each one's front these are some thousands.
class BudgetedChoice {
 public:
  /// Errors: a layer without an alternative; a cost or an error that is negative or not finite.
  static Result<BudgetedChoice> over(std::span<const std::vector<Alternative>> layers) {
    for (std::size_t l = 0; l < layers.size(); ++l) REHYAT_RETURN_IF_ERROR(check(l, layers[l]));
    BudgetedChoice choice;
    choice.states_.resize(layers.size() + 1);
    choice.states_.back() = {State{}};
    for (std::size_t l = layers.size(); l-- > 0;) {
      choice.states_[l] = extended(choice.states_[l + 1], layers[l]);
    }
    return choice;
  }

  double least_cost() const { return states_.front().front().cost; }

  /// The choice of least error whose cost is at most `budget`; of those the cheapest; of those the one that
  /// takes the earlier alternative in the first layer where they differ (where sums are not rounded: rounding
  /// makes sums equal that are not). Errors: a budget below least_cost(), or NaN.
  Result<LayerChoice> within(double budget) const {
    if (!(least_cost() <= budget)) {
      return Status::error(StatusCode::invalid_argument,
                           "budget is %.10g, expected at least %.10g, the cost of the cheapest choice",
                           budget, least_cost());
    }
    const std::vector<State>& totals = states_.front();
    const auto within_budget = [budget](const State& state) { return state.cost <= budget; };
    std::size_t state =
        static_cast<std::size_t>(std::partition_point(totals.begin(), totals.end(), within_budget) -
                                 totals.begin()) -
        1;
    LayerChoice choice{.cost = totals[state].cost, .error = totals[state].error};
    for (std::size_t l = 0; l + 1 < states_.size(); ++l) {
      choice.alternatives.push_back(states_[l][state].alternative);
      state = states_[l][state].next;
    }
    return choice;
  }

 private:
  /// Sums over the layers from one on, its alternative, and the state of the layers behind it.
  struct State {
    double cost = 0, error = 0;
    std::size_t alternative = 0, next = 0;
    friend auto operator<=>(const State&, const State&) = default;
  };

  static Status check(std::size_t layer, std::span<const Alternative> alternatives) {
    if (alternatives.empty()) {
      return Status::error(StatusCode::invalid_argument,
                           "layers[%zu] has no alternatives, expected at least 1", layer);
    }
    for (std::size_t i = 0; i < alternatives.size(); ++i) {
      const auto [cost, error] = alternatives[i];
      if (cost >= 0 && error >= 0 && std::isfinite(cost + error)) continue;
      return Status::error(StatusCode::invalid_argument,
                           "layers[%zu][%zu] has cost %g and error %g, expected finite numbers >= 0", layer,
                           i, cost, error);
    }
    return {};
  }

  static std::vector<State> extended(const std::vector<State>& behind,
                                     std::span<const Alternative> alternatives) {
    const std::vector<detail::IndexedAlternative> front = detail::indexed_front(alternatives);
    std::vector<State> states;
    states.reserve(behind.size() * front.size());
    for (const detail::IndexedAlternative& a : front) {
      for (std::size_t s = 0; s < behind.size(); ++s) {
        states.push_back({behind[s].cost + a.cost, behind[s].error + a.error, a.index, s});
      }
    }
    detail::keep_front(states);
    return states;
  }

  std::vector<std::vector<State>> states_;  ///< by layer, then one of nothing
};

}  // namespace rehyat::train
