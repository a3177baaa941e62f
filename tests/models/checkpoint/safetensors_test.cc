#include "models/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/safetensors_writer.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

std::string WithHeader(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header +
         std::string(data_bytes, '\x01');
}

// The message of opening a folder whose model.safetensors has these bytes.
std::string ErrorOf(const std::string& bytes) {
  TempFolder temp;
  WriteWholeFile(temp / "model.safetensors", bytes);
  const auto set = SafetensorsSet::Open(temp.path());
  return set.ok() ? "ok" : std::string(set.status().message());
}

std::string ErrorOf(const std::string& header, size_t data_bytes) {
  return ErrorOf(WithHeader(header, data_bytes));
}

TEST(Safetensors, OpensTheSmallestFiles) {
  EXPECT_EQ(ErrorOf("{}", 0), "ok");
  EXPECT_EQ(ErrorOf(R"({"__metadata__":{"format":"pt"}})", 0), "ok");
  EXPECT_EQ(ErrorOf(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4), "ok");
  EXPECT_EQ(ErrorOf(R"({"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},)"
                    R"("b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})",
                    8),
            "ok");
}

TEST(Safetensors, RefusesTruncatedFiles) {
  EXPECT_THAT(ErrorOf(std::string("abc")), HasSubstr("too short"));
  const std::string good =
      WithHeader(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  EXPECT_EQ(ErrorOf(good), "ok");
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(ErrorOf(good.substr(0, size)), "ok") << size;
  }
  EXPECT_THAT(ErrorOf(good.substr(0, good.size() - 1)),
              AllOf(HasSubstr("\"w\""), HasSubstr("truncated")));
}

TEST(Safetensors, RefusesAHeaderLongerThanTheFile) {
  std::string bytes = WithHeader("{}", 0);
  bytes[0] = 50;
  EXPECT_THAT(ErrorOf(bytes), HasSubstr("a header of 50 bytes in a file of 10"));
  bytes[7] = '\xff';
  EXPECT_THAT(ErrorOf(bytes), HasSubstr("over the limit"));
}

TEST(Safetensors, RefusesHeadersThatAreNoObject) {
  EXPECT_THAT(ErrorOf("[]", 0), HasSubstr("expected an object"));
  EXPECT_THAT(ErrorOf("{\"w\":3}", 0), AllOf(HasSubstr("w"), HasSubstr("expected an object")));
  EXPECT_THAT(ErrorOf("{", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":[]})", 0), HasSubstr("__metadata__"));
}

TEST(Safetensors, RefusesOverlapsAndHoles) {
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                      12),
              HasSubstr("tensor \"b\" overlaps that of \"a\""));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
                      16),
              HasSubstr("a hole of 4 bytes before the data of tensor \"b\""));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 9),
              HasSubstr("5 bytes after the last tensor"));
}

TEST(Safetensors, RefusesSpansThatDisagreeWithTheShape) {
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
              AllOf(HasSubstr("w: a span of 8 bytes"), HasSubstr("needs 12")));
  EXPECT_THAT(
      ErrorOf(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
      AllOf(HasSubstr("w"), HasSubstr("overflows")));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", 8),
              AllOf(HasSubstr("w.shape[0]"), HasSubstr("negative")));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8),
              HasSubstr("begin <= end"));
  EXPECT_THAT(
      ErrorOf(
          R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775803,9223372036854775807]}})",
          8),
      HasSubstr("\"w\""));
}

TEST(Safetensors, RefusesUnknownDTypesKeysAndDuplicates) {
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}})", 4),
              AllOf(HasSubstr("w.dtype"), HasSubstr("\"Q9\"")));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"z":1}})", 4),
              AllOf(HasSubstr("w"), HasSubstr("\"z\"")));
  EXPECT_THAT(ErrorOf(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("\"dtype\" is missing"));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                      8),
              AllOf(HasSubstr("\"w\""), HasSubstr("twice")));
}

// Two shards of one tensor each, and the index between them.
class Shards : public ::testing::Test {
 protected:
  Shards() {
    const std::vector<TensorSpec> specs = {{"a", DType::kF32, {4}}, {"b", DType::kF32, {4}}};
    auto writer = SafetensorsWriter::Create(temp_.path(), specs, 16);
    EXPECT_TRUE(writer.ok()) << writer.status();
    const float values[4] = {1, 2, 3, 4};
    EXPECT_TRUE(writer->Append("b", values, 16).ok());
    EXPECT_TRUE(writer->Append("a", values, 8).ok());
    EXPECT_TRUE(writer->Append("a", values + 2, 8).ok());
    EXPECT_TRUE(writer->Finish().ok());
  }
  std::string Error() const {
    const auto set = SafetensorsSet::Open(temp_.path());
    return set.ok() ? "ok" : std::string(set.status().message());
  }
  void WriteIndex(const std::string& map) const {
    WriteWholeFile(temp_ / "model.safetensors.index.json",
                   absl::StrCat(R"({"metadata":{},"weight_map":)", map, "}"));
  }

