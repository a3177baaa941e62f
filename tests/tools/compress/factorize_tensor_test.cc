// mpo and tucker from a model folder to one that runs: on float and encoded bases, with float and
// encoded cores.
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/convert.h"
#include "models/encode/encoding_name.h"
#include "models/loader.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/linears.h"
#include "tools/eval/perplexity.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;

class FactorizeTensorTest : public ::testing::Test {
 protected:
  FactorizeTensorTest() {
    WriteTinyModelWithTokenizer(temp_ / "model", testing::TinyOptions());
    testing::WriteWholeFile(temp_ / "text", testing::TinyText(4000));
  }

  FactorizeOptions Options(const std::string& method, double keep) const {
    FactorizeOptions o{.method = method, .keep = keep};
    o.calibration_files = {temp_ / "text"};
    o.calibration_windows = 20;
    o.window = 64;
    o.factor_encoding = Encoding::Float(DType::kF32);
    o.threads = 2;
    return o;
  }

  // Loads and runs the folder.
  double LogPerplexity(const std::string& folder) const {
    const auto checkpoint = OpenCheckpoint(temp_ / folder);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto device = *MakeCpuDevice({.num_threads = 2});
    const auto model = LoadModel(**checkpoint, *device, {.compute = DType::kF32});
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return NAN;
    std::vector<int32_t> tokens;
    for (const char c : testing::TinyText(600)) tokens.push_back(static_cast<unsigned char>(c));
    const auto result = Perplexity(**model, tokens, {.context = 64});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? std::log(result->perplexity) : NAN;
  }

  const TempFolder temp_;
};

TEST_F(FactorizeTensorTest, AllLinearsOfAModelRunAsCores) {
  for (const std::string method : {"mpo", "tucker"}) {
    SCOPED_TRACE(method);
    const auto report = Factorize(temp_ / "model", temp_ / method, Options(method, 0.7));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->layers.size(), 3u * 7);
    EXPECT_LE(report->parameters_kept, 0.7);
    for (const LayerReport& layer : report->layers) {
      EXPECT_GT(layer.rank, 0) << layer.name;
      EXPECT_LT(*layer.weighted_error, 1) << layer.name;
    }
    EXPECT_TRUE(std::isfinite(LogPerplexity(method)));
  }
}

// q and o of 32 x 32 at the largest bond are what they were.
TEST_F(FactorizeTensorTest, TheLargestBondChangesNothing) {
  FactorizeOptions options = Options("mpo", 1);
  options.only_regex = "q_proj|o_proj";
  options.rank = 32;
  options.method_options = {{"shape", "4x8,8x4"}};
  const auto report = Factorize(temp_ / "model", temp_ / "out", options);
  ASSERT_TRUE(report.ok()) << report.status();
  // The cores round to f32 what the model had in f32.
  for (const LayerReport& layer : report->layers) EXPECT_LT(layer.relative_error, 1e-6);
  EXPECT_NEAR(LogPerplexity("out"), LogPerplexity("model"), 1e-4);
}

