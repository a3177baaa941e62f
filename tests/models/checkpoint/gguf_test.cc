// The GGUF reader on small files made here: names, row order, config, vocabulary, conversions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint.h"
#include "tests/testing/gguf_writer.h"

namespace rankine {
namespace {

using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::TinyLlamaGguf;

std::string TestName() {
  return std::string("gguf_") + ::testing::UnitTest::GetInstance()->current_test_info()->name();
}

std::unique_ptr<Checkpoint> Open(const GgufWriter& writer) {
  auto checkpoint = OpenGguf(writer.Write(TestName()));
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

std::vector<float> ReadF32(const Checkpoint& checkpoint, const std::string& name, int64_t begin,
                           int64_t end) {
  const TensorInfo* tensor = checkpoint.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  std::vector<float> out((end - begin) * tensor->shape.back());
  const absl::Status status = checkpoint.ReadRows(*tensor, begin, end, DType::kF32, out.data());
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

std::string ErrorOf(const GgufWriter& writer) {
  const auto checkpoint = OpenGguf(writer.Write(TestName()));
  return checkpoint.ok() ? "no error" : std::string(checkpoint.status().message());
}

std::vector<float> FloatsOf(const GgufWriter::Tensor& tensor) {
  std::vector<float> values(tensor.data.size() / 4);
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

TEST(Gguf, VersionsTwoAndThree) {
  for (const uint32_t version : {2u, 3u}) {
    GgufWriter writer = TinyLlamaGguf();
    writer.version = version;
    const auto checkpoint = Open(writer);
    ASSERT_NE(checkpoint, nullptr);
    EXPECT_EQ(checkpoint->tensors().size(), 21u);
  }
}

TEST(Gguf, NamesAreThoseOfHuggingFace) {
  const auto checkpoint = Open(TinyLlamaGguf());
  ASSERT_NE(checkpoint, nullptr);
  std::vector<std::string> names;
  for (const TensorInfo& tensor : checkpoint->tensors()) names.push_back(tensor.name);
  EXPECT_THAT(
      std::vector<std::string>(names.begin(), names.begin() + 10),
      ElementsAre(
          "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
          "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
          "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
          "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
          "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"));
  EXPECT_EQ(names[19], "model.norm.weight");
  EXPECT_EQ(names[20], "lm_head.weight");
  EXPECT_EQ(checkpoint->Find("model.layers.0.mlp.down_proj.weight")->shape,
            (std::vector<int64_t>{32, 64}));
  EXPECT_EQ(checkpoint->Find("blk.0.ffn_down.weight"), nullptr);
}

TEST(Gguf, PlainTensorsAreReadAsTheyAre) {
  GgufWriter writer = TinyLlamaGguf();
  const auto checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  const std::vector<float> stored = FloatsOf(writer.Find("blk.1.ffn_down.weight"));
  EXPECT_EQ(ReadF32(*checkpoint, "model.layers.1.mlp.down_proj.weight", 0, 32), stored);
  EXPECT_EQ(ReadF32(*checkpoint, "model.layers.1.mlp.down_proj.weight", 5, 7),
            std::vector<float>(stored.begin() + 5 * 64, stored.begin() + 7 * 64));
  EXPECT_EQ(ReadF32(*checkpoint, "model.norm.weight", 0, 1),
            FloatsOf(writer.Find("output_norm.weight")));
}

// Tensor row (head, half, j) is stored row (head, j, half). Every range of rows, each row filled
// with its number.
TEST(Gguf, RowsOfQueriesAndKeysAreReordered) {
  GgufWriter writer = TinyLlamaGguf();
  for (const auto& [gguf_name, rows] :
       {std::pair<std::string, int>{"blk.0.attn_q.weight", 32}, {"blk.0.attn_k.weight", 16}}) {
    std::vector<float> values(rows * 32);
    for (int i = 0; i < rows * 32; ++i) values[i] = static_cast<float>(i / 32);
    std::memcpy(writer.Find(gguf_name).data.data(), values.data(), values.size() * 4);
  }
  const auto checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  for (const auto& [name, rows] :
       {std::pair<std::string, int>{"model.layers.0.self_attn.q_proj.weight", 32},
        {"model.layers.0.self_attn.k_proj.weight", 16}}) {
    for (int begin = 0; begin <= rows; ++begin) {
      for (int end = begin; end <= rows; ++end) {
        const std::vector<float> values = ReadF32(*checkpoint, name, begin, end);
        for (int row = begin; row < end; ++row) {
          const int head = row / 8, half = row % 8 / 4, j = row % 4;
          const std::vector<float> expected(32, static_cast<float>(head * 8 + j * 2 + half));
          ASSERT_TRUE(
              std::equal(expected.begin(), expected.end(), values.begin() + (row - begin) * 32))
              << name << " row " << row << " of " << begin << ".." << end;
        }
      }
    }
  }
}

void AddBiases(GgufWriter* writer, const std::vector<std::string>& stems, uint64_t extent) {
  std::vector<float> values(extent);
  std::iota(values.begin(), values.end(), 0.0f);
  for (const char* prefix : {"blk.0.", "blk.1."}) {
    for (const std::string& stem : stems) writer->AddF32(prefix + stem + ".bias", {extent}, values);
  }
}

TEST(Gguf, BiasesSetTheFlagsAndThoseOfQueriesAreReordered) {
  GgufWriter writer = TinyLlamaGguf();
  AddBiases(&writer, {"attn_q", "attn_output"}, 32);
  AddBiases(&writer, {"attn_k", "attn_v"}, 16);
  auto checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_TRUE(checkpoint->config().attention_bias);
  EXPECT_FALSE(checkpoint->config().mlp_bias);
  const std::vector<float> q = ReadF32(*checkpoint, "model.layers.1.self_attn.q_proj.bias", 0, 1);
  EXPECT_THAT(std::vector<float>(q.begin() + 8, q.begin() + 16),
              ElementsAre(8, 10, 12, 14, 9, 11, 13, 15));
  const std::vector<float> o = ReadF32(*checkpoint, "model.layers.1.self_attn.o_proj.bias", 0, 1);
  EXPECT_TRUE(std::is_sorted(o.begin(), o.end()));

  AddBiases(&writer, {"ffn_gate", "ffn_up"}, 64);
  AddBiases(&writer, {"ffn_down"}, 32);
  checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_TRUE(checkpoint->config().mlp_bias);

  writer.RemoveTensor("blk.1.attn_v.bias");
  EXPECT_THAT(ErrorOf(writer), HasSubstr("tensor 'blk.1.attn_v.bias': is missing"));
}

TEST(Gguf, TiedWithoutAnOutputTensor) {
  GgufWriter writer = TinyLlamaGguf();
  EXPECT_FALSE(Open(writer)->config().tie_embeddings);
  writer.RemoveTensor("output.weight");
  const auto checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_TRUE(checkpoint->config().tie_embeddings);
  EXPECT_EQ(checkpoint->Find("lm_head.weight"), nullptr);
}

TEST(Gguf, ConversionsRoundToNearestEven) {
  GgufWriter writer = TinyLlamaGguf();
  const auto checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  const TensorInfo* tensor = checkpoint->Find("lm_head.weight");
  const std::vector<float> values = FloatsOf(writer.Find("output.weight"));
  std::vector<BF16> bf16(values.size());
  ASSERT_TRUE(checkpoint->ReadRows(*tensor, 0, 6, DType::kBF16, bf16.data()).ok());
  std::vector<F16> f16(values.size());
  ASSERT_TRUE(checkpoint->ReadRows(*tensor, 0, 6, DType::kF16, f16.data()).ok());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(bf16[i].bits, ToBF16(values[i]).bits);
    EXPECT_EQ(f16[i].bits, ToF16(values[i]).bits);
  }
}

TEST(Gguf, StoredTypesAndTheirNaturalTypes) {
  GgufWriter writer = TinyLlamaGguf();
  writer.Find("blk.0.ffn_gate.weight").type = static_cast<uint32_t>(GgmlType::kF16);
  writer.Find("blk.0.ffn_gate.weight").data.assign(64 * 32 * 2, '\0');
  writer.Find("blk.0.ffn_up.weight").type = static_cast<uint32_t>(GgmlType::kBF16);
  writer.Find("blk.0.ffn_up.weight").data.assign(64 * 32 * 2, '\0');
  // Scale 1 (f16 0x3C00), all codes 2.
  std::string block(34, '\2');
  block[0] = '\0';
  block[1] = '\x3C';
  std::string blocks;
  for (int i = 0; i < 64; ++i) blocks += block;
  writer.Find("blk.0.ffn_down.weight").type = static_cast<uint32_t>(GgmlType::kQ8_0);
  writer.Find("blk.0.ffn_down.weight").data = blocks;
  const auto checkpoint = Open(writer);
  ASSERT_NE(checkpoint, nullptr);
  const TensorInfo* gate = checkpoint->Find("model.layers.0.mlp.gate_proj.weight");
  EXPECT_EQ(gate->stored_type, "F16");
  EXPECT_EQ(gate->natural_dtype, DType::kF16);
  EXPECT_EQ(gate->stored_bytes, 64 * 32 * 2);
  EXPECT_EQ(checkpoint->Find("model.layers.0.mlp.up_proj.weight")->natural_dtype, DType::kBF16);
  EXPECT_EQ(checkpoint->Find("model.layers.0.mlp.down_proj.weight")->natural_dtype, DType::kF32);
  EXPECT_EQ(ReadF32(*checkpoint, "model.layers.0.mlp.down_proj.weight", 0, 32),
            std::vector<float>(32 * 64, 2.0f));
}

TEST(Gguf, ValuesThatAreNotFiniteNameTheTensor) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(), 1e6f};
  const char* expected[] = {"not finite", "not finite", "too large for f16"};
  for (int i = 0; i < 3; ++i) {
    // Stored row 3 of head 0 is row (half 1, j 1) = 5 of the tensor.
    for (const auto& [gguf_name, name, row] :
         {std::tuple("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", 5),
          std::tuple("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", 3)}) {
      GgufWriter writer = TinyLlamaGguf();
      std::memcpy(writer.Find(gguf_name).data.data() + (3 * 32 + 7) * 4, &bad[i], 4);
      const auto checkpoint = Open(writer);
      ASSERT_NE(checkpoint, nullptr);
      std::vector<F16> out(32 * 32);
      const absl::Status status =
          checkpoint->ReadRows(*checkpoint->Find(name), 0, 32, DType::kF16, out.data());
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      const std::string where =
          "'" + std::string(name) + "', row " + std::to_string(row) + ", column 7";
      EXPECT_THAT(std::string(status.message()), HasSubstr(where));
      EXPECT_THAT(std::string(status.message()), HasSubstr(expected[i]));
    }
  }
}

TEST(Gguf, RowsAndTypesOutsideTheContractAreErrors) {
  const auto checkpoint = Open(TinyLlamaGguf());
  ASSERT_NE(checkpoint, nullptr);
  const TensorInfo* tensor = checkpoint->Find("model.layers.0.self_attn.k_proj.weight");
  std::vector<float> out(16 * 32);
  EXPECT_EQ(checkpoint->ReadRows(*tensor, 0, 17, DType::kF32, out.data()).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint->ReadRows(*tensor, -1, 1, DType::kF32, out.data()).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint->ReadRows(*tensor, 2, 1, DType::kF32, out.data()).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(checkpoint->ReadRows(*tensor, 16, 16, DType::kF32, out.data()).ok());
  EXPECT_EQ(checkpoint->ReadRows(*tensor, 0, 1, DType::kI8, out.data()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(checkpoint->ReadRows(TensorInfo{.name = "none"}, 0, 1, DType::kF32, out.data()).code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace rankine
