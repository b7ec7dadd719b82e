// Reading and writing .npy files, and refusing what is not one.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rehyat/io/mapped_npy.hpp"
#include "rehyat/io/npy.hpp"
#include "support/files.hpp"

namespace rehyat::test {
namespace {

constexpr std::uint32_t quiet_nan_bits = 0x7FC00000u;

Result<NpyArray> parse(std::string_view bytes) {
  return parse_exact(bytes, [](std::span<const std::byte> exact) { return parse_npy(exact, "x.npy"); });
}

std::string npy_with_length(std::uint32_t length, const std::string& header, const std::string& data,
                            char major) {
  std::string bytes = std::string("\x93NUMPY") + major + '\0';
  bytes.append(reinterpret_cast<const char*>(&length), major == 1 ? 2 : 4);
  return bytes + header + data;
}

std::string npy(const std::string& header, const std::string& data, char major = 1) {
  return npy_with_length(static_cast<std::uint32_t>(header.size()), header, data, major);
}

std::string header_of(const std::string& descr, const std::string& shape,
                      const std::string& fortran = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + fortran + ", 'shape': " + shape + ", }   \n";
}

void expect_consistent(const Result<NpyArray>& array) {
  if (!array.ok()) {
    EXPECT_EQ(array.status().code(), StatusCode::invalid_file);
    EXPECT_NE(std::string_view(array.status().message()).find("x.npy: "), std::string_view::npos);
    return;
  }
  ASSERT_LE(array->rank, max_npy_rank);
  std::int64_t count = 1;
  for (const std::int64_t extent : array->extents()) count *= extent;
  EXPECT_EQ(static_cast<std::size_t>(count), array->data.size());
}

TEST(Npy, WritesAndReadsBackEveryRank) {
  const TemporaryDirectory directory;
  std::vector<std::int64_t> shape;
  for (int rank = 0; rank <= max_npy_rank; ++rank) {
    std::vector<float> data(static_cast<std::size_t>(
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>())));
    std::iota(data.begin(), data.end(), 0.5f);
    const std::string path = directory.file("a.npy");
    ASSERT_TRUE(write_npy(path.c_str(), shape, data).ok());
    EXPECT_EQ(read_bytes(path).size() % 64, data.size() * 4 % 64) << "the data is aligned to 64 bytes";
    const Result<NpyArray> array = read_npy(path.c_str());
    ASSERT_TRUE(array.ok()) << array.status().message();
    EXPECT_TRUE(std::equal(shape.begin(), shape.end(), array->extents().begin(), array->extents().end()));
    EXPECT_TRUE(std::equal(data.begin(), data.end(), array->data.span().begin(), array->data.span().end()));
    shape.push_back(1 + rank % 3);
  }
  EXPECT_EQ(directory.names(), std::vector<std::string>{"a.npy"});
}

TEST(Npy, KeepsEveryBitOfFloat32) {
  const TemporaryDirectory directory;
  std::vector<float> data;
  for (const std::uint32_t bits :
       {0x7FA00001u, 0xFFC12345u, 0x80000000u, 0x00000001u, 0x7F800000u, 0xFF800000u}) {
    data.resize(data.size() + 1);
    std::memcpy(&data.back(), &bits, sizeof bits);
  }
  const std::int64_t shape[] = {3, 2};
  const std::string path = directory.file("bits.npy");
  ASSERT_TRUE(write_npy(path.c_str(), shape, data).ok());
  const Result<NpyArray> array = read_npy(path.c_str());
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(std::memcmp(array->data.data(), data.data(), data.size() * sizeof(float)), 0);
}

TEST(Npy, RoundsFloat64ToNearestEven) {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> stored = {1 + 0x1p-24, 1 + 3 * 0x1p-24, 1 + 0x1p-24 + 0x1p-40, -0.0, 1e300, -inf,
                                      0x1p-149,    0x1p-150};
  const std::vector<float> expected = {1,        1 + 0x1p-22f, 1 + 0x1p-23f, -0.0f,
                                       INFINITY, -INFINITY,    0x1p-149f,    0};
  Result<NpyArray> array = parse(npy(header_of("'<f8'", "(8,)"), bytes_of(stored)));
  ASSERT_TRUE(array.ok()) << array.status().message();
  EXPECT_EQ(std::memcmp(array->data.data(), expected.data(), 8 * sizeof(float)), 0);

  array = parse(npy(header_of("'<f8'", "()"), bytes_of(std::vector<double>{std::nan("")})));
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(std::bit_cast<std::uint32_t>(array->data.data()[0]), quiet_nan_bits);
}

TEST(Npy, ReadsEveryVersionTypeAndHeaderSpelling) {
  const std::vector<std::uint16_t> halves = {0x3C00, 0xC000, 0x0001};
  const std::vector<float> floats = {1, -2, 0x1p-24f};
  for (const char major : {'\1', '\2', '\3'}) {
    for (const std::string& header :
         {header_of("'<f2'", "(3,)"), header_of("\"<f2\"", "(3, 1)"),
          std::string("{'shape':(1,3,),'fortran_order':False,'descr':'<f2'}"),
          std::string(" { 'fortran_order' : False , 'descr' : '<f2' , 'shape' : ( 3 , ) } ")}) {
      const Result<NpyArray> array = parse(npy(header, bytes_of(halves), major));
      ASSERT_TRUE(array.ok()) << array.status().message();
      EXPECT_TRUE(
          std::equal(floats.begin(), floats.end(), array->data.span().begin(), array->data.span().end()));
    }
  }
  const Result<NpyArray> empty = parse(npy(header_of("'<f4'", "(3, 0, 5)"), ""));
  ASSERT_TRUE(empty.ok()) << empty.status().message();
  EXPECT_EQ(empty->data.size(), 0u);
}

TEST(Npy, MappedIsWhatIsReadAndTheFilesOwnPagesWhereAViewCanHaveThem) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("a.npy");
  const std::vector<std::uint16_t> halves = {0x3C00, 0xC000, 0x0001};
  const std::vector<float> floats = {1, -2, 0x1p-24f};
  const auto with_data_at = [](std::size_t remainder, std::string header, const std::string& data) {
    while ((10 + header.size()) % 4 != remainder) header += ' ';
    return npy(header, data);
  };
  struct {
    std::string file;
    ElementType type;
    bool is_copy;
  } const cases[] = {
      {with_data_at(2, header_of("'<f2'", "(3, 1)"), bytes_of(halves)), ElementType::float16, false},
      {with_data_at(0, header_of("'<f4'", "(3, 1)"), bytes_of(floats)), ElementType::float32, false},
      {with_data_at(2, header_of("'<f4'", "(3, 1)"), bytes_of(floats)), ElementType::float32, true},
      {npy(header_of("'<f8'", "(3, 1)"), bytes_of(std::vector<double>{1, -2, 0x1p-24})), ElementType::float32,
       true},
  };
  for (const auto& [file, type, is_copy] : cases) {
    write_bytes(path, file);
    Result<MappedNpy> mapped = map_npy(path.c_str());
    ASSERT_TRUE(mapped.ok()) << mapped.status().message();
    const MappedNpy array = std::move(*mapped);
    EXPECT_EQ(array.type, type);
    EXPECT_EQ(array.copy.size() > 0, is_copy);
    EXPECT_EQ(array.pages.bytes().empty(), is_copy);
    ASSERT_EQ(array.rank, 2);
    EXPECT_EQ(array.shape[0], 3);
    const std::string expected = type == ElementType::float16 ? bytes_of(halves) : bytes_of(floats);
    EXPECT_EQ(std::memcmp(array.data, expected.data(), expected.size()), 0);
  }
  for (const std::string& bad : {std::string(), cases[0].file + "x", std::string("PK")}) {
    write_bytes(path, bad);
    EXPECT_STREQ(map_npy(path.c_str()).status().message(), read_npy(path.c_str()).status().message());
  }
  for (const std::string& bad : {directory.file("missing.npy"), directory.file("")}) {
    EXPECT_STREQ(map_npy(bad.c_str()).status().message(), read_npy(bad.c_str()).status().message());
  }
}

