// The tests' own instruments: each must notice what it is there to notice.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/guard_pages.hpp"
#include "support/random.hpp"

namespace rehyat::support {
namespace {

TEST(Support, CompareTreatsNonFiniteValuesByKind) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  using Floats = std::vector<float>;
  EXPECT_DOUBLE_EQ(relative_error(Floats{1, 4.5f}, Floats{1, 4}), 0.125);
  EXPECT_EQ(relative_error(Floats{nan, inf, 0}, Floats{nan, inf, 0}), 0);
  EXPECT_TRUE(std::isinf(relative_error(Floats{nan}, Floats{1})));
  EXPECT_TRUE(std::isinf(relative_error(Floats{1}, Floats{nan})));
  EXPECT_TRUE(std::isinf(relative_error(Floats{-inf}, Floats{inf})));
  EXPECT_TRUE(std::isinf(relative_error(Floats{1}, Floats{1, 2})));
  EXPECT_TRUE(bit_equal(Floats{nan, 1}, Floats{nan, 1}));
  EXPECT_FALSE(bit_equal(Floats{0.0f}, Floats{-0.0f}));
  EXPECT_EQ(first_bit_difference(Floats{1, 2, 3}, Floats{1, 2, 4}), 2u);
}

TEST(Support, RandomIsReproducible) {
  Random a(3), b(3);
  EXPECT_TRUE(bit_equal(a.normals(100), b.normals(100)));
  double sum = 0, squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = a.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 1e5, 0, 0.02);
  EXPECT_NEAR(squares / 1e5, 1, 0.02);
}

TEST(SupportDeathTest, GuardPagesStopOverruns) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const std::int64_t count : {1, 7, 1023, 1024, 1025}) {
    GuardedBuffer at_end(count, Flush::end), at_start(count, Flush::start);
    volatile float* end = at_end.data() + count;
    volatile float* start = at_start.data();
    end[-1] = 1;
    start[0] = 1;
    EXPECT_DEATH(static_cast<void>(end[0]), "");
    EXPECT_DEATH(static_cast<void>(start[-1]), "");
  }
  GuardedTensor input(1, 2, 1, 3);
  input.make_read_only();
  EXPECT_DEATH(*const_cast<volatile float*>(input.view().data) = 1, "");
}

TEST(Support, GuardedTensorKeepsValuesAndNoticesWritesToGaps) {
  for (const std::uint64_t seed : seeds(20)) {
    SCOPED_TRACE(replay(seed));
    Random random(seed);
    const Layout layout = Layout::random(random);
    GuardedTensor tensor(2, 3, 4, 5, layout, random.pick({Flush::end, Flush::start}));
    EXPECT_TRUE(tensor.untouched());
    const std::vector<float> values = random.normals(2 * 3 * 4 * 5);
    tensor.assign(values);
    EXPECT_TRUE(bit_equal(tensor.packed(), values));
    EXPECT_EQ(tensor.view().row(1, 2, 3)[4], values.back());
    EXPECT_TRUE(tensor.gaps_untouched());
    EXPECT_FALSE(tensor.untouched());
    if (layout.row_gap > 0) {
      tensor.view().row(1, 1, 1)[5] = 0;
      EXPECT_FALSE(tensor.gaps_untouched());
    }
  }
}

TEST(Support, AllocationCounterSeesEveryKind) {
  if (!AllocationCounter::works()) GTEST_SKIP() << "malloc cannot be replaced in this build";
  struct alignas(128) Aligned {
    char bytes[128];
  };
  static void* volatile memory[6];
  AllocationCounter counter;
  memory[0] = std::malloc(3);
  memory[1] = std::calloc(3, 5);
  memory[2] = std::aligned_alloc(64, 128);
  memory[3] = new char;
  memory[4] = new Aligned;
  void* aligned = nullptr;
  const int error = posix_memalign(&aligned, 64, 10);
  memory[0] = std::realloc(memory[0], 10000);
  const std::int64_t count = counter.stop();
  EXPECT_EQ(error, 0);
  EXPECT_EQ(count, 7);
  for (const int i : {0, 1, 2}) std::free(memory[i]);
  delete static_cast<char*>(memory[3]);
  delete static_cast<Aligned*>(memory[4]);
  std::free(aligned);

  AllocationCounter idle;
  memory[5] = nullptr;
  EXPECT_EQ(idle.stop(), 0);
}

}  // namespace
}  // namespace rehyat::support
