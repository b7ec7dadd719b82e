#pragma once
// Parameters with something wrong in them: numbers off by one, overflowing, negative; views without memory;
// counts of other batches. Much of it is still valid, and then has to work.

#include <cstdint>
#include <limits>
#include <vector>

#include "byte_reader.hpp"
#include "choose_clip.hpp"
#include "operator_memory.hpp"

namespace rehyat::fuzz {

inline void spoil_number(ByteReader& bytes, std::int64_t& number) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (const std::int64_t small = number % far; bytes.coin()) {  // no product of these overflows here
    number = bytes.pick<std::int64_t>({small + 1, small - 1, -small, 2 * small});
  } else {
    number = bytes.pick<std::int64_t>({0, 1, -1, 513, 16385, far, most / 16, most / 8, most / 4, most - 1,
                                       most, std::numeric_limits<std::int64_t>::min()});
  }
}

inline void spoil_number(ByteReader& bytes, int& number) {
  number = bytes.pick({0, -1, number + 1, number - 1, 1 << 30});
}

inline void spoil_number(ByteReader& bytes, float& number) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  number = bytes.pick({0.0f, -1.0f, inf, -inf, std::numeric_limits<float>::quiet_NaN(), 1.0f});
}

template <class View>
void spoil_view(ByteReader& bytes, View& view) {
  std::int64_t* const numbers[] = {&view.tokens,       &view.batch,        &view.heads,      &view.dim,
                                   &view.batch_stride, &view.token_stride, &view.head_stride};
  const std::int64_t which = bytes.integer(0, 8);
  if (which < 7) return spoil_number(bytes, *numbers[which]);
  if (which == 7) view.data = nullptr;
  if constexpr (requires { view.type; }) {
    if (which == 8) view.type = choose_element(bytes);
  }
}

/// Returns whether the map may now want other weights than it has.
inline bool spoil_map(ByteReader& bytes, FeatureMap& map) {
  DenseLayer& layer = map.layers[bytes.integer(0, max_feature_layers - 1)];
  switch (bytes.integer(0, 7)) {
    case 0:
      spoil_number(bytes, map.num_layers);
      break;
    case 1:
      spoil_number(bytes, map.degree);
      break;
    case 2:
      spoil_number(bytes, map.heads);
      break;
    case 3:
      spoil_number(bytes, map.given_dim);
      break;
    case 4:
      spoil_number(bytes, layer.out_dim);
      break;
    case 5:
      layer.weight = nullptr;
      break;
    case 6:
      map.layout = map.layout == WeightLayout::rows ? WeightLayout::panels : WeightLayout::rows;
      break;
    default:
      map.kind = bytes.pick({FeatureMap::Kind::unset, FeatureMap::Kind::elementwise,
                             FeatureMap::Kind::polynomial, FeatureMap::Kind::given});
  }
  return true;
}

inline void spoil_counts(ByteReader& bytes, OperatorMemory& memory, std::int64_t batch,
                         std::span<const std::int64_t>& counts) {
  std::vector<std::int64_t> spoiled;
  for (std::int64_t b = bytes.pick({batch, batch, batch + 1, batch - 1}); b > 0; --b) {
    spoiled.push_back(bytes.integer(0, 8));
    if (bytes.one_in(4)) spoil_number(bytes, spoiled.back());
  }
  counts = memory.exact(spoiled);
}

/// Every count that parameters or a chunk have.
template <class P>
std::vector<std::span<const std::int64_t>*> counts_of(P& p) {
  std::vector<std::span<const std::int64_t>*> counts;
  if constexpr (requires { p.frames; }) counts.push_back(&p.frames);
  if constexpr (requires { p.tokens; }) counts.push_back(&p.tokens);
  if constexpr (requires { p.query_tokens; }) counts.insert(counts.end(), {&p.query_tokens, &p.key_tokens});
  return counts;
}

template <class P>
std::vector<std::int64_t*> numbers_of(P& p) {
  std::vector<std::int64_t*> numbers;
  if constexpr (requires { p.chunking; }) {
    numbers = {&p.chunking.tokens_per_frame, &p.chunking.chunk_frames, &p.chunking.overlap_frames};
  }
  if constexpr (requires { p.rate; }) numbers.push_back(&p.rate);
  if constexpr (requires { p.kv_heads; }) {
    numbers.insert(numbers.end(), {&p.batch, &p.heads, &p.kv_heads, &p.head_dim, &p.value_dim});
  }
  return numbers;
}

/// The scalars of the joint normalisation.
template <class P>
void spoil_normalisation(ByteReader& bytes, P& p) {
  float scale = 1;
  const std::int64_t which = bytes.integer(0, 2);
  if constexpr (requires { p.denominator_epsilon; }) {
    if (which == 1) spoil_number(bytes, p.denominator_epsilon);
    if (which == 2) spoil_number(bytes, p.denominator_floor);
  }
  if constexpr (requires { p.scale; }) {
    if (which == 0) spoil_number(bytes, scale), p.scale = scale;
  }
}

template <class P>
void spoil_any_view(ByteReader& bytes, P& p) {
  std::int64_t which = bytes.integer(0, 10);
  for_each_input(p, [&](auto& view) {
    if (which-- == 0) spoil_view(bytes, view);
  });
  for_each_output(p, [&](auto& view) {
    if (which-- == 0) spoil_view(bytes, view);
  });
}

/// Spoils operator parameters, a chunk or the configuration of a recurrence. Returns whether the feature maps
/// may now want other weights than they have: such parameters may be asked about, but not be run.
template <class P>
bool spoil(ByteReader& bytes, OperatorMemory& memory, P& p) {
  switch (bytes.integer(0, 7)) {
    case 0:
      if (const auto numbers = numbers_of(p); !numbers.empty()) {
        const std::int64_t last = static_cast<std::int64_t>(numbers.size()) - 1;
        spoil_number(bytes, *numbers[static_cast<std::size_t>(bytes.integer(0, last))]);
      }
      return false;
    case 1:
      if constexpr (requires { p.phi_q; }) return spoil_map(bytes, bytes.coin() ? p.phi_k : p.phi_q);
      return false;
    case 2:
      spoil_normalisation(bytes, p);
      return false;
    case 3:
      if constexpr (requires { p.q; }) {
        for (auto* counts : counts_of(p)) spoil_counts(bytes, memory, p.q.batch, *counts);
      }
      return false;
    default:
      if constexpr (requires { p.q; }) spoil_any_view(bytes, p);
      return false;
  }
}

}  // namespace rehyat::fuzz
