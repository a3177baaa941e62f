// Embeddings against transformers' (tests/testing/generators/bert_goldens.py).
#include "tools/eval/embedder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/loader.h"
#include "models/text.h"
#include "tests/testing/tiny_model.h"
#include "tools/eval/perplexity.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kData = std::string(RANKINE_TEST_DATA) + "/bert/plain";

struct Encoder {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  std::unique_ptr<FactoredModel> model;
  std::unique_ptr<const Tokenizer> tokenizer;
};

Encoder Open(const std::string& path) {
  Encoder e;
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  e.checkpoint = *std::move(checkpoint);
  auto device = MakeCpuDevice({.num_threads = 2});
  EXPECT_TRUE(device.ok()) << device.status();
  e.device = *std::move(device);
  auto model =
      LoadModel(*e.checkpoint, *e.device, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  EXPECT_TRUE(model.ok()) << model.status();
  e.model = *std::move(model);
  if (!e.checkpoint->config().random_weights && e.model->shape().is_encoder) {
    auto tokenizer = TokenizerOf(*e.checkpoint);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    e.tokenizer = *std::move(tokenizer);
  }
  return e;
}

struct Golden {
  std::vector<std::string> texts;
  std::vector<int64_t> tokens;
  std::vector<std::vector<double>> mean, cls;
};

Golden ReadGolden() {
  std::ifstream file(kData + "/embeddings.json");
  Golden golden;
  for (const auto& row : nlohmann::json::parse(file)) {
    golden.texts.push_back(row["text"]);
    golden.tokens.push_back(static_cast<int64_t>(row["token_ids"].size()));
    golden.mean.push_back(row["mean"].get<std::vector<double>>());
    golden.cls.push_back(row["cls"].get<std::vector<double>>());
  }
  return golden;
}

double Distance(const float* a, const std::vector<double>& b, double scale) {
  double sum = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    sum += std::pow(a[i] - b[i] * scale, 2);
    norm += std::pow(b[i] * scale, 2);
  }
  return std::sqrt(sum / norm);
}

double Norm(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}

// As in bert_test.cc: f32 sums in other orders; the goldens have seven decimals.
constexpr double kTolerance = 5e-6;

TEST(Embedder, EqualsTransformers) {
  const Encoder e = Open(kData);
  const Golden golden = ReadGolden();
  for (const Pooling pooling : {Pooling::kMean, Pooling::kCls}) {
    for (const bool normalize : {false, true}) {
      auto embedder = Embedder::Create(
          *e.model, *e.tokenizer, {.pooling = pooling, .normalize = normalize, .max_tokens = 70});
      ASSERT_TRUE(embedder.ok()) << embedder.status();
      const auto result = embedder->Embed(golden.texts);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->count, static_cast<int64_t>(golden.texts.size()));
      EXPECT_EQ(result->dim, 32);
      EXPECT_EQ(result->tokens, golden.tokens);
      EXPECT_EQ(result->truncated, 1);
      for (int64_t i = 0; i < result->count; ++i) {
        const auto& want = pooling == Pooling::kMean ? golden.mean[i] : golden.cls[i];
        EXPECT_LT(Distance(result->Row(i), want, normalize ? 1 / Norm(want) : 1), kTolerance) << i;
      }
    }
  }
}