TEST(Npy, RefusesMalformedFilesWithAReason) {
  const std::string data = bytes_of(std::vector<float>(6));
  const auto with = [&](const std::string& descr, const std::string& shape,
                        const std::string& fortran = "False") {
    return npy(header_of(descr, shape, fortran), data);
  };
  const std::string good = header_of("'<f4'", "(6,)");
  const std::pair<std::string, const char*> cases[] = {
      {"", "does not begin with"},
      {"PK\3\4 a zip archive", "does not begin with"},
      {npy(good, data, '\4'), "version 4.0"},
      {npy_with_length(60000, good, data, 1), "header of 60000 bytes"},
      {npy_with_length(0xFFFFFFFFu, good, data, 2), "header of 4294967295 bytes"},
      {with("'>f4'", "(6,)"), "big-endian"},
      {with("'<i4'", "(6,)"), "dtype '<i4'"},
      {with("'|O'", "(6,)"), "dtype '|O'"},
      {with("'<f4\n'", "(6,)"), "dtype '<f4?'"},
      {with("[('a', '<f4')]", "(6,)"), "not a plain type"},
      {with("'<f4'", "(2, 3)", "True"), "Fortran order"},
      {with("'<f4'", "(2, 3)", "0"), "True or False"},
      {with("'<f4'", "(6)"), "a tuple"},
      {with("'<f4'", "[6]"), "'('"},
      {with("'<f4'", "(6.0,)"), "',' or ')'"},
      {with("'<f4'", "(-6,)"), "an extent"},
      {with("'<f4'", "(,)"), "an extent"},
      {with("'<f4'", "(6 1)"), "',' or ')'"},
      {with("'<f4'", "(6"), "an extent"},
      {with("'<f4'", "(6, 1, 1, 1, 1, 1, 1, 1, 1)"), "more than 8 dimensions"},
      {with("'<f4'", "(9223372036854775808,)"), "an extent"},
      {with("'<f4'", "(4611686018427387904, 4)"), "larger than any file"},
      {with("'<f4'", "(4611686018427387904, 4, 0)"), "larger than any file"},
      {with("'<f4'", "(7,)"), "24 bytes of data; expected 28"},
      {with("'<f4'", "(1099511627776,)"), "24 bytes of data; expected 4398046511104"},
      {with("'<f4'", "(5,)"), "24 bytes of data; expected 20"},
      {with("'<f4'", "(0,)"), "24 bytes of data; expected 0"},
      {npy(good + "x", data), "nothing but padding"},
      {npy("{'descr': '<f4', 'shape': (6,)}", data), "lacks the key 'fortran_order'"},
      {npy("{'descr': '<f4', 'descr': '<f4', 'shape': (6,)}", data), "'descr' occurs twice"},
      {npy("{'shape': (6,), 'size': 6}", data), "unknown header key 'size'"},
      {npy("{'shape': (6,) 'descr': '<f4'}", data), "',' or '}'"},
      {npy("{'shape' (6,)}", data), "':'"},
      {npy("{'shape", data), "a quoted key"},
      {npy("{", data), "a quoted key"},
      {npy("", data), "'{'"},
  };
  for (const auto& [bytes, reason] : cases) {
    const Result<NpyArray> array = parse(bytes);
    ASSERT_FALSE(array.ok()) << reason;
    expect_refused(array.status(), StatusCode::invalid_file, "x.npy: ", reason);
  }
}

