// The Pareto front and the budgeted choice, against trying everything.

#include "rehyat/train/budgeted_choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "support/random.hpp"

namespace rehyat {
namespace {

using support::Random;
using train::Alternative;
using train::BudgetedChoice;
using train::LayerChoice;
using Layers = std::vector<std::vector<Alternative>>;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// How costs and errors are drawn.
struct Numbers {
  const char* name;
  std::int64_t costs, errors;  ///< how many there are to draw from: few make ties
  double cost_unit, error_unit;
  bool sums_are_exact;
};
constexpr Numbers kinds_of_numbers[] = {
    {"many ties", 4, 3, 1, 0.25, true},
    {"operation counts", 1 << 20, 1 << 20, 1 << 22, 1.0 / (1 << 20), true},
    {"sums that are rounded", 1 << 20, 1 << 20, 0.1, 0.1, false},
};

Layers random_layers(Random& random, const Numbers& numbers) {
  Layers layers(static_cast<std::size_t>(random.integer(0, 5)));
  for (std::vector<Alternative>& layer : layers) {
    layer.resize(static_cast<std::size_t>(random.integer(1, 6)));
    for (Alternative& a : layer) {
      a.cost = numbers.cost_unit * static_cast<double>(random.integer(0, numbers.costs));
      a.error = numbers.error_unit * static_cast<double>(random.integer(0, numbers.errors));
    }
  }
  return layers;
}

/// All choices there are, summed from the last layer to the first, in the order of their indices.
std::vector<LayerChoice> all_choices(const Layers& layers) {
  std::vector<LayerChoice> all(1);
  for (std::size_t l = layers.size(); l-- > 0;) {
    std::vector<LayerChoice> longer;
    for (std::size_t i = 0; i < layers[l].size(); ++i) {
      for (LayerChoice choice : all) {
        choice.alternatives.insert(choice.alternatives.begin(), i);
        choice.cost += layers[l][i].cost, choice.error += layers[l][i].error;
        longer.push_back(std::move(choice));
      }
    }
    all = std::move(longer);
  }
  return all;
}

/// The first of the least error and then cost; null where none keeps the budget.
const LayerChoice* best_of(const std::vector<LayerChoice>& all, double budget) {
  const LayerChoice* best = nullptr;
  for (const LayerChoice& choice : all) {
    if (choice.cost > budget) continue;
    if (best == nullptr || std::tie(choice.error, choice.cost) < std::tie(best->error, best->cost)) {
      best = &choice;
    }
  }
  return best;
}

void expect_best(const Layers& layers, const Numbers& numbers) {
  const std::vector<LayerChoice> all = all_choices(layers);
  const Result<BudgetedChoice> choices = BudgetedChoice::over(layers);
  ASSERT_TRUE(choices.ok()) << choices.status().message();
  for (std::size_t i = 0; i < all.size(); i += 1 + all.size() / 50) {
    for (const double budget : {all[i].cost, std::nextafter(all[i].cost, -1.0), all[i].cost * 1.5}) {
      const LayerChoice* const best = best_of(all, budget);
      const Result<LayerChoice> choice = choices->within(budget);
      ASSERT_EQ(choice.ok(), best != nullptr) << budget;
      if (best == nullptr) continue;
      ASSERT_EQ(choice->error, best->error) << budget;
      ASSERT_EQ(choice->cost, best->cost) << budget;
      // of sums that are rounded, equal ones need not have been equal from the start
      if (numbers.sums_are_exact) {
        ASSERT_EQ(choice->alternatives, best->alternatives) << budget;
      }
      double cost = 0, error = 0;
      for (std::size_t l = layers.size(); l-- > 0;) {
        cost += layers[l][choice->alternatives[l]].cost, error += layers[l][choice->alternatives[l]].error;
      }
      ASSERT_EQ(std::tie(cost, error), std::tie(choice->cost, choice->error));
    }
  }
}

TEST(BudgetedChoiceTest, IsTheBestOfAll) {
  for (const Numbers& numbers : kinds_of_numbers) {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      SCOPED_TRACE(std::string(numbers.name) + ", seed " + std::to_string(seed));
      Random random(seed);
      expect_best(random_layers(random, numbers), numbers);
      if (HasFatalFailure()) return;
    }
  }
}

/// Forty layers whose best choices are known: each takes one step up its own front for a unit of the budget,
/// the layers with most to gain first.
TEST(BudgetedChoiceTest, ManyLayers) {
  constexpr std::size_t num_layers = 40, steps = 12;
  Layers layers(num_layers);
  std::vector<double> gains;
  for (std::size_t l = 0; l < num_layers; ++l) {
    double error = 64;
    for (std::size_t i = 0; i <= steps; ++i) {
      layers[l].push_back({1e12 * static_cast<double>(i + 1), error});
      const double gain = static_cast<double>((l + 1) * (steps - i)) / 256;  // less with every step
      error -= gain;
      if (i < steps) gains.push_back(gain);
    }
  }
  std::sort(gains.rbegin(), gains.rend());
  const Result<BudgetedChoice> choices = BudgetedChoice::over(layers);
  ASSERT_TRUE(choices.ok()) << choices.status().message();
  double error = 64 * num_layers;
  for (std::size_t i = 0; i <= gains.size(); ++i) {
    const Result<LayerChoice> choice = choices->within(1e12 * static_cast<double>(num_layers + i) + 1);
    ASSERT_TRUE(choice.ok()) << choice.status().message();
    ASSERT_EQ(choice->error, error) << i;
    if (i < gains.size()) error -= gains[i];
  }
}

TEST(BudgetedChoiceTest, Refusals) {
  const auto refusal = [](const Layers& layers) {
    return std::string(BudgetedChoice::over(layers).status().message());
  };
  EXPECT_EQ(refusal({{{1, 1}}, {}}), "layers[1] has no alternatives, expected at least 1");
  EXPECT_EQ(refusal({{{1, 1}, {2, nan}}}),
            "layers[0][1] has cost 2 and error nan, expected finite numbers >= 0");
  EXPECT_EQ(refusal({{{infinity, 1}}}),
            "layers[0][0] has cost inf and error 1, expected finite numbers >= 0");
  EXPECT_EQ(refusal({{{-1, 1}}}), "layers[0][0] has cost -1 and error 1, expected finite numbers >= 0");
  const Result<BudgetedChoice> choices = BudgetedChoice::over(Layers{{{3, 1}, {2, 4}}, {{5, 0}}});
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ(choices->least_cost(), 7);
  EXPECT_STREQ(choices->within(6.5).status().message(),
               "budget is 6.5, expected at least 7, the cost of the cheapest choice");
  EXPECT_FALSE(choices->within(nan).ok());
  EXPECT_EQ(choices->within(infinity)->alternatives, (std::vector<std::size_t>{0, 0}));
}

/// Nothing on the front is beaten, everything else is, and it is sorted.
TEST(ParetoFrontTest, HasWhatNothingBeats) {
  for (const Numbers& numbers : kinds_of_numbers) {
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      SCOPED_TRACE(std::string(numbers.name) + ", seed " + std::to_string(seed));
      Random random(seed);
      const Layers layers = random_layers(random, numbers);
      for (const std::vector<Alternative>& points : layers) {
        std::vector<std::size_t> expected;
        for (std::size_t i = 0; i < points.size(); ++i) {
          bool stays = true;
          for (std::size_t j = 0; j < points.size(); ++j) {
            const auto [cost, error] = points[j];
            const bool equal = cost == points[i].cost && error == points[i].error;
            if (equal ? j < i : cost <= points[i].cost && error <= points[i].error) stays = false;
          }
          if (stays) expected.push_back(i);
        }
        std::sort(expected.begin(), expected.end(),
                  [&](std::size_t a, std::size_t b) { return points[a].cost < points[b].cost; });
        ASSERT_EQ(train::pareto_front(points), expected);
      }
    }
  }
}

TEST(ParetoFrontTest, LeavesOutWhatIsNaN) {
  const std::vector<Alternative> points = {{nan, 0}, {2, 1}, {0, nan}, {1, infinity}, {3, 1}, {2, 1}};
  EXPECT_EQ(train::pareto_front(points), (std::vector<std::size_t>{3, 1}));
  EXPECT_TRUE(train::pareto_front({}).empty());
}

}  // namespace
}  // namespace rehyat
