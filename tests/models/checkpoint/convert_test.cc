#include "models/checkpoint/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "models/llama_layout.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::TinyLlamaOptions;
using testing::WriteTinyLlama;
using testing::WriteWholeFile;

std::unique_ptr<Checkpoint> MustOpen(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

std::vector<float> ReadAll(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* tensor = checkpoint.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  int64_t count = 1;
  for (const int64_t extent : tensor->shape) count *= extent;
  const int64_t rows = tensor->shape.size() <= 1 ? 1 : tensor->shape[0];
  std::vector<float> values(static_cast<size_t>(count));
  const absl::Status status = checkpoint.ReadRows(*tensor, 0, rows, DType::kF32, values.data());
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

TEST(ConvertModel, RoundsMatricesAndKeepsVectors) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {.tied = false, .biases = true});
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  int64_t last_done = 0, last_total = -1;
  const absl::Status status =
      ConvertModel(*source, temp / "dst", DType::kBF16, [&](int64_t done, int64_t total) {
        EXPECT_GE(done, last_done);
        last_done = done;
        last_total = total;
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(last_done, last_total);
  const auto copy = MustOpen(temp / "dst");
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->tensors().size(), source->tensors().size());
  for (const TensorInfo& tensor : source->tensors()) {
    const bool is_vector = tensor.shape.size() == 1;
    ASSERT_NE(copy->Find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(copy->Find(tensor.name)->stored_type, is_vector ? "F32" : "BF16") << tensor.name;
    const std::vector<float> before = ReadAll(*source, tensor.name);
    const std::vector<float> after = ReadAll(*copy, tensor.name);
    ASSERT_EQ(before.size(), after.size());
    for (size_t k = 0; k < before.size(); ++k) {
      ASSERT_EQ(after[k], is_vector ? before[k] : ToFloat(ToBF16(before[k]))) << tensor.name;
    }
  }
}

TEST(ConvertModel, CarriesFactorsOver) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {.biases = true, .factored_rank = 5});
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  ASSERT_TRUE(ConvertModel(*source, temp / "dst", DType::kF16).ok());
  const auto copy = MustOpen(temp / "dst");
  ASSERT_NE(copy, nullptr);
  ASSERT_EQ(copy->factored().size(), 14u);
  const FactoredMatrix& matrix = copy->factored()[0];
  EXPECT_EQ(matrix.name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(matrix.sorted_leg, "r");
  EXPECT_EQ(matrix.terms[0].cores[0].encoding.dtype, DType::kF16);
  EXPECT_EQ(matrix.terms[0].cores[1].encoding.dtype, DType::kF32);
  EXPECT_EQ(ReadAll(*copy, matrix.name + ".S"), ReadAll(*source, matrix.name + ".S"));
}

TEST(ConvertModel, CarriesTheRopeDivisorsOfAGgufOver) {
  TempFolder temp;
  testing::GgufWriter writer = testing::TinyLlamaGguf();
  writer.AddF32(kRopeFreqsTensor, {4}, {1, 2, 4.5f, 8});
  const auto source = MustOpen(writer.Write("convert_rope_divisors"));
  ASSERT_NE(source, nullptr);
  const absl::Status status = ConvertModel(*source, temp / "dst", DType::kF16);
  ASSERT_TRUE(status.ok()) << status;
  const auto copy = MustOpen(temp / "dst");
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->config().rope.frequency_divisors, std::vector<float>({1, 2, 4.5f, 8}));
  EXPECT_EQ(copy->config().rope.frequency_divisors, source->config().rope.frequency_divisors);
}

TEST(ConvertModel, StoresATiedEmbeddingOnce) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {.tied = true});
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  ASSERT_TRUE(ConvertModel(*source, temp / "dst").ok());
  EXPECT_EQ(MustOpen(temp / "dst")->Find("lm_head.weight"), nullptr);
}

TEST(ConvertModel, CarriesCompanionsOver) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  WriteWholeFile(temp / "src/LICENSE", "do what you like");
  WriteWholeFile(temp / "src/tokenizer.json", "{}");
  WriteWholeFile(temp / "src/chat_template.jinja", "{{ messages }}");
  WriteWholeFile(temp / "src/generation_config.json", R"({"eos_token_id": [2, 7]})");
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  EXPECT_EQ(source->config().eos_ids, std::vector<int32_t>({2, 7}));
  ASSERT_TRUE(ConvertModel(*source, temp / "dst").ok());
  EXPECT_EQ(ReadWholeFile(temp / "dst/LICENSE"), "do what you like");
  EXPECT_EQ(ReadWholeFile(temp / "dst/chat_template.jinja"), "{{ messages }}");
  const auto copy = MustOpen(temp / "dst");
  EXPECT_EQ(copy->config().eos_ids, std::vector<int32_t>({2, 7}));
  EXPECT_EQ(copy->folder(), temp / "dst");
}

TEST(ConvertModel, LeavesNothingBehindWhenItFails) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  // A file that shrinks after it was opened.
  std::filesystem::resize_file(temp / "src/model.safetensors", 4000);
  const absl::Status status = ConvertModel(*source, temp / "out/dst");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_TRUE(std::filesystem::is_empty(temp / "out"));
}

TEST(ConvertModel, RefusesAnExistingFolder) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  std::filesystem::create_directory(temp / "dst");
  const absl::Status status = ConvertModel(*source, temp / "dst");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("remove it or choose another name"));
}

TEST(ConvertModel, NamesValuesThatDoNotFit) {
  TempFolder temp;
  WriteTinyLlama(temp / "src", {});
  std::string bytes = ReadWholeFile(temp / "src/model.safetensors");
  const float big = 1e30f;
  bytes.replace(bytes.size() - 4, 4, reinterpret_cast<const char*>(&big), 4);
  WriteWholeFile(temp / "src/model.safetensors", bytes);
  const auto source = MustOpen(temp / "src");
  ASSERT_NE(source, nullptr);
  // The last tensor is a vector, which stays f32: nothing is lost.
  EXPECT_TRUE(ConvertModel(*source, temp / "vector", DType::kF16).ok());
  const TensorInfo* table = source->Find(kEmbeddingTensor);
  ASSERT_EQ(&source->tensors()[0], table);
  const uint64_t header = *reinterpret_cast<const uint64_t*>(bytes.data());
  bytes.replace(8 + header + 4, 4, reinterpret_cast<const char*>(&big), 4);
  WriteWholeFile(temp / "src/model.safetensors", bytes);
  const auto again = MustOpen(temp / "src");
  const absl::Status status = ConvertModel(*again, temp / "dst", DType::kF16);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(HasSubstr(kEmbeddingTensor), HasSubstr("row 0, column 1"),
                               HasSubstr("does not fit in f16")));
}

}  // namespace
}  // namespace rankine
