#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/safetensors.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/files/file.h"
#include "models/llama_layout.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::TinyLlamaOptions;
using testing::WriteTinyLlama;
using testing::WriteWholeFile;

TEST(FolderCheckpoint, OpensADenseModel) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {.tied = false, .biases = true});
  auto checkpoint = OpenFolder(temp / "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config().num_layers, 2);
  EXPECT_EQ((*checkpoint)->config().eos_ids, std::vector<int32_t>({2}));
  EXPECT_TRUE((*checkpoint)->config().random_weights);
  const TensorInfo* q = (*checkpoint)->Find("model.layers.1.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->shape, std::vector<int64_t>({32, 32}));
  EXPECT_NE((*checkpoint)->Find("lm_head.weight"), nullptr);
  EXPECT_EQ((*checkpoint)->Find("nothing"), nullptr);
  EXPECT_TRUE((*checkpoint)->factored().empty());
  EXPECT_EQ((*checkpoint)->gguf_vocabulary(), nullptr);
}

TEST(FolderCheckpoint, ReadsRowsInEachType) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {});
  auto checkpoint = OpenFolder(temp / "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const TensorInfo* e = (*checkpoint)->Find(kEmbeddingTensor);
  ASSERT_NE(e, nullptr);
  std::vector<float> all(96 * 32);
  ASSERT_TRUE((*checkpoint)->ReadRows(*e, 0, 96, DType::kF32, all.data()).ok());
  std::vector<BF16> some(5 * 32);
  ASSERT_TRUE((*checkpoint)->ReadRows(*e, 7, 12, DType::kBF16, some.data()).ok());
  for (size_t k = 0; k < some.size(); ++k) {
    EXPECT_EQ(some[k].bits, ToBF16(all[7 * 32 + k]).bits);
  }
  EXPECT_EQ((*checkpoint)->ReadRows(*e, 90, 97, DType::kF32, all.data()).code(),
            absl::StatusCode::kOutOfRange);
}

TEST(FolderCheckpoint, OpensShards) {
  TempFolder temp;
  WriteTinyLlama(temp / "one", {});
  WriteTinyLlama(temp / "many", {.max_shard_bytes = 20000});
  auto one = OpenFolder(temp / "one");
  auto many = OpenFolder(temp / "many");
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_TRUE(many.ok()) << many.status();
  EXPECT_EQ((*one)->tensors().size(), (*many)->tensors().size());
  for (const TensorInfo& tensor : (*one)->tensors()) {
    const TensorInfo* other = (*many)->Find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    const int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape[0];
    std::vector<float> a(size_t(tensor.stored_bytes) / 4), b(a.size());
    ASSERT_TRUE((*one)->ReadRows(tensor, 0, rows, DType::kF32, a.data()).ok());
    ASSERT_TRUE((*many)->ReadRows(*other, 0, rows, DType::kF32, b.data()).ok());
    EXPECT_EQ(a, b) << tensor.name;
  }
}

// The message of opening a folder that `damage` was done to after it was written.
template <class Damage>
std::string ErrorAfter(const TinyLlamaOptions& options, Damage damage) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", options);
  damage(temp / "m");
  const auto checkpoint = OpenFolder(temp / "m");
  return checkpoint.ok() ? "ok" : std::string(checkpoint.status().message());
}

// Replaces the first occurrence in a file of the folder by a text of the same length, so that spans
// stay right.
auto Replace(const std::string& file, const std::string& from, const std::string& to) {
  return [=](const std::string& folder) {
    std::string bytes = ReadWholeFile(folder + "/" + file);
    const size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    WriteWholeFile(folder + "/" + file, bytes.replace(at, from.size(), to));
  };
}

TEST(FolderCheckpoint, OpensAFactoredModel) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {.biases = true, .factored_rank = 4});
  const auto checkpoint = OpenFolder(temp / "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_EQ((*checkpoint)->factored().size(), 14u);
  EXPECT_EQ((*checkpoint)->factored()[0].bias_tensor, "model.layers.0.self_attn.q_proj.bias");
  EXPECT_EQ((*checkpoint)->Find("model.layers.0.self_attn.q_proj.weight"), nullptr);
}

