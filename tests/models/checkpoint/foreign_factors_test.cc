// Factors as other programs store them, against PyTorch running the same factors
// (tests/testing/generators/import_goldens.py).
#include "models/checkpoint/foreign_factors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "models/checkpoint/convert.h"
#include "models/llama_layout.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/testing/model_logits.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::F32Logits;
using ::testing::HasSubstr;
using testing::MustOpen;
using testing::RelativeDistance;
using testing::TempFolder;

const std::string kData = std::string(RANKINE_TEST_DATA) + "/import/";

// As in llama_test.cc: f32 sums in different orders through two layers.
constexpr double kF32Tolerance = 2e-5;

struct Case {
  const char* name;
  const char* seen;
};

class ImportTest : public ::testing::TestWithParam<Case> {};

TEST_P(ImportTest, LogitsEqualPyTorchReadDirectlyAndConverted) {
  const std::string folder = kData + GetParam().name;
  const auto tokens = testing::GoldenTokens(folder);
  const auto expected = testing::GoldenLogits(folder);
  const auto source = MustOpen(folder);
  ASSERT_NE(source, nullptr);
  EXPECT_LT(RelativeDistance(F32Logits(*source, tokens), expected), kF32Tolerance);
  EXPECT_THAT(DescribeMatrices(source->factored()), ElementsAre(GetParam().seen));

  TempFolder temp;
  testing::MustConvert(folder, temp / "out", {.dtype = DType::kF32});
  const auto written = MustOpen(temp / "out");
  ASSERT_NE(written, nullptr);
  EXPECT_TRUE(std::filesystem::exists(temp / "out/factorization.json"));
  EXPECT_EQ(written->factored().size(), source->factored().size());
  // Factors stay as they were: the same numbers give the same logits.
  EXPECT_EQ(F32Logits(*written, tokens), F32Logits(*source, tokens));
}

INSTANTIATE_TEST_SUITE_P(
    Formats, ImportTest,
    ::testing::Values(
        Case{"ablinear", "13 linears: imported: ABLinear pairs, W = A B, rank 5 to 17"},
        Case{"dobi", "14 linears: imported: ABLinear pairs in reverse, W = B A, rank 5 to 18"},
        Case{"svd_llm", "14 linears: imported: u and v projections, rank 5 to 18"},
        Case{"caldera", "14 linears: imported: Q + L R, rank 5 to 18"}),
    [](const auto& info) { return info.param.name; });

// Bad and unusual folders, made of a lookup alone.
class RecogniseTest : public ::testing::Test {
 protected:
  RecogniseTest() {
    config_ = testing::TinyLlamaConfig({.layers = 1});
    for (const LinearSpec& linear : LlamaLinears(config_)) {
      Add(linear.name + ".weight", {linear.out, linear.in});
    }
  }

  void Add(const std::string& name, std::vector<int64_t> shape, const std::string& type = "F32") {
    tensors_[name] = {.name = name, .stored_type = type, .shape = std::move(shape)};
  }

  absl::StatusOr<std::vector<FactoredMatrix>> Run(FactorOrder order = FactorOrder::kByShapes) {
    return RecogniseFactors(
        config_,
        [this](const std::string& name) {
          const auto found = tensors_.find(name);
          return found == tensors_.end() ? nullptr : &found->second;
        },
        order, "folder");
  }
  std::string Message(FactorOrder order = FactorOrder::kByShapes) {
    return std::string(Run(order).status().message());
  }

  // hidden 32, intermediate 48, kv 16
  const std::string o_ = "model.layers.0.self_attn.o_proj";
  const std::string up_ = "model.layers.0.mlp.up_proj";
  ModelConfig config_;
  std::map<std::string, TensorInfo> tensors_;
};

TEST_F(RecogniseTest, ADenseModelHasNone) {
  ASSERT_TRUE(Run().ok());
  EXPECT_TRUE(Run()->empty());
}

TEST_F(RecogniseTest, AFullSquarePairNeedsToBeTold) {
  Add(o_ + ".ALinear.weight", {32, 32});
  Add(o_ + ".BLinear.weight", {32, 32});
  EXPECT_THAT(Message(),
              AllOf(HasSubstr(o_ + ".ALinear.weight [32, 32]"), HasSubstr("--factor-order AB")));
  const auto ab = Run(FactorOrder::kAB), ba = Run(FactorOrder::kBA);
  ASSERT_TRUE(ab.ok() && ba.ok());
  EXPECT_EQ((*ab)[0].terms[0].cores[0].tensors[0].tensor, o_ + ".ALinear.weight");
  EXPECT_EQ((*ba)[0].terms[0].cores[0].tensors[0].tensor, o_ + ".BLinear.weight");
  // Any other linear of the model tells.
  Add(up_ + ".ALinear.weight", {7, 32});
  Add(up_ + ".BLinear.weight", {48, 7});
  const auto told = Run();
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ((*told)[0].terms[0].cores[0].tensors[0].tensor, o_ + ".BLinear.weight");
  EXPECT_THAT(Message(FactorOrder::kAB),
              AllOf(HasSubstr("--factor-order AB contradicts"), HasSubstr(up_)));
}