TEST_F(FactorizeTensorTest, EncodedCoresOfAnEncodedBase) {
  const auto source = OpenCheckpoint(temp_ / "model");
  ASSERT_TRUE(
      ConvertModel(**source, temp_ / "int8", {.encode = ParseEncodingTarget("int8:g16").value()})
          .ok());
  for (const std::string method : {"mpo", "tucker"}) {
    SCOPED_TRACE(method);
    FactorizeOptions options = Options(method, 1);
    // At 32 x 32 no shape has a bond of a whole group in the budget.
    options.only_regex = method == "mpo" ? "up_proj|gate_proj" : "up_proj|gate_proj|q_proj";
    options.bits = 4.5;
    options.factor_encoding = *ParseEncoding("int4:g16");
    const auto report = Factorize(temp_ / "int8", temp_ / method, options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_LE(report->bits_per_weight, 4.5);
    EXPECT_TRUE(std::isfinite(LogPerplexity(method)));
  }
}

// Ranks in full hold the weights, with no factor but the ranges of one core.
TEST_F(FactorizeTensorTest, AStackInFullChangesNothing) {
  for (const char* stack : {"qkv", "qkvo"}) {
    SCOPED_TRACE(stack);
    FactorizeOptions options = Options("tucker", 1);
    options.only_regex = "self_attn";
    options.bits = 64;
    options.method_options = {{"stack", stack}, {"ranks", stack[3] != 0 ? "12,8,32" : "8,8,32"}};
    if (stack[3] == 0) options.skip_regex = "o_proj";
    options.rank = 0;
    const auto report = Factorize(temp_ / "model", temp_ / stack, options);
    ASSERT_TRUE(report.ok()) << report.status();
    for (const LayerReport& layer : report->layers) {
      EXPECT_LT(layer.relative_error, 1e-6) << layer.name;
    }
    EXPECT_NEAR(LogPerplexity(stack), LogPerplexity("model"), 1e-4);
  }
}

TEST_F(FactorizeTensorTest, StacksOfAModelStayWithinTheBudgetAndRun) {
  for (const char* stack : {"qkv", "qkvo"}) {
    SCOPED_TRACE(stack);
    FactorizeOptions options = Options("tucker", 0.7);
    options.method_options = {{"stack", stack}};
    const auto report = Factorize(temp_ / "model", temp_ / stack, options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_LE(report->parameters_kept, 0.7);
    int64_t kept = 0;
    for (const LayerReport& layer : report->layers) {
      EXPECT_GT(layer.rank, 0) << layer.name;
      EXPECT_LT(*layer.weighted_error, 1) << layer.name;
      if (layer.name.find("layers.1.self_attn") != std::string::npos) kept += layer.kept_parameters;
    }
    // Of 2 x 32 x 32 (q, o) and 2 x 16 x 32 (k, v).
    EXPECT_LE(static_cast<double>(kept), 0.7 * (2 * 32 * 32 + 2 * 16 * 32));
    const auto checkpoint = OpenCheckpoint(temp_ / stack);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    // The tensors hold what the report counts: shared cores are there once.
    int64_t stored = 0;
    const std::string prefix = std::string("model.layers.1.self_attn.") + stack + ".";
    for (const TensorInfo& t : (*checkpoint)->tensors()) {
      if (t.name.rfind(prefix, 0) != 0) continue;
      int64_t numbers = 1;
      for (const int64_t extent : t.shape) numbers *= extent;
      stored += numbers;
    }
    EXPECT_GT(stored, 0);
    if (stack[3] != 0) {
      EXPECT_EQ(stored, kept);
    }
    EXPECT_TRUE(std::isfinite(LogPerplexity(stack)));
  }
}

TEST_F(FactorizeTensorTest, NamesTheStackThatIsNotWhole) {
  FactorizeOptions options = Options("tucker", 0.7);
  options.only_regex = "q_proj|k_proj|o_proj";
  options.method_options = {{"stack", "qkvo"}};
  const auto report = Factorize(temp_ / "model", temp_ / "out", options);
  EXPECT_THAT(std::string(report.status().message()),
              HasSubstr("one tensor of model.layers.0.self_attn, but its value projection"));
}

// SmolLM2: 9 + 3 + 3 + 9 heads of 64, 576 features.
TEST_F(FactorizeTensorTest, ALayerOfTheRealModel) {
  const char* path = std::getenv("RANKINE_TEST_GGUF");
  ASSERT_NE(path, nullptr) << "set RANKINE_TEST_GGUF to SmolLM2-135M-Instruct.Q4_1.gguf";
  FactorizeOptions options = Options("tucker", 0.8);
  options.calibration_files.clear();
  options.only_regex = "layers\\.20\\.self_attn";
  options.method_options = {{"stack", "qkvo"}, {"weighting", "none"}};
  const auto stacked = Factorize(path, temp_ / "stacked", options);
  ASSERT_TRUE(stacked.ok()) << stacked.status();
  EXPECT_LE(stacked->parameters_kept, 0.8);
  EXPECT_GT(stacked->parameters_kept, 0.78);
  const auto source = OpenCheckpoint(path), checkpoint = OpenCheckpoint(temp_ / "stacked");
  ASSERT_TRUE(source.ok() && checkpoint.ok()) << checkpoint.status();
  ASSERT_EQ((*checkpoint)->factored().size(), 4u);
  const auto linears = SelectLinears(**source, options.only_regex, "");
  ASSERT_TRUE(linears.ok()) << linears.status();
  // The folder holds what the report says of it.
  for (size_t i = 0; i < 4; ++i) {
    const FactoredMatrix& matrix = (*checkpoint)->factored()[i];
    const LayerReport& layer = stacked->layers[i];
    ASSERT_EQ(matrix.name, layer.name);
    ASSERT_EQ((*linears)[i].name, layer.name);
    const Matrix64 w = *ReadWeight(**source, (*linears)[i]);
    const auto product = ReadWeight(**checkpoint, {.name = layer.name, .matrix = &matrix});
    ASSERT_TRUE(product.ok()) << product.status();
    EXPECT_NEAR(layer.relative_error,
                std::sqrt(SquaredNorm(Difference(w, *product)) / SquaredNorm(w)), 1e-6);
    EXPECT_LT(layer.relative_error, 1) << layer.name;
  }
  EXPECT_TRUE(std::isfinite(LogPerplexity("stacked")));
}

TEST_F(FactorizeTensorTest, NamesTheLinearThatCannotBe) {
  FactorizeOptions options = Options("tucker", 0.7);
  options.method_options = {{"ways", "3"}};
  const auto report = Factorize(temp_ / "model", temp_ / "out", options);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("mlp"));
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("no attention heads"));
}

}  // namespace
}  // namespace rankine