TEST(FolderCheckpoint, FactorsAndTheirProductAreTheSameModel) {
  TempFolder temp;
  WriteTinyLlama(temp / "f", {.factored_rank = 4});
  WriteTinyLlama(temp / "d", {.factored_rank = 4, .store_product = true});
  const auto f = OpenFolder(temp / "f");
  const auto d = OpenFolder(temp / "d");
  ASSERT_TRUE(f.ok() && d.ok());
  const std::string name = "model.layers.1.mlp.down_proj";
  std::vector<float> u(32 * 4), s(4), v(4 * 48), w(32 * 48);
  ASSERT_TRUE((*f)->ReadRows(*(*f)->Find(name + ".U"), 0, 32, DType::kF32, u.data()).ok());
  ASSERT_TRUE((*f)->ReadRows(*(*f)->Find(name + ".S"), 0, 1, DType::kF32, s.data()).ok());
  ASSERT_TRUE((*f)->ReadRows(*(*f)->Find(name + ".V"), 0, 4, DType::kF32, v.data()).ok());
  ASSERT_TRUE((*d)->ReadRows(*(*d)->Find(name + ".weight"), 0, 32, DType::kF32, w.data()).ok());
  double product = 0;
  for (size_t k = 0; k < 4; ++k) product += double(u[3 * 4 + k]) * s[k] * v[k * 48 + 5];
  EXPECT_FLOAT_EQ(static_cast<float>(product), w[3 * 48 + 5]);
}

TEST(FolderCheckpoint, NamesWhatIsMissingOrTooMuch) {
  EXPECT_THAT(ErrorAfter({}, [](const std::string& f) { std::filesystem::remove_all(f); }),
              HasSubstr("no such folder"));
  EXPECT_THAT(
      ErrorAfter({}, [](const std::string& f) { std::filesystem::remove(f + "/config.json"); }),
      HasSubstr("no config.json"));
  EXPECT_THAT(
      ErrorAfter({},
                 [](const std::string& f) { std::filesystem::remove(f + "/model.safetensors"); }),
      HasSubstr("no model.safetensors"));
  EXPECT_THAT(ErrorAfter({}, Replace("model.safetensors", "layers.1.mlp.up_proj.weight",
                                     "layers.1.mlp.UP_proj.weight")),
              HasSubstr("tensor model.layers.1.mlp.up_proj.weight is missing"));
  EXPECT_THAT(ErrorAfter({.tied = false}, Replace("config.json", "\"tie_word_embeddings\": false",
                                                  "\"tie_word_embeddings\": true")),
              ::testing::Eq("ok"));  // a copy of the embedding that some tied checkpoints carry
  EXPECT_THAT(ErrorAfter({}, Replace("config.json", "\"tie_word_embeddings\": true",
                                     "\"tie_word_embeddings\": false")),
              HasSubstr("tensor lm_head.weight is missing"));
  EXPECT_THAT(ErrorAfter({.biases = true},
                         Replace("config.json", "\"mlp_bias\": true", "\"mlp_bias\": false")),
              HasSubstr("unexpected tensor model.layers.0.mlp."));
  EXPECT_THAT(ErrorAfter({}, Replace("config.json", "\"num_hidden_layers\": 2",
                                     "\"num_hidden_layers\": 1")),
              HasSubstr("unexpected tensor model.layers.1."));
}

TEST(FolderCheckpoint, NamesWrongShapesAndTypes) {
  EXPECT_THAT(ErrorAfter({}, Replace("config.json", "\"intermediate_size\": 48",
                                     "\"intermediate_size\": 40")),
              AllOf(HasSubstr("gate_proj.weight"), HasSubstr("[48, 32]"), HasSubstr("[40, 32]")));
  EXPECT_THAT(ErrorAfter({}, Replace("model.safetensors", R"("dtype":"F32","shape":[96,32])",
                                     R"("dtype":"I32","shape":[96,32])")),
              AllOf(HasSubstr(kEmbeddingTensor), HasSubstr("is I32")));
}

TEST(FolderCheckpoint, NamesFaultsOfTheManifest) {
  const TinyLlamaOptions factored = {.factored_rank = 4};
  EXPECT_THAT(
      ErrorAfter(factored,
                 [](const std::string& f) { std::filesystem::remove(f + "/factorization.json"); }),
      AllOf(HasSubstr("q_proj.weight is missing"), HasSubstr("factorization.json has no matrix")));
  EXPECT_THAT(ErrorAfter(factored, Replace("model.safetensors", "layers.0.mlp.up_proj.U",
                                           "layers.0.mlp.up_proj.X")),
              AllOf(HasSubstr("factorization.json"), HasSubstr("matrix model.layers.0.mlp.up_proj"),
                    HasSubstr("up_proj.U is missing")));
  EXPECT_THAT(ErrorAfter(factored, Replace("factorization.json", "\"format_version\": 1",
                                           "\"format_version\": 3")),
              HasSubstr("version 3 is not supported"));
  EXPECT_THAT(ErrorAfter(factored, Replace("factorization.json", "layers.1.mlp.down_proj\"",
                                           "layers.9.mlp.down_proj\"")),
              HasSubstr("layers.1.mlp.down_proj"));
  EXPECT_THAT(ErrorAfter(factored, Replace("factorization.json", "\"extent\":4", "\"extent\":0")),
              AllOf(HasSubstr("core \"U\""), HasSubstr("rank 0")));
  EXPECT_THAT(ErrorAfter({.factored_rank = 4, .store_product = true},
                         [&](const std::string& f) {
                           TempFolder other;
                           WriteTinyLlama(other / "m", factored);
                           std::filesystem::copy_file(other / "m/factorization.json",
                                                      f + "/factorization.json");
                         }),
              HasSubstr("q_proj.U is missing"));
}

