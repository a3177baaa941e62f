// GGUF files that lie: each must give an error that names the thing, and never a crash or a large
// allocation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint.h"
#include "tests/testing/gguf_writer.h"

namespace rankine {
namespace {

using ::testing::AnyOf;
using testing::Bytes;
using testing::GgufString;
using testing::GgufWriter;
using ::testing::HasSubstr;
using ::testing::Ne;
using testing::TinyLlamaGguf;
using testing::WriteTestFile;

constexpr uint64_t kHuge = uint64_t{1} << 63;

std::string TestFile() {
  return std::string("gguf_hostile_") +
         ::testing::UnitTest::GetInstance()->current_test_info()->name();
}

// The message of opening `content`; it always names the file.
std::string ErrorOf(const std::string& content) {
  const std::string path = WriteTestFile(TestFile(), content);
  const auto checkpoint = OpenGguf(path);
  if (checkpoint.ok()) return "no error";
  EXPECT_THAT(checkpoint.status().code(),
              AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnimplemented));
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(path));
  return std::string(checkpoint.status().message());
}

std::string ErrorOf(const std::function<void(GgufWriter&)>& change) {
  GgufWriter writer = TinyLlamaGguf();
  change(writer);
  return ErrorOf(writer.Build());
}

std::string ArrayOf(GgufType type, uint64_t count) {
  return Bytes(static_cast<uint32_t>(type)) + Bytes(count);
}

TEST(GgufHostile, WhatIsNoGguf) {
  EXPECT_THAT(ErrorOf(std::string()), HasSubstr("truncated"));
  EXPECT_THAT(ErrorOf("this is a text file"), HasSubstr("not a GGUF file"));
  EXPECT_EQ(OpenGguf(::testing::TempDir() + "/no such file").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(GgufHostile, Versions) {
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.version = 1; }),
              HasSubstr("GGUF version 1 is not supported"));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.version = 4; }),
              HasSubstr("GGUF version 4 is not supported"));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.version = 3u << 24; }), HasSubstr("big-endian"));
}

TEST(GgufHostile, SplitFiles) {
  EXPECT_THAT(
      ErrorOf([](GgufWriter& w) {
        w.Set("split.count", GgufType::kUint16, Bytes(uint16_t{3}));
        w.Set("split.no", GgufType::kUint16, Bytes(uint16_t{1}));
      }),
      HasSubstr("split files are not supported, and this is part 2 of 3; merge the parts with"));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) {
                w.Set("split.tensors.count", GgufType::kInt32, Bytes(int32_t{40}));
              }),
              HasSubstr("of 40 tensors (key 'split.tensors.count') this part has 21"));
  EXPECT_EQ(
      ErrorOf([](GgufWriter& w) { w.Set("split.count", GgufType::kUint16, Bytes(uint16_t{1})); }),
      "no error");
}

TEST(GgufHostile, TypesThatCannotBeDecoded) {
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.Find("blk.1.ffn_up.weight").type = 23; }),
              HasSubstr("tensor 'blk.1.ffn_up.weight': type IQ4_XS is not supported"));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.Find("blk.1.ffn_up.weight").type = 0xFFFFFFFFu; }),
              HasSubstr("unknown type 4294967295"));
}

TEST(GgufHostile, HugeCounts) {
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.extra_tensors = kHuge; }),
              HasSubstr("number of tensors: 9223372036854775829 tensors are announced"));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.extra_keys = kHuge; }), HasSubstr("number of keys: "));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.extra_keys = 1; }), Ne("no error"));
  for (const GgufType type : {GgufType::kString, GgufType::kUint8, GgufType::kFloat64}) {
    for (const uint64_t count : {kHuge, ~uint64_t{0}, uint64_t{1} << 61, uint64_t{1} << 40}) {
      EXPECT_THAT(
          ErrorOf([&](GgufWriter& w) { w.Set("x.list", GgufType::kArray, ArrayOf(type, count)); }),
          HasSubstr("key 'x.list': " + std::to_string(count)));
    }
  }
}

