#pragma once
// What runs from C and C++ are compared by.

#include <gtest/gtest.h>

#include "c_api/to_c.hpp"
#include "support/element_tensor.hpp"
#include "support/test_clip.hpp"
#include "support/typed_clip.hpp"

namespace rehyat::c_test {

using support::ElementTensor;
using support::ElementTypes;
using support::Geometry;
using support::Random;
using support::TestClip;
using support::Written;

/// For ASSERT_TRUE.
inline testing::AssertionResult ok(const rehyat_status& status) {
  if (status.code == REHYAT_OK && *status.message == '\0') return testing::AssertionSuccess();
  return testing::AssertionFailure() << status.code << ": " << status.message;
}

/// A C++ executor as one of C.
template <class E>
rehyat_executor executor_of(E& executor) {
  return {.slots = executor.slots(),
          .context = &executor,
          .run = [](void* context, int64_t count, rehyat_task task, void* task_context) {
            const auto call = [&](std::int64_t index, int slot) { task(task_context, index, slot); };
            static_cast<E*>(context)->run(count, call);
          }};
}

/// Outputs of any element type with gaps, statistics and report.
struct Outputs {
  ElementTensor out;
  Written written;

  template <class P>
  Outputs(const P& p, ElementType type) : out(type, shape(p)), written(p.q.batch, p.q.tokens, p.q.heads, 1) {}

  template <class P>
  void receive(P& p) {
    written.receive(p);
    p.out = out.output();
  }

 private:
  template <class P>
  static InputView shape(const P& p) {
    InputView s = p.q;
    s.dim = p.v.dim;
    return s;
  }
};

inline void expect_equal(const Outputs& c, const Outputs& cpp) {
  EXPECT_TRUE(support::bit_equal(c.out.values(), cpp.out.values()));
  EXPECT_TRUE(c.out.gaps_untouched());
  EXPECT_TRUE(support::bit_equal(c.written.row_max, cpp.written.row_max));
  EXPECT_TRUE(support::bit_equal(c.written.row_sum, cpp.written.row_sum));
  EXPECT_TRUE(support::bit_equal(c.written.linear_denominator, cpp.written.linear_denominator));
  EXPECT_EQ(c.written.report.smallest, cpp.written.report.smallest);
  EXPECT_EQ(c.written.report.smallest_magnitude, cpp.written.report.smallest_magnitude);
  EXPECT_EQ(c.written.report.nan_count, cpp.written.report.nan_count);
}

/// Where a C report belongs.
inline void store(const rehyat_denominator_report& from, DenominatorReport* to) {
  if (to != nullptr) *to = {from.smallest, from.smallest_magnitude, from.nan_count};
}

/// A random clip of random types, and its inputs with gaps.
struct Case {
  explicit Case(Random& random)
      : clip(TestClip::random(random, Geometry::random(random))),
        types(random.coin() ? ElementTypes{} : ElementTypes::random(random)) {
    types.round(clip);
  }

  TestClip clip;
  ElementTypes types;
};

}  // namespace rehyat::c_test
