// What the file formats share: conversion to float32, reading whole files, writing them atomically.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "rehyat/io/half.hpp"
#include "rehyat/io/npy.hpp"
#include "support/files.hpp"

namespace rehyat::test {
namespace {

TEST(Half, AllValuesConvertExactly) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31), mantissa = static_cast<int>(bits & 1023);
    const float value = half_to_float(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(std::signbit(value), bits >> 15 != 0) << bits;
    if (exponent == 31 && mantissa != 0) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      const std::uint32_t quiet = 512;  // the only bit of a payload that changes
      ASSERT_EQ(std::bit_cast<std::uint32_t>(value) >> 13 & 1023u, (bits & 1023u) | quiet) << bits;
      continue;
    }
    const double magnitude = exponent == 31  ? std::numeric_limits<double>::infinity()
                             : exponent == 0 ? std::ldexp(mantissa, -24)
                                             : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(std::abs(static_cast<double>(value)), magnitude) << bits;
  }
}

TEST(Half, Bfloat16IsTheUpperHalf) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bfloat16_to_float(static_cast<std::uint16_t>(bits))), bits << 16);
  }
}

TEST(File, ReadsOnlyRegularFiles) {
  const TemporaryDirectory directory;
  expect_refused(read_npy(directory.file("absent.npy").c_str()).status(), StatusCode::invalid_file,
                 "absent.npy", "cannot be opened");
  expect_refused(read_npy(directory.file("").c_str()).status(), StatusCode::invalid_file, "",
                 "not a regular file");
  ASSERT_EQ(::mkfifo(directory.file("pipe").c_str(), 0600), 0);
  expect_refused(read_npy(directory.file("pipe").c_str()).status(), StatusCode::invalid_file, "pipe",
                 "not a regular file");
}

TEST(File, AFailedWriteLeavesTheOldFileAndNothingElse) {
  const TemporaryDirectory directory;
  const std::string old_file = directory.file("out.npy"), folder = directory.file("folder");
  write_bytes(old_file, "old");
  std::filesystem::create_directory(folder);
  const std::vector<float> data(1 << 20);
  const std::int64_t shape[] = {1 << 20};

  expect_refused(write_npy(folder.c_str(), shape, data), StatusCode::invalid_file, "folder",
                 "not a regular file");
  expect_refused(write_npy(directory.file("absent/out.npy").c_str(), shape, data), StatusCode::invalid_file,
                 "out.npy", "cannot create");

  // A disk that fills up in the middle: files may not grow beyond 64 KiB.
  rlimit unlimited = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  rlimit small = unlimited;
  small.rlim_cur = 1 << 16;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status full = write_npy(old_file.c_str(), shape, data);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &unlimited), 0);
  std::signal(SIGXFSZ, old_handler);
  expect_refused(full, StatusCode::invalid_file, "out.npy", "cannot be written");

  EXPECT_EQ(read_bytes(old_file), "old");
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"folder", "out.npy"}));
  EXPECT_TRUE(std::filesystem::is_empty(folder));

  if (::geteuid() == 0) return;  // for whom no directory is read-only
  std::filesystem::permissions(folder,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  expect_refused(write_npy((folder + "/out.npy").c_str(), shape, data), StatusCode::invalid_file, "out.npy",
                 "cannot create");
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
}

TEST(File, AWriteReplacesTheFileButKeepsLinksAndPermissions) {
  const TemporaryDirectory directory;
  const std::string real = directory.file("real.npy"), link = directory.file("link.npy");
  write_bytes(real, "old");
  std::filesystem::permissions(real,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::create_symlink(real, link);
  const float data[] = {1, 2};
  const std::int64_t shape[] = {2};
  ASSERT_TRUE(write_npy(link.c_str(), shape, data).ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(read_npy(real.c_str()).ok());
  EXPECT_EQ(std::filesystem::status(real).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"link.npy", "real.npy"}));
}

TEST(File, MessagesStayOneShortLine) {
  const std::string name = "dir\n\x1b[31m/" + std::string(300, 'a') + "/tail.npy";
  const Status status = parse_npy({}, name.c_str()).status();
  expect_refused(status, StatusCode::invalid_file, "/tail.npy: ", "does not begin with");
  EXPECT_EQ(std::string_view(status.message()).substr(0, 9), "dir??[31m");
}

}  // namespace
}  // namespace rehyat::test
