#pragma once
// Puts a value that is not finite into one element of a clip's tensors and expects it in the outputs that
// depend on that element, and in no other.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "all_results.hpp"
#include "guard_pages.hpp"
#include "random.hpp"
#include "reference/case_of.hpp"
#include "reference/key_sets.hpp"
#include "test_clip.hpp"

namespace rehyat::support {

/// The tensors of a clip.
enum class Source { q, k, v, given_q, given_k, given_q_denominator, given_k_denominator };

/// An element: channel `channel` of a token and head of a batch entry.
struct Spot {
  Source source;
  std::int64_t entry, token, head, channel;
};

/// Bits of NaN: quiet, of either sign and with another payload, and signalling.
inline constexpr std::uint32_t nan_bits[] = {0x7fc00000, 0xffd12345, 0xffffffff, canary_bits};
inline constexpr std::uint32_t infinity_bits = 0x7f800000, minus_infinity_bits = 0xff800000;

/// Which keys the queries of one batch entry attend to.
class Attended {
 public:
  explicit Attended(std::vector<reference::KeySets> chunks) : chunks_(std::move(chunks)) {}

  bool has_query(std::int64_t query) const { return sets_of(query) != nullptr; }
  bool has_softmax_keys(std::int64_t query) const {
    return has_query(query) && !sets_of(query)->softmax.empty();
  }
  bool has_linear_keys(std::int64_t query) const {
    return has_query(query) && !sets_of(query)->linear.empty();
  }
  reference::Membership of(std::int64_t query, std::int64_t key) const {
    const reference::KeySets* sets = sets_of(query);
    if (sets == nullptr) return reference::Membership::outside;
    if (has(sets->softmax, key)) return reference::Membership::softmax;
    return has(sets->linear, key) ? reference::Membership::linear : reference::Membership::outside;
  }

 private:
  static bool has(const std::vector<reference::Index>& sorted, std::int64_t token) {
    return std::binary_search(sorted.begin(), sorted.end(), token);
  }
  const reference::KeySets* sets_of(std::int64_t query) const {
    for (const reference::KeySets& sets : chunks_) {
      if (has(sets.queries, query)) return &sets;
    }
    return nullptr;
  }
  std::vector<reference::KeySets> chunks_;
};

/// Whether the element reaches a row of its batch entry at all.
inline bool reaches(const Spot& spot, const Attended& attended, const TestClip& clip, std::int64_t token,
                    std::int64_t head) {
  using reference::Membership;
  const bool given = !clip.given_q.empty();
  const bool of_queries = spot.source == Source::q || spot.source == Source::given_q ||
                          spot.source == Source::given_q_denominator;
  if (!attended.has_query(token)) return false;
  if ((of_queries ? head : head / clip.geometry.heads_per_kv) != spot.head) return false;
  if (of_queries && token != spot.token) return false;
  const Membership membership = attended.of(token, spot.token);
  switch (spot.source) {
    case Source::q:  // the linear branch reads features that are given in its place
      return !given || attended.has_softmax_keys(token);
    case Source::k:
      return membership == Membership::softmax || (!given && membership == Membership::linear);
    case Source::v:
      return membership != Membership::outside;
    case Source::given_q:
    case Source::given_q_denominator:
      return attended.has_linear_keys(token);
    case Source::given_k:
    case Source::given_k_denominator:
      return membership == Membership::linear;
  }
  return false;
}

/// Compares a run with the element to one without it. `in_denominator`: the denominator is made of it, too.
/// Every row it does not reach is equal to the bit; of those it reaches, what it does not, too, where the
/// shift is fixed and no sums are rounded.
inline void expect_reached(const Spot& spot, const Attended& attended, const TestClip& clip,
                           const Written& clean, const Written& hit, bool shift_is_fixed,
                           bool in_denominator) {
  const Geometry& g = clip.geometry;
  std::size_t i = 0;
  std::int64_t reached = 0, wrong = 0;
  for (std::int64_t b = 0; b < g.batch; ++b) {
    for (std::int64_t row = 0; row < g.tokens() * g.heads(); ++row) {
      const bool touched = b == spot.entry && reaches(spot, attended, clip, row / g.heads(), row % g.heads());
      const bool rounded_together =
          clip.arithmetic != Arithmetic::float32 && attended.has_linear_keys(row / g.heads());
      reached += touched;
      for (std::int64_t d = 0; d < g.value_dim; ++d, ++i) {
        bool right = std::bit_cast<std::uint32_t>(hit.out[i]) == std::bit_cast<std::uint32_t>(clean.out[i]);
        if (touched && (spot.source != Source::v || d == spot.channel)) {
          right = !std::isfinite(hit.out[i]);
        } else if (touched && (!shift_is_fixed || rounded_together)) {
          // the channel may have decided the common shift, or how others of the sums were rounded
          const float allowed = rounded_together ? 2e-2f : 1e-5f;
          right = std::abs(hit.out[i] - clean.out[i]) <= allowed * (1 + std::abs(clean.out[i]));
        }
        wrong += !right;
      }
    }
  }
  EXPECT_EQ(wrong, 0) << "of " << i << " elements, " << reached << " rows reached";
  EXPECT_EQ(hit.report.nan_count, in_denominator ? reached : 0);
}

/// Every schedule of a clip whose outputs are finite, every tensor that it reads, at random places: NaN and
/// infinities.
class ReachCheck {
 public:
  ReachCheck(TestClip& clip, Random& random, const Kernels& kernels)
      : clip_(clip), random_(random), kernels_(kernels) {}

