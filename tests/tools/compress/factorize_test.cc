#include "tools/compress/factorize.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/checkpoint.h"
#include "tests/tools/compress/factorize_testing.h"
#include "tools/compress/linears.h"
#include "tools/compress/work_folder.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using testing::Files;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

std::vector<double> ReadTensor(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* tensor = checkpoint.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  const bool matrix = tensor->shape.size() == 2;
  std::vector<float> values(tensor->shape[0] * (matrix ? tensor->shape[1] : 1));
  EXPECT_TRUE(
      checkpoint.ReadRows(*tensor, 0, matrix ? tensor->shape[0] : 1, DType::kF32, values.data())
          .ok());
  return {values.begin(), values.end()};
}

// U diag(S) V of a written model.
Matrix64 StoredProduct(const Checkpoint& checkpoint, const LayerReport& layer, int64_t m,
                       int64_t n) {
  SvdFactors f{Matrix64(m, layer.rank), {}, Matrix64(layer.rank, n)};
  f.u.values = ReadTensor(checkpoint, layer.name + ".U");
  f.s = ReadTensor(checkpoint, layer.name + ".S");
  f.v.values = ReadTensor(checkpoint, layer.name + ".V");
  return ProductOf(f);
}

TEST_F(FactorizeTest, SvdWritesAModelThatIsWhatTheReportSays) {
  const auto report = Factorize(model_, temp_ / "out", Options("svd"));
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->layers.size(), 3u * 7);
  const auto source = OpenCheckpoint(model_), out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(source.ok() && out.ok()) << out.status();
  EXPECT_EQ((*out)->factored().size(), report->layers.size());
  const auto linears = SelectLinears(**source, "", "");
  ASSERT_TRUE(linears.ok());
  for (size_t i = 0; i < linears->size(); ++i) {
    const LinearInfo& linear = (*linears)[i];
    const LayerReport& layer = report->layers[i];
    SCOPED_TRACE(layer.name);
    EXPECT_EQ(layer.name, linear.name);
    EXPECT_FALSE(layer.weighted_error.has_value());
    const int64_t m = linear.out_features(), n = linear.in_features();
    EXPECT_LE(layer.rank * (m + n), 0.6 * m * n);
    const Matrix64 w = *ReadWeight(**source, linear);
    const Matrix64 error = Difference(w, StoredProduct(**out, layer, m, n));
    EXPECT_NEAR(layer.relative_error, std::sqrt(SquaredNorm(error) / SquaredNorm(w)), 1e-12);
    EXPECT_EQ((*out)->Find(layer.name + ".weight"), nullptr) << "the dense copy must be gone";
  }
  EXPECT_LE(report->parameters_kept, 0.6);
  EXPECT_GT(report->parameters_kept, 0.5);
  EXPECT_FALSE(fs::exists(WorkFolder::PathOf(temp_ / "out")));
}

TEST_F(FactorizeTest, WhatIsNotFactoredIsCopied) {
  FactorizeOptions options = Options("svd");
  options.only_regex = "mlp";
  options.skip_regex = "down_proj|layers\\.1\\.";
  const auto report = Factorize(model_, temp_ / "out", options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->layers.size(), 4u);  // gate and up of layers 0 and 2
  const auto source = OpenCheckpoint(model_), out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(out.ok()) << out.status();
  int copied = 0;
  for (const TensorInfo& t : (*source)->tensors()) {
    if ((*out)->Find(t.name) == nullptr) continue;
    EXPECT_EQ((*out)->Find(t.name)->stored_type, t.stored_type);
    EXPECT_EQ(ReadTensor(**out, t.name), ReadTensor(**source, t.name)) << t.name;
    ++copied;
  }
  EXPECT_EQ(copied, static_cast<int>((*source)->tensors().size()) - 4);
  EXPECT_EQ(ReadWholeFile(temp_ / "out/tokenizer.json"), ReadWholeFile(model_ + "/tokenizer.json"));
}

TEST_F(FactorizeTest, KeepOneStaysDense) {
  FactorizeOptions options = Options("svd");
  options.keep = 1;
  const auto report = Factorize(model_, temp_ / "out", options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->parameters_kept, 1);
  for (const LayerReport& layer : report->layers) EXPECT_EQ(layer.rank, 0);
  EXPECT_TRUE((*OpenCheckpoint(temp_ / "out"))->factored().empty());
}