TEST(Embedder, ATextDoesNotDependOnItsNeighbours) {
  const Encoder e = Open(kData);
  const Golden golden = ReadGolden();
  auto embedder = Embedder::Create(*e.model, *e.tokenizer, {.max_tokens = 70});
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  std::vector<std::string> many;
  for (int i = 0; i < 200; ++i) many.push_back(golden.texts[i % golden.texts.size()]);
  const auto together = embedder->Embed(many);
  ASSERT_TRUE(together.ok()) << together.status();
  for (size_t i = 0; i < golden.texts.size(); ++i) {
    const auto alone = embedder->Embed({golden.texts[i]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    for (size_t at = i; at < many.size(); at += golden.texts.size()) {
      const float* row = together->Row(static_cast<int64_t>(at));
      ASSERT_EQ(std::vector<float>(row, row + 32), alone->values) << at;
    }
  }
}

TEST(Embedder, RefusesWhatItCannotDo) {
  const Encoder e = Open(kData);
  const auto error = [&](int64_t max_tokens) {
    return std::string(
        Embedder::Create(*e.model, *e.tokenizer, {.max_tokens = max_tokens}).status().message());
  };
  EXPECT_THAT(error(2), HasSubstr("3 to the model's 70"));
  EXPECT_THAT(error(71), HasSubstr("3 to the model's 70"));
  testing::TempFolder temp;
  testing::WriteTinyLlama(temp / "llama", {});
  const Encoder llama = Open(temp / "llama");
  EXPECT_THAT(
      std::string(
          Embedder::Create(*llama.model, *e.tokenizer, {.max_tokens = 70}).status().message()),
      HasSubstr("not an encoder"));
  EXPECT_THAT(std::string(Perplexity(*e.model, std::vector<int32_t>(80, 5), {}).status().message()),
              AllOf(HasSubstr("encoder"), HasSubstr("--probe")));
}

// A tokenizer that knows more tokens than the model has rows.
TEST(Embedder, RefusesAnotherModelsTokenizer) {
  testing::TempFolder temp;
  std::filesystem::copy(kData, temp / "m");
  std::ofstream(temp / "m/vocab.txt", std::ios::app) << "\u20ac\n";
  const Encoder e = Open(temp / "m");
  auto embedder = Embedder::Create(*e.model, *e.tokenizer, {.max_tokens = 70});
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  EXPECT_THAT(std::string(embedder->Embed({"a", "\u20ac"}).status().message()),
              AllOf(HasSubstr("text 1"), HasSubstr("vocabulary of 96")));
}

class EmbeddingConfigTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::copy(kData, temp_ / "m"); }
  void Write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(temp_ / ("m/" + file)).parent_path());
    testing::WriteWholeFile(temp_ / ("m/" + file), text);
  }
  absl::StatusOr<EmbeddingConfig> Read() {
    return ReadEmbeddingConfig(**OpenCheckpoint(temp_ / "m"));
  }
  testing::TempFolder temp_;
};

TEST_F(EmbeddingConfigTest, DefaultsToTheMeanOfAllPositions) {
  const auto config = Read();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pooling, Pooling::kMean);
  EXPECT_FALSE(config->normalize);
  EXPECT_EQ(config->max_tokens, 70);
}

TEST_F(EmbeddingConfigTest, FollowsSentenceTransformers) {
  Write("modules.json", R"([{"idx":0,"type":"sentence_transformers.models.Transformer"},
                            {"idx":1,"type":"sentence_transformers.models.Pooling"},
                            {"idx":2,"type":"sentence_transformers.models.Normalize"}])");
  Write("1_Pooling/config.json", R"({"word_embedding_dimension":32,"pooling_mode_cls_token":true,
                                     "pooling_mode_mean_tokens":false})");
  Write("sentence_bert_config.json", R"({"max_seq_length":16})");
  auto config = Read();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pooling, Pooling::kCls);
  EXPECT_TRUE(config->normalize);
  EXPECT_EQ(config->max_tokens, 16);
  Write("sentence_bert_config.json", R"({"max_seq_length":1600})");
  EXPECT_EQ(Read()->max_tokens, 70);
}

TEST_F(EmbeddingConfigTest, NamesWhatIsNotSupported) {
  Write("1_Pooling/config.json", R"({"pooling_mode_max_tokens":true})");
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("pooling_mode_max_tokens"));
  Write("1_Pooling/config.json",
        R"({"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true})");
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("2 pooling modes"));
  Write("1_Pooling/config.json", R"({"pooling_mode_cls_token":"yes"})");
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("pooling_mode_cls_token"));
  std::filesystem::remove_all(temp_ / "m/1_Pooling");
  Write("modules.json", R"([{"idx":2,"type":"sentence_transformers.models.Dense"}])");
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("models.Dense"));
  std::filesystem::remove(temp_ / "m/modules.json");
  Write("sentence_bert_config.json", R"({"max_seq_length":2})");
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("max_seq_length"));
}

}  // namespace
}  // namespace rankine