TEST(FolderCheckpoint, RefusesALinearThatIsDenseAndFactored) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {.factored_rank = 4});
  // q as shard two, beside its factors.
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  std::filesystem::rename(temp / "m/model.safetensors", temp / "m/one.safetensors");
  std::filesystem::create_directory(temp / "x");
  auto writer = SafetensorsWriter::Create(temp / "x", {{name, DType::kF32, {32, 32}}});
  ASSERT_TRUE(writer.ok());
  const std::vector<float> zeros(32 * 32);
  ASSERT_TRUE(writer->Append(name, zeros.data(), 32 * 32 * 4).ok());
  ASSERT_TRUE(writer->Finish().ok());
  std::filesystem::rename(temp / "x/model.safetensors", temp / "m/two.safetensors");
  const auto file = ReadOnlyFile::Open(temp / "m/one.safetensors");
  const auto entries = ReadSafetensorsHeader(*file);
  std::string map = "\"" + name + "\":\"two.safetensors\"";
  for (const SafetensorsEntry& entry : *entries)
    map += ",\"" + entry.name + "\":\"one.safetensors\"";
  WriteWholeFile(temp / "m/model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  const auto checkpoint = OpenFolder(temp / "m");
  ASSERT_FALSE(checkpoint.ok());
  EXPECT_THAT(std::string(checkpoint.status().message()),
              AllOf(HasSubstr("q_proj is there twice"), HasSubstr("remove one")));
}

TEST(FolderCheckpoint, NamesValuesThatAreNotFinite) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    TempFolder temp;
    WriteTinyLlama(temp / "m", {.factored_rank = 4});
    const std::string name = "model.layers.1.mlp.gate_proj.V";
    {
      const auto file = ReadOnlyFile::Open(temp / "m/model.safetensors");
      const auto entries = ReadSafetensorsHeader(*file);
      std::string bytes = ReadWholeFile(temp / "m/model.safetensors");
      for (const SafetensorsEntry& entry : *entries) {
        if (entry.name == name) {
          bytes.replace(size_t(entry.offset + (2 * 32 + 3) * 4), 4,
                        reinterpret_cast<const char*>(&bad), 4);
        }
      }
      WriteWholeFile(temp / "m/model.safetensors", bytes);
    }
    const auto checkpoint = OpenFolder(temp / "m");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    std::vector<float> v(4 * 32);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const absl::Status status =
          (*checkpoint)->ReadRows(*(*checkpoint)->Find(name), 0, 4, dtype, v.data());
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(name), HasSubstr("row 2, column 3"), HasSubstr("not finite")));
    }
    EXPECT_TRUE(
        (*checkpoint)->ReadRows(*(*checkpoint)->Find(name), 0, 2, DType::kF32, v.data()).ok());
  }
}

TEST(FolderCheckpoint, CarriesFrequencyDivisors) {
  TempFolder temp;
  TinyLlamaOptions options;
  options.rope.frequency_divisors = {1, 2, 4, 8};
  WriteTinyLlama(temp / "m", options);
  const auto checkpoint = OpenFolder(temp / "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config().rope.frequency_divisors, options.rope.frequency_divisors);
  options.rope.frequency_divisors[3] = 0;
  EXPECT_THAT(ErrorAfter(options, [](const std::string&) {}),
              AllOf(HasSubstr(kRopeFreqsTensor), HasSubstr("not positive")));
}

TEST(OpenCheckpoint, TellsFoldersFromFiles) {
  TempFolder temp;
  WriteTinyLlama(temp / "m", {});
  EXPECT_TRUE(OpenCheckpoint(temp / "m").ok());
  EXPECT_EQ(OpenCheckpoint(temp / "none").status().code(), absl::StatusCode::kNotFound);
  WriteWholeFile(temp / "f", "nonsense");
  EXPECT_THAT(std::string(OpenCheckpoint(temp / "f").status().message()), HasSubstr("not a model"));
}

}  // namespace
}  // namespace rankine
