#include "models/files/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

namespace rankine {
namespace {

using ::testing::HasSubstr;

std::string WriteFile(const std::string& name, const std::string& content) {
  const std::string path = ::testing::TempDir() + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

TEST(ReadOnlyFile, ReadsByPosition) {
  const std::string path = WriteFile("read_only_file_positions", "0123456789");
  auto file = ReadOnlyFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->size(), 10);
  EXPECT_EQ(file->path(), path);
  std::string out(3, '?');
  ASSERT_TRUE(file->ReadAt(7, 3, out.data()).ok());
  EXPECT_EQ(out, "789");
  ASSERT_TRUE(file->ReadAt(10, 0, out.data()).ok());
  const ReadOnlyFile moved = std::move(*file);
  ASSERT_TRUE(moved.ReadAt(0, 3, out.data()).ok());
  EXPECT_EQ(out, "012");
}

TEST(ReadOnlyFile, RangesOutsideTheFileAreErrorsThatNameThem) {
  const auto file = ReadOnlyFile::Open(WriteFile("read_only_file_ranges", "0123456789"));
  ASSERT_TRUE(file.ok()) << file.status();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  std::array<char, 16> out;
  const std::pair<int64_t, int64_t> ranges[] = {{8, 3},  {11, 0},      {-1, 1},
                                                {0, -1}, {kMax, kMax}, {1, kMax}};
  for (const auto& [offset, size] : ranges) {
    const absl::Status status = file->ReadAt(offset, size, out.data());
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(status.message()), HasSubstr(file->path()));
    EXPECT_THAT(std::string(status.message()), HasSubstr("at offset " + std::to_string(offset)));
  }
}

TEST(ReadOnlyFile, AFileThatShrinksIsAnError) {
  const std::string path = WriteFile("read_only_file_shrinks", "0123456789");
  const auto file = ReadOnlyFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::resize_file(path, 4);
  std::array<char, 10> out;
  const absl::Status status = file->ReadAt(0, 10, out.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("shrunk to 4 bytes"));
}

TEST(ReadOnlyFile, WhatIsNoFileIsRefused) {
  const auto missing = ReadOnlyFile::Open(::testing::TempDir() + "/read_only_file_missing");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("read_only_file_missing"));
  const auto folder = ReadOnlyFile::Open(::testing::TempDir());
  EXPECT_EQ(folder.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(folder.status().message()), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace rankine
