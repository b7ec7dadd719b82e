// Views of mdspans: of the standard library's where it has it, and of a stand-in with the same members.

#include "rehyat/mdspan.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>
#include <vector>
#include <version>

#ifdef __cpp_lib_mdspan
#include <mdspan>
#endif

namespace rehyat {
namespace {

/// The members of std::mdspan<T, dextents<std::size_t, n>, layout_stride> that are used.
template <class T, std::size_t n, class Reference = T&>
struct StridedSpan {
  using element_type = T;
  using reference = Reference;
  using data_handle_type = T*;
  using rank_type = std::size_t;

  static constexpr std::size_t rank() { return n; }
  std::size_t extent(std::size_t i) const { return extents[i]; }
  std::size_t stride(std::size_t i) const { return strides[i]; }
  bool is_strided() const { return strided; }
  T* data_handle() const { return data; }

  T* data = nullptr;
  std::array<std::size_t, n> extents = {}, strides = {};
  bool strided = true;
};

static_assert(Mdspan<StridedSpan<float, 3>> && Mdspan<StridedSpan<const bfloat16, 4>>);
static_assert(!Mdspan<StridedSpan<float, 2>> && !Mdspan<StridedSpan<double, 3>>);
static_assert(!Mdspan<StridedSpan<float, 3, float>>,
              "elements that are computed on the way are not in memory");
template <class T>
concept Writable = requires(const T& t) {
  mdspan_output(t, "x");
};
static_assert(Writable<StridedSpan<float, 3>> && !Writable<StridedSpan<const float, 3>>);

class MdspanTest : public testing::Test {
 protected:
  MdspanTest() { std::iota(values_.begin(), values_.end(), 0.0f); }
  std::vector<float> values_ = std::vector<float>(120);
};

float first_of(const InputView& view, std::int64_t b, std::int64_t t, std::int64_t h) {
  return *static_cast<const float*>(view.row(b, t, h));
}

TEST_F(MdspanTest, SeesStrides) {
  const StridedSpan<const float, 4> packed{values_.data(), {2, 3, 4, 5}, {60, 20, 5, 1}};
  const Result<InputView> view = mdspan_input(packed, "q");
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(view->batch, 2);
  EXPECT_EQ(view->tokens, 3);
  EXPECT_EQ(view->heads, 4);
  EXPECT_EQ(view->dim, 5);
  EXPECT_EQ(first_of(*view, 1, 2, 3), 60 + 40 + 15);
  const Result<InputView> heads_first = mdspan_input(packed, "q", TensorAxes::head_token_dim);
  ASSERT_TRUE(heads_first.ok());
  EXPECT_EQ(heads_first->tokens, 4);
  EXPECT_EQ(first_of(*heads_first, 1, 3, 2), 60 + 40 + 15);

  const StridedSpan<float, 3> slice{values_.data() + 7, {3, 2, 4}, {40, 10, 1}};
  const Result<OutputView> out = mdspan_output(slice, "out");
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(out->batch, 1);
  EXPECT_EQ(out->row(0, 2, 1), values_.data() + 7 + 90);
  EXPECT_EQ(mdspan_input(StridedSpan<float16, 3>{}, "k")->type, ElementType::float16);
}

TEST_F(MdspanTest, Refuses) {
  const auto refuse = [](const auto& span, const std::string& message) {
    EXPECT_EQ(mdspan_input(span, "q").status().message(), message);
    EXPECT_FALSE(mdspan_output(span, "q").ok());
  };
  using Span = StridedSpan<float, 3>;
  refuse(Span{values_.data(), {3, 2, 4}, {1, 3, 6}},
         "q.stride(2) is 6, expected 1: the elements of a row side by side");
  refuse(Span{values_.data(), {3, std::numeric_limits<std::size_t>::max() / 2 + 1, 4}, {8, 4, 1}},
         "q.extent(1) is -9223372036854775808, expected what an int64 holds");
  refuse(Span{values_.data(), {3, 2, 4}, {8, 4, 1}, false}, "q.is_strided() is false, expected true");
  refuse(Span{nullptr, {3, 2, 4}, {8, 4, 1}}, "q.data is null, expected memory");
  EXPECT_STREQ(mdspan_output(Span{values_.data(), {3, 2, 4}, {0, 4, 1}}, "out").status().message(),
               "out strides are 0, 0, 4, expected ones that give every element its own address");
}

#ifdef __cpp_lib_mdspan
TEST_F(MdspanTest, OfTheStandardLibrary) {
  const std::mdspan<const float, std::dextents<int, 4>> right(values_.data(), 2, 3, 4, 5);
  const Result<InputView> view = mdspan_input(right, "q");
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(first_of(*view, 1, 2, 3), 60 + 40 + 15);
  const std::mdspan<float, std::dextents<int, 3>, std::layout_left> left(values_.data(), 3, 4, 5);
  EXPECT_FALSE(mdspan_output(left, "out").ok());
}
#endif

}  // namespace
}  // namespace rehyat
