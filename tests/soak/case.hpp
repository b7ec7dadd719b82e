#pragma once
// A clip that all threads share, with everything that calls on it must give: computed once, on one thread.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "reference/case_of.hpp"
#include "reference/plain_float.hpp"
#include "reference/reference.hpp"
#include "rehyat/packed_weights.hpp"
#include "support/clip_stream.hpp"
#include "support/compare.hpp"
#include "support/element_tensor.hpp"
#include "support/isas.hpp"
#include "support/random.hpp"
#include "support/test_clip.hpp"

namespace rehyat::soak {

using support::Random;
using support::TestClip;
using support::Written;

inline constexpr int num_schedules = 2;
inline constexpr RecurrentSchedule schedules[num_schedules] = {RecurrentSchedule::hybrid,
                                                               RecurrentSchedule::linear};

/// A state in the middle of a clip that is only ever peeked.
struct SharedState {
  std::unique_ptr<support::OwnedState> state;
  std::int64_t chunk = 0;  ///< the one it is peeked with
  Written expected;

  SharedState(const TestClip& clip, RecurrentSchedule schedule, const Kernels& kernels, Random& random)
      : state(std::make_unique<support::OwnedState>(clip.recurrent(schedule), 1, kernels)),
        chunk(random.integer(0, clip.geometry.chunks() - 1)),
        expected(clip.geometry.batch, clip.geometry.tokens(), clip.geometry.heads(),
                 clip.geometry.value_dim) {
    SerialExecutor serial;
    support::ClipStream chunks(clip, expected);
    for (std::int64_t t = 0; t < chunk; ++t) EXPECT_TRUE(state->commit(chunks.chunk(t), serial).ok());
    EXPECT_TRUE(state->peek(chunks.chunk(chunk), serial).ok());
  }
};

/// Weights in panels, with their memory.
class PackedMap {
 public:
  PackedMap(const FeatureMap& map, std::int64_t head_dim) : map_(map) {
    if (map.kind != FeatureMap::Kind::polynomial) return;
    memory_.resize(*packed_weights_size(map, head_dim));
    map_ = *pack_weights(map, head_dim, {memory_.data(), memory_.size()});
  }
  const FeatureMap& map() const { return map_; }

 private:
  std::vector<char> memory_;
  FeatureMap map_;
};

/// Whether `written` is what the double reference gives. The bound only tells wrong from right: accuracy is
/// random_test's.
template <class P>
testing::AssertionResult close_to_reference(const P& p, const Written& written) {
  for (std::int64_t b = 0; b < p.q.batch; ++b) {
    const reference::Case c = reference::case_of(p, b);
    const reference::Output exact = reference::by_sums(c), plain = reference::plain_float(c);
    const auto begin = written.out.begin() + b * p.q.tokens * p.q.heads * p.v.dim;
    const std::vector<float> out(begin, begin + static_cast<std::ptrdiff_t>(exact.y.values.size()));
    const double error = support::relative_error(out, exact.y.values);
    const double allowed =
        10 * support::allowed_error(support::relative_error(plain.y.values, exact.y.values));
    if (!(error <= allowed)) {
      return testing::AssertionFailure()
             << "relative error " << error << " in batch entry " << b << ", allowed " << allowed;
    }
  }
  return testing::AssertionSuccess();
}

struct Case {
  std::uint64_t seed;
  TestClip clip;
  const Kernels* kernels;
  PackedMap packed_q, packed_k;
  support::ElementTensor q, k, v;      ///< the clip's, as elements of 16 bits or 32
  std::vector<Written> one_shot = {};  ///< of each operator, in the order of for_each_operator
  std::vector<Written> streamed = {};  ///< of each schedule
  std::vector<SharedState> shared = {};

  /// A random clip on a random instruction set.
  static Case random(std::uint64_t seed) {
    Random random(seed);
    const std::vector<Isa> isas = support::tested_isas();
    const Isa isa =
        isas[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(isas.size()) - 1))];
    TestClip clip = TestClip::random(random, support::Geometry::random(random));
    if (clip.stabilizer == Stabilizer::row_max) {
      clip.denominator_epsilon = random.pick({0.0f, 1e-3f});
      clip.denominator_floor = random.pick({0.0f, 1.5f});
    }
    const ElementType q_type = support::random_element(random), kv_type = support::random_element(random);
    clip.q = support::rounded(std::move(clip.q), q_type);
    clip.k = support::rounded(std::move(clip.k), kv_type);
    clip.v = support::rounded(std::move(clip.v), kv_type);
    return {seed, std::move(clip), **find_kernels(isa_name(isa)), random, q_type, kv_type};
  }

  Case(std::uint64_t case_seed, TestClip&& a_clip, const Kernels& its_kernels, Random& random,
       ElementType q_type, ElementType kv_type)
      : seed(case_seed),
        clip(std::move(a_clip)),
        kernels(&its_kernels),
        packed_q(clip.phi_q, clip.geometry.dim),
        packed_k(clip.phi_k, clip.geometry.dim),
        q(q_type, clip.q_view()),
        k(kv_type, clip.k_view()),
        v(kv_type, clip.v_view()) {
    q.assign(clip.q), k.assign(clip.k), v.assign(clip.v);
    clip.for_each_operator(
        [&](const char*, const auto& p) { one_shot.push_back(support::evaluate(p, *kernels)); });
    SerialExecutor serial;
    for (const RecurrentSchedule schedule : schedules) {
      support::OwnedState state(clip.recurrent(schedule), 1, *kernels);
      streamed.push_back(support::stream(clip, state, serial));
      shared.emplace_back(clip, schedule, *kernels, random);
    }
  }

  /// Points q, k and v of `parameters` to the tensors of narrower elements.
  template <class P>
  void feed(P& parameters) const {
    parameters.q = q.input(), parameters.k = k.input(), parameters.v = v.input();
  }

  /// All operators against the double reference.
  testing::AssertionResult close_to_reference() const {
    testing::AssertionResult result = testing::AssertionSuccess();
    std::size_t i = 0;
    clip.for_each_operator([&](const char* name, const auto& p) {
      const testing::AssertionResult close = soak::close_to_reference(p, one_shot[i++]);
      if (!close) result = testing::AssertionFailure() << name << ": " << close.message();
    });
    return result;
  }
};

}  // namespace rehyat::soak
