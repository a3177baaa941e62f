// LoRA adapters made by PEFT, against PEFT's own logits
// (tests/testing/generators/import_goldens.py).
#include "models/lora/lora_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_replace.h"
#include "models/checkpoint/convert.h"
#include "models/lora/adapter_config.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/testing/model_logits.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using testing::F32Logits;
using testing::FindMatrix;
using ::testing::HasSubstr;
using testing::MustOpen;
using testing::ReadWholeFile;
using testing::RelativeDistance;
using testing::TempFolder;
using testing::WriteWholeFile;

const std::string kData = std::string(RANKINE_TEST_DATA) + "/import/lora/";
// As in llama_test.cc: f32 sums in different orders through two layers.
constexpr double kF32Tolerance = 2e-5;

absl::StatusOr<std::unique_ptr<Checkpoint>> Adapted(const std::string& base,
                                                    const std::string& adapter) {
  return OpenLora(MustOpen(base), adapter);
}

class LoraTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LoraTest, LogitsEqualPeft) {
  const std::string folder = kData + GetParam();
  const auto tokens = testing::GoldenTokens(folder);
  const auto expected = testing::GoldenLogits(folder);
  const auto adapted = Adapted(kData + "base", folder);
  ASSERT_TRUE(adapted.ok()) << adapted.status();
  EXPECT_LT(RelativeDistance(F32Logits(**adapted, tokens), expected), kF32Tolerance);
  // The adapter matters: the base alone is far away.
  const auto base = MustOpen(kData + "base");
  EXPECT_GT(RelativeDistance(F32Logits(*base, tokens), expected), 0.05);