TEST(GgufHostile, StringsLongerThanTheFile) {
  for (const uint64_t size : {kHuge, ~uint64_t{0}, uint64_t{1} << 40}) {
    EXPECT_THAT(
        ErrorOf([&](GgufWriter& w) { w.Set("x.text", GgufType::kString, Bytes(size)); }),
        HasSubstr("key 'x.text': a string of " + std::to_string(size) + " bytes is announced"));
  }
}

TEST(GgufHostile, ArraysOfArraysAndUnknownValueTypes) {
  const std::string inner = ArrayOf(GgufType::kUint8, 1) + "x";
  EXPECT_THAT(ErrorOf([&](GgufWriter& w) {
                w.Set("x.nested", GgufType::kArray, ArrayOf(GgufType::kArray, 1) + inner);
              }),
              HasSubstr("key 'x.nested': arrays of arrays are not supported"));
  EXPECT_THAT(ErrorOf([&](GgufWriter& w) { w.Set("x.odd", static_cast<GgufType>(13), ""); }),
              HasSubstr("key 'x.odd': unknown value type 13"));
  EXPECT_THAT(ErrorOf([&](GgufWriter& w) {
                w.Set("x.odd", GgufType::kArray, ArrayOf(static_cast<GgufType>(99), 1));
              }),
              HasSubstr("key 'x.odd': unknown value type 99"));
}

TEST(GgufHostile, Duplicates) {
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.AddDuplicate("llama.block_count"); }),
              HasSubstr("key 'llama.block_count': appears twice"));
  EXPECT_THAT(ErrorOf([](GgufWriter& w) {
                w.AddTensor(GgufWriter::Tensor(w.Find("blk.0.attn_k.weight")));
              }),
              HasSubstr("tensor 'blk.0.attn_k.weight': appears twice"));
}

TEST(GgufHostile, NamesAreEscapedAndCutInMessages) {
  const std::string name = "a\n\x1b[31m" + std::string(5000, 'x');
  const std::string error =
      ErrorOf([&](GgufWriter& w) { w.Find("blk.0.attn_k.weight").name = name; });
  EXPECT_THAT(error, HasSubstr("'a\\n\\x1b[31mxxx"));
  EXPECT_LT(error.size(), 1000u);
}

TEST(GgufHostile, Alignment) {
  for (const uint32_t alignment : {0u, 3u, 48u, 0xFFFFFFFFu}) {
    EXPECT_THAT(ErrorOf([&](GgufWriter& w) { w.SetU32("general.alignment", alignment); }),
                HasSubstr("key 'general.alignment' is " + std::to_string(alignment)));
  }
  EXPECT_THAT(ErrorOf([](GgufWriter& w) { w.SetU32("general.alignment", 1u << 31); }),
              HasSubstr("tensor 'token_embd.weight'"));
  for (const uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    EXPECT_EQ(ErrorOf([&](GgufWriter& w) {
                w.SetU32("general.alignment", alignment);
                w.alignment = alignment;
              }),
              "no error");
  }
}

TEST(GgufHostile, Offsets) {
  const auto with_offset = [](uint64_t offset) {
    return ErrorOf(
        [&](GgufWriter& w) { w.Find("output.weight").offset = static_cast<int64_t>(offset); });
  };
  // After token_embd, 6 * 32 floats.
  EXPECT_THAT(with_offset(768), HasSubstr("overlaps another tensor"));
  EXPECT_THAT(with_offset(0), HasSubstr("overlaps another tensor"));
  EXPECT_THAT(with_offset(33),
              HasSubstr("tensor 'output.weight': offset 33 is no multiple of the alignment 32"));
  EXPECT_THAT(with_offset(uint64_t{1} << 40),
              HasSubstr("tensor 'output.weight': 768 bytes at offset 1099511627776"));
  EXPECT_THAT(with_offset((uint64_t{1} << 63) - 32), HasSubstr("beyond the end of the file"));
  GgufWriter writer = TinyLlamaGguf();
  writer.Find("output.weight").data.insert(0, 32, '\0');
  uint64_t end = 0;
  for (const GgufWriter::Tensor& tensor : writer.tensors) end += tensor.data.size();
  writer.Find("output.weight").offset = static_cast<int64_t>(end - 768);
  EXPECT_THAT(ErrorOf(writer.Build()), HasSubstr("tensor 'output.weight': offset " +
                                                 std::to_string(end - 768) + " leaves a hole"));
}