TEST_F(RecogniseTest, OneModelHasOneOrder) {
  Add(o_ + ".ALinear.weight", {32, 5});
  Add(o_ + ".BLinear.weight", {5, 32});
  Add(up_ + ".ALinear.weight", {7, 32});
  Add(up_ + ".BLinear.weight", {48, 7});
  EXPECT_THAT(Message(), AllOf(HasSubstr(o_), HasSubstr(up_), HasSubstr("one order")));
}

TEST_F(RecogniseTest, RefusesHalvesAndWrongShapes) {
  Add(up_ + ".ALinear.weight", {48, 7});
  EXPECT_THAT(Message(), AllOf(HasSubstr(up_ + ".BLinear.weight is missing")));
  Add(up_ + ".BLinear.weight", {8, 32});
  EXPECT_THAT(Message(), HasSubstr("do not multiply to " + up_ + " [48, 32]"));
  Add(up_ + ".BLinear.weight", {224});
  EXPECT_THAT(Message(), HasSubstr("is not a matrix"));
  Add(up_ + ".BLinear.weight", {7, 32}, "I64");
  EXPECT_THAT(Message(), AllOf(HasSubstr(up_ + ".BLinear.weight"), HasSubstr("I64")));
}

TEST_F(RecogniseTest, RefusesHalvesOfUAndV) {
  const std::string stem = "model.layers.0.mlp.up";
  Add(stem + "_v_proj.weight", {7, 32});
  EXPECT_THAT(Message(), HasSubstr(stem + "_u_proj.weight is missing"));
  Add(stem + "_u_proj.weight", {48, 6});
  EXPECT_THAT(Message(), HasSubstr("do not multiply"));
}

TEST_F(RecogniseTest, RefusesPartsOfQLR) {
  Add(up_ + ".L", {48, 4});
  EXPECT_THAT(Message(), HasSubstr(up_ + ".R.weight is missing"));
  Add(up_ + ".R", {4, 32});
  EXPECT_THAT(Message(), HasSubstr(up_ + ".Q.weight is missing"));
  Add(up_ + ".Q", {32, 48});
  EXPECT_THAT(Message(), AllOf(HasSubstr("[32, 48]"), HasSubstr("[48, 32]")));
  Add(up_ + ".Q", {48, 32});
  Add(up_ + ".SV", {48});
  EXPECT_THAT(Message(), AllOf(HasSubstr(up_ + ".SV"), HasSubstr("no power of two")));
}

TEST_F(RecogniseTest, TheLeftFactorsBiasIsTheLayers) {
  Add(up_ + ".ALinear.weight", {48, 7});
  Add(up_ + ".BLinear.weight", {7, 32});
  Add(up_ + ".ALinear.bias", {48});
  EXPECT_EQ((*Run())[0].bias_tensor, up_ + ".ALinear.bias");
}

TEST(ImportFolder, DenseAndFactoredAtOnceIsRefused) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {});
  const std::string o = "model.layers.0.self_attn.o_proj";
  testing::Rewrite(temp / "m", temp / "both",
                   {{{o + ".ALinear.weight", DType::kF32, {32, 1}}, std::string(128, '\0')},
                    {{o + ".BLinear.weight", DType::kF32, {1, 32}}, std::string(128, '\0')}},
                   [](const std::string&, std::string*) {});
  EXPECT_THAT(std::string(OpenCheckpoint(temp / "both").status().message()),
              HasSubstr(o + " is there twice"));
}

TEST(ImportFolder, APickleIsNeverReadAndTheErrorNamesTheWayOut) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "m", {});
  std::filesystem::rename(temp / "m/model.safetensors", temp / "m/pytorch_model.bin");
  EXPECT_THAT(std::string(OpenCheckpoint(temp / "m").status().message()),
              AllOf(HasSubstr("pytorch_model.bin is a pickle"),
                    HasSubstr("pickle_to_safetensors.py " + (temp / "m"))));
}

}  // namespace
}  // namespace rankine