  TempFolder temp_;
  const std::string first_ = "model-00001-of-00002.safetensors";
  const std::string second_ = "model-00002-of-00002.safetensors";
};

TEST_F(Shards, AreReadTogether) {
  const auto set = SafetensorsSet::Open(temp_.path());
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->entries().size(), 2u);
  float values[4] = {};
  ASSERT_TRUE(set->Read(*set->Find("b"), 4, 12, values).ok());
  EXPECT_EQ(values[0], 2);
  EXPECT_EQ(values[2], 4);
  EXPECT_EQ(set->Read(*set->Find("b"), 8, 12, values).code(), absl::StatusCode::kOutOfRange);
}

TEST_F(Shards, MustBeThere) {
  std::filesystem::remove(temp_ / second_);
  EXPECT_THAT(Error(), AllOf(HasSubstr("missing"), HasSubstr(second_)));
}

TEST_F(Shards, MustAgreeWithTheIndex) {
  WriteIndex(
      absl::StrCat(R"({"a":")", first_, R"(","b":")", second_, R"(","c":")", second_, "\"}"));
  EXPECT_THAT(Error(), AllOf(HasSubstr("\"c\""), HasSubstr("is not in")));
  WriteIndex(absl::StrCat(R"({"a":")", second_, R"(","b":")", first_, "\"}"));
  EXPECT_THAT(Error(), HasSubstr("is not in"));
  // A shard with a tensor that the index does not list.
  std::filesystem::copy_file(temp_ / second_, temp_ / "x.safetensors");
  WriteWholeFile(temp_ / second_,
                 WithHeader(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                            R"("extra":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                            8));
  WriteIndex(absl::StrCat(R"({"a":")", first_, R"(","b":")", second_, "\"}"));
  EXPECT_THAT(Error(), AllOf(HasSubstr("\"extra\""), HasSubstr("does not list")));
}

TEST_F(Shards, MustNotHoldATensorTwice) {
  std::filesystem::copy_file(temp_ / first_, temp_ / second_,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(Error(), AllOf(HasSubstr("\"a\""), HasSubstr("is also in")));
}

TEST_F(Shards, MustLieInTheFolder) {
  for (const char* name : {"../model.safetensors", "/etc/model.safetensors", "sub/x.safetensors",
                           "..", "", "x.bin", "a\\\\b.safetensors", "a\\u0000.safetensors"}) {
    WriteIndex(absl::StrCat(R"({"a":")", name, "\"}"));
    EXPECT_THAT(Error(), AllOf(HasSubstr("weight_map.a"), HasSubstr("plain name"))) << name;
  }
}

TEST(SafetensorsWriter, GivesTheSameBytesAndAlignsEachTensor) {
  const std::vector<TensorSpec> specs = {
      {"odd", DType::kBF16, {3}}, {"wide", DType::kF32, {2}}, {"bytes", DType::kU8, {5}}};
  std::string bytes[2];
  for (std::string& file : bytes) {
    TempFolder temp;
    auto writer = SafetensorsWriter::Create(temp.path(), specs);
    ASSERT_TRUE(writer.ok());
    const char data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    ASSERT_TRUE(writer->Append("odd", data, 6).ok());
    ASSERT_TRUE(writer->Append("wide", data, 8).ok());
    ASSERT_TRUE(writer->Append("bytes", data, 5).ok());
    ASSERT_TRUE(writer->Finish().ok());
    file = ReadWholeFile(temp / "model.safetensors");
    const auto set = SafetensorsSet::Open(temp.path());
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_EQ(set->entries()[0].name, "wide");
    EXPECT_EQ(set->entries()[0].offset % 64, 0);
    EXPECT_EQ(set->Find("odd")->offset % 2, 0);
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

TEST(SafetensorsWriter, NamesTheTensorInEveryError) {
  TempFolder temp;
  EXPECT_THAT(std::string(SafetensorsWriter::Create(
                              temp.path(), {{"w", DType::kF32, {1}}, {"w", DType::kF32, {1}}})
                              .status()
                              .message()),
              HasSubstr("\"w\""));
  auto writer = SafetensorsWriter::Create(temp.path(), {{"w", DType::kF32, {1}}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_THAT(std::string(writer->Append("v", "abcd", 4).message()),
              HasSubstr("v was not declared"));
  EXPECT_THAT(std::string(writer->Append("w", "abcde", 5).message()), HasSubstr("w: 5 bytes"));
  EXPECT_THAT(std::string(writer->Finish().message()), HasSubstr("tensor w: 0 bytes written"));
}

}  // namespace
}  // namespace rankine
