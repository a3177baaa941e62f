#include "tools/export/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/models/checkpoint/convert_testing.h"
#include "tests/testing/model_logits.h"
#include "tests/testing/tiny_model.h"
#include "tools/synth/synth.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using testing::F32Logits;
using ::testing::HasSubstr;
using testing::MustOpen;
using testing::ReadWholeFile;
using testing::RelativeDistance;
using testing::TempFolder;

const std::string kImport = std::string(RANKINE_TEST_DATA) + "/import/";
// As in llama_test.cc: f32 sums in different orders through two layers.
constexpr double kF32Tolerance = 2e-5;

absl::Status Export(const std::string& from, const std::string& to, bool dense,
                    const ExportOptions& options = {.dtype = DType::kF32}) {
  const auto source = MustOpen(from);
  return (dense ? ExportDense : ExportFactors)(*source, to, options, nullptr).status();
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// All values that an export of factors must carry over, by what they are.
void ExpectSameFactors(const Checkpoint& a, const Checkpoint& b) {
  ASSERT_EQ(a.factored().size(), b.factored().size());
  for (const FactoredMatrix& m : a.factored()) {
    const FactoredMatrix* other = testing::FindMatrix(b, m.name);
    ASSERT_NE(other, nullptr) << m.name;
    ASSERT_EQ(m.terms.size(), other->terms.size());
    EXPECT_EQ(m.bias_tensor.empty(), other->bias_tensor.empty());
    EXPECT_EQ(m.input_transforms.size(), other->input_transforms.size());
    for (size_t t = 0; t < m.terms.size(); ++t) {
      ASSERT_EQ(m.terms[t].cores.size(), other->terms[t].cores.size());
      for (size_t c = 0; c < m.terms[t].cores.size(); ++c) {
        const Core& x = m.terms[t].cores[c];
        const Core& y = other->terms[t].cores[c];
        EXPECT_EQ(x.encoding, y.encoding) << m.name;
        EXPECT_EQ(testing::ReadAll(a, x.TensorOf("values")),
                  testing::ReadAll(b, y.TensorOf("values")))
            << m.name << " " << x.name;
      }
    }
  }
}

TEST(ExportFactors, ReadBackGivesTheSameTensorsBitForBit) {
  for (const char* name : {"ablinear", "dobi", "svd_llm", "caldera"}) {
    TempFolder temp;
    ASSERT_TRUE(Export(kImport + name, temp / "out", false).ok());
    EXPECT_FALSE(std::filesystem::exists(temp / "out/factorization.json"));
    const auto source = MustOpen(kImport + name), back = MustOpen(temp / "out");
    ExpectSameFactors(*source, *back);
    const auto tokens = testing::GoldenTokens(kImport + name);
    EXPECT_EQ(F32Logits(*back, tokens), F32Logits(*source, tokens)) << name;
    // Exporting what was exported changes no byte.
    ASSERT_TRUE(Export(temp / "out", temp / "again", false).ok());
    EXPECT_EQ(ReadWholeFile(temp / "again/model.safetensors"),
              ReadWholeFile(temp / "out/model.safetensors"));
  }
}

TEST(ExportFactors, SingularValuesAreATensorOrFolded) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {.factored_rank = 6});
  ASSERT_TRUE(Export(temp / "m", temp / "out", false).ok());
  const auto source = MustOpen(temp / "m"), back = MustOpen(temp / "out");
  EXPECT_NE(back->Find("model.layers.0.mlp.up_proj.S"), nullptr);
  ExpectSameFactors(*source, *back);

  ASSERT_TRUE(Export(temp / "m", temp / "folded", false, {.fold_scales = true}).ok());
  const auto folded = MustOpen(temp / "folded");
  EXPECT_EQ(folded->Find("model.layers.0.mlp.up_proj.S"), nullptr);
  EXPECT_EQ(folded->factored()[0].terms[0].cores.size(), 2u);
  std::vector<int32_t> tokens(20);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(7 * i % 96);
  EXPECT_LT(RelativeDistance(F32Logits(*folded, tokens), F32Logits(*source, tokens)),
            kF32Tolerance);
}

TEST(ExportFactors, RefusesByNameWhatHasNoName) {
  TempFolder temp;
  const auto synth = [&](const std::string& name, const FormOptions& form) {
    ModelConfig config = testing::TinyLlamaConfig({.hidden = 64, .intermediate = 128});
    ASSERT_TRUE(SynthesizeModel({.config = config, .form = form}, temp / name).ok());
  };
  synth("mpo", {.form = SynthForm::kMpo, .bond = 8});
  synth("tucker", {.form = SynthForm::kTucker, .rank = 8});
  Encoding int4{.kind = EncodingKind::kAffine, .bits = 4, .group = 16};
  synth("qlr", {.form = SynthForm::kQlr, .rank = 16, .encoding = int4});
  testing::WriteTinyLlama(temp / "dense", {});
  EXPECT_THAT(Message(Export(temp / "mpo", temp / "out", false)),
              AllOf(HasSubstr("model.layers.0.self_attn.q_proj"), HasSubstr("several legs"),
                    HasSubstr("--densify")));
  EXPECT_THAT(Message(Export(temp / "tucker", temp / "out", false)),
              AllOf(HasSubstr("model.layers.0.self_attn.q_proj"), HasSubstr("--densify")));
  EXPECT_THAT(Message(Export(temp / "qlr", temp / "out", false)),
              AllOf(HasSubstr("core Q"), HasSubstr("--encode bf16")));
  EXPECT_THAT(Message(Export(temp / "dense", temp / "out", false)), HasSubstr("no factors"));
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
  EXPECT_THAT(Message(Export(kImport + "dobi", temp / "dense", false)),
              HasSubstr("exists already"));
}