TEST(Npy, SurvivesTruncationFlippedBytesAndGarbage) {
  const std::string good = npy(header_of("'<f4'", "(2, 3)"), bytes_of(std::vector<float>(6, 1.5f)));
  ASSERT_TRUE(parse(good).ok());
  EXPECT_FALSE(parse(good + '\0').ok());
  for_each_truncation(good, [](const std::string& cut) { EXPECT_FALSE(parse(cut).ok()) << cut.size(); });
  for_each_flip(good, [](const std::string& damaged) { expect_consistent(parse(damaged)); });

  std::mt19937 random(20260);
  const std::string_view alphabet = "{}()[]'\",: 0123456789<>f48descrfortran_ordershapeFalseTrue\n";
  for (int round = 0; round < 20000; ++round) {
    std::string header(random() % 80, ' ');
    for (char& c : header)
      c = round % 2 == 0 ? alphabet[random() % alphabet.size()] : static_cast<char>(random());
    expect_consistent(
        parse(npy(header, std::string(random() % 9, 'x'), static_cast<char>(1 + random() % 3))));
  }
}

TEST(Npy, RefusesToWriteAShapeThatIsNotTheData) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("a.npy");
  const std::vector<float> data(6);
  const std::vector<std::int64_t> shapes[] = {
      {7}, {}, {-2, -3}, {1, 1, 1, 1, 1, 1, 1, 1, 6}, {1LL << 62, 1LL << 62}};
  for (const std::vector<std::int64_t>& shape : shapes) {
    expect_refused(write_npy(path.c_str(), shape, data), StatusCode::invalid_argument, "a.npy", "shape");
  }
  EXPECT_TRUE(directory.names().empty());
}

}  // namespace
}  // namespace rehyat::test
