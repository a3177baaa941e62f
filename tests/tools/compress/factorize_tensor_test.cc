// mpo and tucker from a model folder to one that runs: on float and encoded bases, with float and
// encoded cores.
#include <cmath>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/convert.h"
#include "models/encode/encoding_name.h"
#include "models/loader.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
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

TEST_F(FactorizeTensorTest, NamesTheLinearThatCannotBe) {
  FactorizeOptions options = Options("tucker", 0.7);
  options.method_options = {{"ways", "3"}};
  const auto report = Factorize(temp_ / "model", temp_ / "out", options);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("mlp"));
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("no attention heads"));
}

}  // namespace
}  // namespace rankine
