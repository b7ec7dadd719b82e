#pragma once

/// @file rehyat/train/pareto.hpp
/// What to choose among settings of a layer that cost and lose something each. Needs the standard library
/// alone.

#include <algorithm>
#include <compare>
#include <cstddef>
#include <span>
#include <vector>

namespace rehyat::train {

/// A way to run a layer. Less is better, of both.
struct Alternative {
  double cost = 0;   ///< operations, seconds or what else is short
  double error = 0;  ///< distance to what the layer is to compute
};

namespace detail {

/// Leaves the items that no other one beats or equals, sorted: costs rise, errors fall. `Item` has cost,
/// error and an order that begins with them; of items equal in both the first in that order stays. No NaN.
template <class Item>
void keep_front(std::vector<Item>& items) {
  std::sort(items.begin(), items.end());
  std::size_t kept = 0;
  for (const Item& item : items) {
    if (kept == 0 || item.error < items[kept - 1].error) items[kept++] = item;
  }
  items.resize(kept);
}

/// An alternative and its place among those of its layer.
struct IndexedAlternative {
  double cost = 0, error = 0;
  std::size_t index = 0;
  friend auto operator<=>(const IndexedAlternative&, const IndexedAlternative&) = default;
};

inline std::vector<IndexedAlternative> indexed_front(std::span<const Alternative> alternatives) {
  std::vector<IndexedAlternative> front;
  for (std::size_t i = 0; i < alternatives.size(); ++i) {
    const auto [cost, error] = alternatives[i];
    if (cost == cost && error == error) front.push_back({cost, error, i});  // what is NaN is no choice
  }
  keep_front(front);
  return front;
}

}  // namespace detail

/// The indices of the alternatives that none beats (costs no more and errs no more, and one of them less), by
/// rising cost and falling error. Of several that are equal the first. One with a NaN is never among them.
inline std::vector<std::size_t> pareto_front(std::span<const Alternative> alternatives) {
  std::vector<std::size_t> indices;
  for (const detail::IndexedAlternative& a : detail::indexed_front(alternatives)) indices.push_back(a.index);
  return indices;
}

}  // namespace rehyat::train