TEST(GgufHostile, Dimensions) {
  const auto with_extents = [](const std::vector<uint64_t>& extents) {
    return ErrorOf([&](GgufWriter& w) { w.Find("blk.0.ffn_up.weight").extents = extents; });
  };
  EXPECT_THAT(with_extents({}), HasSubstr("tensor 'blk.0.ffn_up.weight': has 0 dimensions"));
  EXPECT_THAT(with_extents({1, 1, 1, 1, 1}),
              HasSubstr("tensor 'blk.0.ffn_up.weight': has 5 dimensions"));
  EXPECT_THAT(with_extents({32, 0}), HasSubstr("extent 1 is 0"));
  EXPECT_THAT(with_extents({kHuge, 1}), HasSubstr("extent 9223372036854775808 is too large"));
  EXPECT_THAT(with_extents({uint64_t{1} << 32, uint64_t{1} << 32}),
              HasSubstr("the product of its dimensions overflows"));
  EXPECT_THAT(with_extents({kHuge - 1}), HasSubstr("the product of its dimensions overflows"));
  EXPECT_THAT(with_extents({uint64_t{1} << 32, uint64_t{1} << 20}),
              HasSubstr("beyond the end of the file"));
}

TEST(GgufHostile, RowsThatAreNoMultipleOfABlock) {
  EXPECT_THAT(ErrorOf([](GgufWriter& w) {
                w.Find("blk.0.ffn_up.weight").type = static_cast<uint32_t>(GgmlType::kQ4_K);
              }),
              HasSubstr("rows of 32 values are no multiple of the 256 values of a Q4_K block"));
}

TEST(GgufHostile, TruncatedAnywhere) {
  const std::string file = TinyLlamaGguf().Build();
  GgufWriter only_header = TinyLlamaGguf();
  for (GgufWriter::Tensor& tensor : only_header.tensors) tensor.data.clear();
  const size_t header_bytes = only_header.Build().size();
  ASSERT_LT(header_bytes, file.size());
  const std::string path = WriteTestFile(TestFile(), file);
  // Every byte of the header; the data in steps.
  for (size_t size = file.size() - 1;;
       size -= size > header_bytes ? std::min<size_t>(997, size - header_bytes) : 1) {
    std::filesystem::resize_file(path, size);
    const auto checkpoint = OpenGguf(path);
    ASSERT_FALSE(checkpoint.ok()) << size;
    ASSERT_FALSE(checkpoint.status().message().empty());
    if (size == 0) break;
  }
}

// Any byte of the header replaced: the file opens or gives an error; ASan and UBSan watch.
TEST(GgufHostile, AnyByteReplaced) {
  GgufWriter only_header = TinyLlamaGguf();
  for (GgufWriter::Tensor& tensor : only_header.tensors) tensor.data.clear();
  const size_t header_bytes = only_header.Build().size();
  const std::string content = TinyLlamaGguf().Build();
  const std::string path = WriteTestFile(TestFile(), content);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](size_t at, int byte) {
    file.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(byte)).flush();
  };
  int refused = 0;
  for (size_t at = 0; at < header_bytes; ++at) {
    for (const int mask : {0xFF, 0x80, 0x01}) {
      put(at, content[at] ^ mask);
      const auto checkpoint = OpenGguf(path);
      if (!checkpoint.ok()) {
        ++refused;
        continue;
      }
      for (const TensorInfo& tensor : (*checkpoint)->tensors()) {
        std::vector<float> row(tensor.shape.back());
        (void)(*checkpoint)->ReadRows(tensor, 0, 1, DType::kF32, row.data());
      }
    }
    put(at, content[at]);
  }
  EXPECT_GT(refused, 0);
}

TEST(GgufHostile, AFileThatShrinksAfterOpening) {
  const std::string path = WriteTestFile(TestFile(), TinyLlamaGguf().Build());
  const auto checkpoint = OpenGguf(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::filesystem::resize_file(path, 4096);
  std::vector<float> out(6 * 32);
  const absl::Status status =
      (*checkpoint)
          ->ReadRows(*(*checkpoint)->Find("lm_head.weight"), 0, 6, DType::kF32, out.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path));
}

}  // namespace
}  // namespace rankine
