// The .npy reader on any bytes: it refuses with a message, or gives the array that the bytes describe.

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "rehyat/io/npy.hpp"

namespace rehyat::fuzz {
namespace {

/// binary16 by its definition, sign * mantissa * 2^exponent.
double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
  const double sign = bits >> 15 != 0 ? -1 : 1;
  if (exponent == 0x1f) return mantissa == 0 ? sign * INFINITY : NAN;
  return sign * std::ldexp(exponent == 0 ? mantissa : mantissa + 1024, (exponent == 0 ? 1 : exponent) - 25);
}

/// Element `i` of packed elements of `size` bytes.
float stored_value(const std::byte* bytes, std::size_t size, std::size_t i) {
  const auto load = [&](auto value) {
    std::memcpy(&value, bytes + i * size, size);
    return value;
  };
  if (size == 2) return static_cast<float>(half_value(load(std::uint16_t{})));
  return size == 4 ? load(float{}) : static_cast<float>(load(double{}));
}

void expect_refusal(const Status& status) {
  const std::string_view message = status.message();
  EXPECT_EQ(status.code(), StatusCode::invalid_file) << message;
  EXPECT_TRUE(message.starts_with("x.npy: ")) << message;
  EXPECT_EQ(message.find('\n'), std::string_view::npos) << message;
}

/// The data are the last bytes of the file, and there are as many of them as the shape says.
void expect_elements(const NpyArray& array, std::span<const std::byte> file) {
  ASSERT_TRUE(array.rank >= 0 && array.rank <= max_npy_rank);
  std::size_t count = 1;
  for (const std::int64_t extent : array.extents()) count *= static_cast<std::size_t>(extent);
  ASSERT_EQ(count, array.data.size());
  if (count == 0) return;
  std::span<const std::byte> data;
  std::string_view header;
  ASSERT_TRUE(detail::split_npy(file, "x.npy", header, data).ok());
  ASSERT_EQ(data.size() % count, 0u);
  const std::size_t size = data.size() / count;
  ASSERT_TRUE(size == 2 || size == 4 || size == 8) << size;
  for (std::size_t i = 0; i < count; ++i) {
    const float expected = stored_value(data.data(), size, i), actual = array.data.data()[i];
    EXPECT_TRUE(actual == expected || (std::isnan(actual) && std::isnan(expected)))
        << "element " << i << " of " << size << " bytes is " << actual << ", expected " << expected;
  }
}

}  // namespace
}  // namespace rehyat::fuzz

/// `data` is memory of exactly `size` bytes already: libFuzzer copies every input.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  const rehyat::Result<rehyat::NpyArray> array = rehyat::parse_npy(file, "x.npy");
  if (array.ok()) {
    rehyat::fuzz::expect_elements(*array, file);
  } else {
    rehyat::fuzz::expect_refusal(array.status());
  }
  return 0;
}
