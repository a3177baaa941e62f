#include "models/checkpoint/folder_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

TEST(FolderWriter, TheFolderAppearsOnCommit) {
  TempFolder temp;
  auto writer = FolderWriter::Create(temp / "a/b/out/");
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->WriteFile("x", "hello").ok());
  EXPECT_FALSE(fs::exists(temp / "a/b/out"));
  EXPECT_EQ(fs::path(writer->staging()).parent_path(), temp / "a/b");
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_EQ(ReadWholeFile(temp / "a/b/out/x"), "hello");
  EXPECT_EQ(std::distance(fs::directory_iterator(temp / "a/b"), {}), 1);
}

TEST(FolderWriter, LeavesNothingWithoutCommit) {
  TempFolder temp;
  {
    auto writer = FolderWriter::Create(temp / "out");
    ASSERT_TRUE(writer.ok());
    FolderWriter moved = *std::move(writer);
    ASSERT_TRUE(moved.WriteFile("x", "hello").ok());
    EXPECT_FALSE(fs::is_empty(temp.path()));
  }
  EXPECT_TRUE(fs::is_empty(temp.path()));
}

TEST(FolderWriter, RefusesWhatExists) {
  TempFolder temp;
  WriteWholeFile(temp / "file", "");
  fs::create_directory(temp / "folder");
  fs::create_symlink("nowhere", temp / "link");
  for (const char* name : {"file", "folder", "link"}) {
    const auto writer = FolderWriter::Create(temp / name);
    EXPECT_EQ(writer.status().code(), absl::StatusCode::kAlreadyExists) << name;
    EXPECT_THAT(std::string(writer.status().message()),
                HasSubstr("remove it or choose another name"));
  }
  for (const char* name : {"", "/", ".", ".."})
    EXPECT_FALSE(FolderWriter::Create(name).ok()) << name;
}

TEST(FolderWriter, DoesNotReplaceAFolderThatAppearedMeanwhile) {
  TempFolder temp;
  {
    auto writer = FolderWriter::Create(temp / "out");
    ASSERT_TRUE(writer.ok());
    fs::create_directory(temp / "out");
    EXPECT_EQ(writer->Commit().code(), absl::StatusCode::kAlreadyExists);
  }
  EXPECT_TRUE(fs::is_empty(temp / "out"));
  EXPECT_EQ(std::distance(fs::directory_iterator(temp.path()), {}), 1);
}

TEST(FolderWriter, AFileIsWrittenOnce) {
  TempFolder temp;
  auto writer = FolderWriter::Create(temp / "out");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->WriteFile("x", "1").ok());
  const absl::Status status = writer->WriteFile("x", "2");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/x"));
}

}  // namespace
}  // namespace rankine