TEST_F(FactorizeTest, SvdLlmIsBetterOnTheTextAndSvdOnTheWeights) {
  FactorizeOptions whitened = Options("svd-llm"), plain = Options("svd");
  plain.calibration_files = {text_};
  whitened.factor_encoding = plain.factor_encoding = Encoding::Float(DType::kF32);
  const auto a = Factorize(model_, temp_ / "a", whitened);
  const auto b = Factorize(model_, temp_ / "b", plain);
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  for (size_t i = 0; i < a->layers.size(); ++i) {
    ASSERT_TRUE(a->layers[i].weighted_error && b->layers[i].weighted_error);
    // The slack is the rounding of the factors to f32.
    EXPECT_LE(*a->layers[i].weighted_error, *b->layers[i].weighted_error + 1e-6);
    EXPECT_LE(b->layers[i].relative_error, a->layers[i].relative_error + 1e-6);
    EXPECT_EQ(a->layers[i].rank, b->layers[i].rank);
  }
  EXPECT_LT(*a->layers[3].weighted_error, *b->layers[3].weighted_error);
}

TEST_F(FactorizeTest, RefusesBadOptions) {
  FactorizeOptions o = Options("svd");
  for (double keep : {0.0, -0.5, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    o.keep = keep;
    EXPECT_THAT(Error(o), HasSubstr("keep")) << keep;
  }
  o = Options("svd");
  o.only_regex = "(";
  EXPECT_THAT(Error(o), AllOf(HasSubstr("--only"), HasSubstr("not a regular expression")));
  o = Options("svd");
  o.skip_regex = "[";
  EXPECT_THAT(Error(o), HasSubstr("--skip"));
  o = Options("svd");
  o.only_regex = "lm_head|embed_tokens";
  EXPECT_THAT(Error(o), HasSubstr("no linear is selected"));
  EXPECT_THAT(Error(Options("nonsense")), HasSubstr("svd-llm"));
  o = Options("svd-llm");
  o.calibration_files.clear();
  EXPECT_THAT(Error(o), HasSubstr("--calibration"));
  o = Options("svd");
  o.statistics_folder = temp_ / "s";
  EXPECT_THAT(Error(o), HasSubstr("rankine calibrate"));
}

TEST_F(FactorizeTest, RefusesTooLittleText) {
  WriteWholeFile(text_, testing::TinyText(100));
  EXPECT_THAT(Error(Options("svd-llm")),
              AllOf(HasSubstr("100 tokens"), HasSubstr("20 are needed")));
  FactorizeOptions o = Options("svd-llm");
  o.calibration_files = {temp_ / "missing.txt"};
  EXPECT_THAT(Error(o), HasSubstr("missing.txt"));
  o = Options("svd-llm");
  o.window = 1000;  // the tiny model's context is 256
  o.calibration_windows = 1;
  WriteWholeFile(text_, testing::TinyText(2000));
  EXPECT_THAT(Error(o), HasSubstr("context"));
}

TEST_F(FactorizeTest, RefusesWeightsThatAreNotFinite) {
  std::string bytes = ReadWholeFile(model_ + "/model.safetensors");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + bytes.size() - 4, &nan, 4);
  WriteWholeFile(model_ + "/model.safetensors", bytes);
  EXPECT_THAT(Error(Options("svd")), HasSubstr("model."));
}

TEST_F(FactorizeTest, FactoredLinearsAreNotFactoredAgain) {
  FactorizeOptions o = Options("svd");
  o.only_regex = "mlp";
  ASSERT_TRUE(Factorize(model_, temp_ / "mlp", o).ok());
  o.only_regex = "";
  const auto again = Factorize(temp_ / "mlp", temp_ / "out", o);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("factored already"));
  // The rest of it may be.
  o.only_regex = "self_attn";
  const auto rest = Factorize(temp_ / "mlp", temp_ / "out", o);
  ASSERT_TRUE(rest.ok()) << rest.status();
  const auto out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)->factored().size(), 21u);
}

}  // namespace
}  // namespace rankine