  TempFolder temp;
  const auto report = ConvertModel(**adapted, temp / "out", {.dtype = DType::kF32});
  ASSERT_TRUE(report.ok()) << report.status();
  const auto written = MustOpen(temp / "out");
  EXPECT_EQ(F32Logits(*written, tokens), F32Logits(**adapted, tokens));
  // Kept factored: the base's own matrix and a term L R.
  const FactoredMatrix* up = FindMatrix(*written, "model.layers.0.mlp.up_proj");
  ASSERT_NE(up, nullptr);
  ASSERT_EQ(up->terms.size(), 2u);
  EXPECT_EQ(testing::ReadAll(*written, "model.layers.0.mlp.up_proj.weight"),
            testing::ReadAll(*base, "model.layers.0.mlp.up_proj.weight"));
  EXPECT_EQ(FindMatrix(*written, "model.layers.0.mlp.gate_proj"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Adapters, LoraTest, ::testing::Values("plain", "patterns"),
                         [](const auto& info) { return info.param; });

TEST(LoraOverFactors, ABaseOfFactorsGetsASecondTerm) {
  TempFolder temp;
  // The shapes of the adapter's base, stored as factors.
  testing::WriteTinyLlama(temp / "base", {.vocab = 64, .max_position = 64, .factored_rank = 6});
  const auto adapted = Adapted(temp / "base", kData + "plain");
  ASSERT_TRUE(adapted.ok()) << adapted.status();
  const FactoredMatrix* q = FindMatrix(**adapted, "model.layers.1.self_attn.q_proj");
  ASSERT_EQ(q->terms.size(), 2u);
  EXPECT_EQ(q->terms[0].cores.size(), 3u);
  const auto tokens = testing::GoldenTokens(kData + "plain");
  TempFolder out;
  ASSERT_TRUE(ConvertModel(**adapted, out / "m", {.dtype = DType::kF32}).ok());
  EXPECT_EQ(F32Logits(*MustOpen(out / "m"), tokens), F32Logits(**adapted, tokens));
  EXPECT_NE(F32Logits(*MustOpen(temp / "base"), tokens), F32Logits(**adapted, tokens));
}

TEST(LoraOverBlocks, EncodingTakesAllThreeMatrices) {
  const auto adapted = Adapted(kData + "base", kData + "plain");
  ASSERT_TRUE(adapted.ok());
  TempFolder temp;
  const ConvertOptions options{.encode = testing::Target("int8:row")};
  const auto report = ConvertModel(**adapted, temp / "m", options);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto tokens = testing::GoldenTokens(kData + "plain");
  EXPECT_LT(RelativeDistance(F32Logits(*MustOpen(temp / "m"), tokens),
                             testing::GoldenLogits(kData + "plain")),
            0.05);
}

// The message after a text of adapter_config.json was replaced.
std::string ErrorAfter(const std::string& from, const std::string& to) {
  TempFolder temp;
  std::filesystem::copy(kData + "plain", temp / "a");
  const std::string path = temp / "a/adapter_config.json";
  const std::string text = ReadWholeFile(path);
  EXPECT_THAT(text, HasSubstr(from));
  WriteWholeFile(path, absl::StrReplaceAll(text, {{from, to}}));
  return std::string(Adapted(kData + "base", temp / "a").status().message());
}

TEST(AdapterConfig, RefusesByNameWhatChangesTheResult) {
  EXPECT_THAT(ErrorAfter("\"use_dora\": false", "\"use_dora\": true"),
              AllOf(HasSubstr("use_dora"), HasSubstr("DoRA")));
  EXPECT_THAT(ErrorAfter("\"bias\": \"none\"", "\"bias\": \"lora_only\""),
              AllOf(HasSubstr("bias"), HasSubstr("lora_only")));
  EXPECT_THAT(ErrorAfter("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]"),
              HasSubstr("modules_to_save"));
  EXPECT_THAT(ErrorAfter("\"lora_bias\": false", "\"lora_bias\": true"), HasSubstr("lora_bias"));
  EXPECT_THAT(ErrorAfter("\"fan_in_fan_out\": false", "\"fan_in_fan_out\": true"),
              HasSubstr("fan_in_fan_out"));
  EXPECT_THAT(ErrorAfter("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\""), HasSubstr("IA3"));
  EXPECT_THAT(ErrorAfter("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\""),
              AllOf(HasSubstr("init_lora_weights"), HasSubstr("pissa")));
  EXPECT_THAT(ErrorAfter("\"r\": 4", "\"r\": 0"), HasSubstr("r: 0 is not between"));
  EXPECT_THAT(ErrorAfter("\"r\": 4", "\"r\": 5"), AllOf(HasSubstr("lora_B"), HasSubstr("[32, 5]")));
  EXPECT_THAT(ErrorAfter("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"(\": 2}"),
              HasSubstr("regular expression"));
  EXPECT_THAT(ErrorAfter("\"lora_alpha\": 16", "\"lora_alpha\": \"x\""), HasSubstr("lora_alpha"));
}

TEST(LoraCheckpoint, RefusesABaseOfOtherSizes) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "base", {.hidden = 48, .vocab = 64});
  EXPECT_THAT(std::string(Adapted(temp / "base", kData + "plain").status().message()),
              AllOf(HasSubstr("lora_B.weight has shape"), HasSubstr("[48, 4]")));
  testing::WriteTinyLlama(temp / "shallow", {.layers = 1, .vocab = 64});
  EXPECT_THAT(std::string(Adapted(temp / "shallow", kData + "plain").status().message()),
              AllOf(HasSubstr("layers.1."), HasSubstr("of a linear of the base")));
}

TEST(LoraCheckpoint, RefusesPicklesAndFoldersThatAreNoAdapter) {
  TempFolder temp;
  std::filesystem::copy(kData + "plain", temp / "a");
  std::filesystem::rename(temp / "a/adapter_model.safetensors", temp / "a/adapter_model.bin");
  EXPECT_THAT(std::string(Adapted(kData + "base", temp / "a").status().message()),
              AllOf(HasSubstr("pickle"), HasSubstr("pickle_to_safetensors.py")));
  EXPECT_THAT(std::string(Adapted(kData + "base", kData + "base").status().message()),
              HasSubstr("adapter_config.json"));
  // An adapter is not a model.
  EXPECT_THAT(std::string(OpenCheckpoint(kData + "plain").status().message()),
              HasSubstr("--lora " + kData + "plain"));
}

TEST(LoraCheckpoint, NamesValuesThatAreNotFinite) {
  TempFolder temp;
  std::filesystem::copy(kData + "plain", temp / "a");
  std::string bytes = ReadWholeFile(temp / "a/adapter_model.safetensors");
  bytes.replace(bytes.size() - 4, 4, std::string("\x00\x00\xc0\x7f", 4));
  WriteWholeFile(temp / "a/adapter_model.safetensors", bytes);
  const auto adapted = Adapted(kData + "base", temp / "a");
  ASSERT_TRUE(adapted.ok()) << adapted.status();
  const auto report = ConvertModel(**adapted, temp / "out", ConvertOptions{});
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr("lora_"), HasSubstr("not finite")));
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
}

}  // namespace
}  // namespace rankine