TEST(ExportDense, GivesTheLogitsOfEveryForm) {
  const Encoding int4{.kind = EncodingKind::kAffine, .bits = 4, .group = 16};
  const FormOptions forms[] = {
      {.form = SynthForm::kDense, .encoding = int4},
      {.form = SynthForm::kSvd, .rank = 8},
      {.form = SynthForm::kTucker, .rank = 8},
      {.form = SynthForm::kMpo, .bond = 8},
      {.form = SynthForm::kQlr, .rank = 16, .encoding = int4},
  };
  std::vector<int32_t> tokens(20);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(7 * i % 96);
  for (const FormOptions& form : forms) {
    TempFolder temp;
    const ModelConfig config = testing::TinyLlamaConfig({.hidden = 64, .intermediate = 128});
    ASSERT_TRUE(SynthesizeModel({.config = config, .form = form}, temp / "m").ok());
    const auto source = MustOpen(temp / "m");
    const auto report = ExportDense(*source, temp / "out", {.dtype = DType::kF32});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_GE(report->densified, 14);
    const auto dense = MustOpen(temp / "out");
    EXPECT_TRUE(dense->factored().empty());
    EXPECT_LT(RelativeDistance(F32Logits(*dense, tokens), F32Logits(*source, tokens)),
              kF32Tolerance)
        << static_cast<int>(form.form);
  }
}

// The goldens are PyTorch's with the same factors; rotations are among them.
TEST(ExportDense, EqualsPyTorchRunningTheFactors) {
  for (const char* name : {"ablinear", "dobi", "svd_llm", "caldera"}) {
    TempFolder temp;
    ASSERT_TRUE(Export(kImport + name, temp / "out", true).ok());
    EXPECT_LT(
        RelativeDistance(F32Logits(*MustOpen(temp / "out"), testing::GoldenTokens(kImport + name)),
                         testing::GoldenLogits(kImport + name)),
        kF32Tolerance)
        << name;
  }
}

TEST(ExportDense, ABiasOfOneLinearTurnsTheConfigsBiasOn) {
  TempFolder temp;
  // Factors bring a bias of their own; config.json has none.
  const std::string up = "model.layers.0.mlp.up_proj";
  testing::WriteTinyLlama(temp / "m", {.factored_rank = 4});
  ASSERT_TRUE(Export(temp / "m", temp / "plain", false).ok());
  std::string bias;
  for (int i = 0; i < 48; ++i) {
    const float value = 0.1f * static_cast<float>(i % 7);
    bias.append(reinterpret_cast<const char*>(&value), 4);
  }
  testing::Rewrite(temp / "plain", temp / "biased",
                   {{{up + ".ALinear.bias", DType::kF32, {48}}, bias}},
                   [](const std::string&, std::string*) {});
  ASSERT_TRUE(Export(temp / "biased", temp / "out", true).ok());
  const auto source = MustOpen(temp / "biased"), dense = MustOpen(temp / "out");
  EXPECT_TRUE(dense->config().mlp_bias);
  EXPECT_FALSE(dense->config().attention_bias);
  const std::vector<int32_t> tokens = {1, 5, 9, 33, 2, 60};
  EXPECT_LT(RelativeDistance(F32Logits(*dense, tokens), F32Logits(*source, tokens)), kF32Tolerance);
  EXPECT_GT(RelativeDistance(F32Logits(*dense, tokens), F32Logits(*MustOpen(temp / "m"), tokens)),
            1e-3);
}

TEST(ExportDense, RefusesWhatItCannotSayAndLeavesNothingBehind) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {.factored_rank = 4});
  testing::Rewrite(temp / "m", temp / "rope",
                   {{{"rope_freqs.weight", DType::kF32, {4}},
                     std::string("\0\0\x80?\0\0\x80?"
                                 "\0\0\x80?\0\0\x80?",
                                 16)}},
                   [](const std::string&, std::string*) {});
  EXPECT_THAT(Message(Export(temp / "rope", temp / "out", true)), HasSubstr("rope_freqs.weight"));
  testing::Rewrite(temp / "m", temp / "large", {}, [](const std::string& name, std::string* bytes) {
    if (name != "model.layers.1.mlp.up_proj.S") return;
    const float large = 1e20f;
    bytes->replace(0, 4, std::string(reinterpret_cast<const char*>(&large), 4));
  });
  EXPECT_THAT(Message(Export(temp / "large", temp / "out", true, {.dtype = DType::kF16})),
              AllOf(HasSubstr("model.layers.1.mlp.up_proj"), HasSubstr("does not fit in f16")));
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
}

}  // namespace
}  // namespace rankine