  void every_schedule() {
    clip_.for_each_operator([&](const char* name, const auto& p) {
      SCOPED_TRACE(name);
      constexpr bool has_linear = requires { p.phi_q; };
      constexpr bool shifts = requires { p.stabilizer; };
      check_run(Schedule{has_linear, shifts, [&](std::int64_t b) { return reference::case_of(p, b).chunks; },
                         [&] { return evaluate(p, kernels_); }});
    });
    recurrent(RecurrentSchedule::hybrid, clip_.hybrid(Direction::causal));
    recurrent(RecurrentSchedule::linear, clip_.linear(Direction::causal));
  }

 private:
  /// A schedule: whether it has linear keys, whether its shift may depend on them, key sets, and a run of it.
  struct Schedule {
    bool has_linear, shifts;
    std::function<std::vector<reference::KeySets>(std::int64_t entry)> sets_of;
    std::function<Written()> run;
  };

  template <class P>
  void recurrent(RecurrentSchedule schedule, const P& one_shot) {
    SCOPED_TRACE(schedule == RecurrentSchedule::hybrid ? "recurrent hybrid" : "recurrent linear");
    SerialExecutor serial;
    check_run(Schedule{true, schedule == RecurrentSchedule::hybrid,
                       [&](std::int64_t b) { return reference::case_of(one_shot, b).chunks; },
                       [&] { return streamed(clip_, schedule, serial, kernels_); }});
  }

  void check_run(const Schedule& s) {
    const Geometry& g = clip_.geometry;
    const Written clean = s.run();
    ASSERT_TRUE(all_finite(clean.out));
    const auto poison = [&](Source source, std::vector<float>& values, std::int64_t heads, std::int64_t dim) {
      const std::uint32_t nan = nan_bits[random_.integer(0, 3)];
      for (const std::uint32_t bits : {nan, infinity_bits, minus_infinity_bits}) {
        const Spot spot{source, random_.integer(0, g.batch - 1), random_.integer(0, g.tokens() - 1),
                        random_.integer(0, heads - 1), random_.integer(0, dim - 1)};
        expect_reach(s, spot, values[index_of(spot, heads, dim)], bits, clean);
      }
    };
    poison(Source::q, clip_.q, g.heads(), g.dim);
    poison(Source::k, clip_.k, g.kv_heads, g.dim);
    poison(Source::v, clip_.v, g.kv_heads, g.value_dim);
    if (!s.has_linear || clip_.given_q.empty()) return;
    poison(Source::given_q, clip_.given_q, g.heads(), g.given_dim);
    poison(Source::given_k, clip_.given_k, g.kv_heads, g.given_dim);
    if (clip_.given_q_denominator.empty()) return;
    poison(Source::given_q_denominator, clip_.given_q_denominator, g.heads(), g.given_dim);
    poison(Source::given_k_denominator, clip_.given_k_denominator, g.kv_heads, g.given_dim);
  }

  std::size_t index_of(const Spot& s, std::int64_t heads, std::int64_t dim) const {
    return static_cast<std::size_t>(((s.entry * clip_.geometry.tokens() + s.token) * heads + s.head) * dim +
                                    s.channel);
  }

  void expect_reach(const Schedule& s, const Spot& spot, float& element, std::uint32_t bits,
                    const Written& clean) {
    SCOPED_TRACE(testing::Message() << "bits " << std::hex << bits << std::dec << " in tensor "
                                    << static_cast<int>(spot.source) << ", entry " << spot.entry << ", token "
                                    << spot.token << ", head " << spot.head << ", channel " << spot.channel);
    const float before = element;
    std::memcpy(&element, &bits, sizeof bits);  // an assignment may make a signalling NaN quiet
    const Written hit = s.run();
    element = before;
    const bool separate = !clip_.given_q_denominator.empty();
    const bool numerator_alone =
        spot.source == Source::v ||
        (separate && (spot.source == Source::given_q || spot.source == Source::given_k));
    expect_reached(spot, Attended(s.sets_of(spot.entry)), clip_, clean, hit,
                   !s.shifts || clip_.stabilizer == Stabilizer::row_max, !numerator_alone);
  }

  TestClip& clip_;
  Random& random_;
  const Kernels& kernels_;
};

}  // namespace rehyat::support
