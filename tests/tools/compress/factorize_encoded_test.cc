// Factorize on models whose matrices are block-encoded: their decoded weights are factored.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/convert.h"
#include "models/checkpoint/manifest.h"
#include "models/encode/encoding_name.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/linears.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

class FactorizeEncodedTest : public ::testing::Test {
 protected:
  FactorizeEncodedTest() {
    testing::TinyLlamaOptions options = testing::TinyOptions();
    options.biases = true;
    WriteTinyModelWithTokenizer(temp_ / "model", options);
    WriteWholeFile(temp_ / "text", testing::TinyText(4000));
  }

  void Convert(const std::string& from, const std::string& to, const std::string& encoding) {
    const auto source = OpenCheckpoint(temp_ / from);
    ASSERT_TRUE(source.ok()) << source.status();
    const auto report =
        ConvertModel(**source, temp_ / to, {.encode = ParseEncodingTarget(encoding).value()});
    ASSERT_TRUE(report.ok()) << report.status();
  }

  FactorizeOptions Options(const std::string& method) const {
    FactorizeOptions o{.method = method, .keep = 0.6};
    if (method != "svd") o.calibration_files = {temp_ / "text"};
    o.calibration_windows = 20;
    o.window = 64;
    o.threads = 2;
    return o;
  }

  const TempFolder temp_;
};

// Encoded weights give the factors that the same weights give when they are stored as floats.
TEST_F(FactorizeEncodedTest, TheSameFactorsAsOfTheDecodedModel) {
  for (const std::string encoding : {"int4:g16", "e8p", "nf4:g32"}) {
    SCOPED_TRACE(encoding);
    Convert("model", encoding, encoding);
    Convert(encoding, encoding + "f", "f32");
    const auto report = Factorize(temp_ / encoding, temp_ / (encoding + "-out"), Options("svd"));
    ASSERT_TRUE(report.ok()) << report.status();
    ASSERT_EQ(report->layers.size(), 3u * 7);
    const auto expected =
        Factorize(temp_ / (encoding + "f"), temp_ / (encoding + "f-out"), Options("svd"));
    ASSERT_TRUE(expected.ok()) << expected.status();
    for (const char* file : {"/model.safetensors", "/factorization.json"}) {
      EXPECT_EQ(ReadWholeFile(temp_ / (encoding + "-out") + file),
                ReadWholeFile(temp_ / (encoding + "f-out") + file));
    }
    const auto out = OpenCheckpoint(temp_ / (encoding + "-out"));
    ASSERT_TRUE(out.ok()) << out.status();
    ASSERT_EQ((*out)->factored().size(), 21u);
    for (const FactoredMatrix& m : (*out)->factored()) {
      EXPECT_EQ(m.terms[0].cores.size(), 3u);
      EXPECT_NE((*out)->Find(m.bias_tensor), nullptr);
    }
    for (const TensorInfo& t : (*out)->tensors()) {
      EXPECT_THAT(t.name, ::testing::Not(EndsWith(".codes")));
    }
  }
}

TEST_F(FactorizeEncodedTest, ReadsTheDecodedWeight) {
  Convert("model", "int8", "int8:g16");
  const auto plain = OpenCheckpoint(temp_ / "model"), encoded = OpenCheckpoint(temp_ / "int8");
  const auto a = SelectLinears(**plain, "", ""), b = SelectLinears(**encoded, "", "");
  ASSERT_TRUE(a.ok() && b.ok()) << b.status();
  ASSERT_EQ(a->size(), b->size());
  for (size_t i = 0; i < a->size(); ++i) {
    EXPECT_EQ((*a)[i].name, (*b)[i].name);
    EXPECT_EQ((*a)[i].bias_tensor, (*b)[i].bias_tensor);
    const Matrix64 w = *ReadWeight(**plain, (*a)[i]), decoded = *ReadWeight(**encoded, (*b)[i]);
    ASSERT_EQ(w.rows, decoded.rows);
    ASSERT_EQ(w.cols, decoded.cols);
    const double error = SquaredNorm(Difference(w, decoded));
    // Steps of 1/127 of a group's greatest weight, some two standard deviations: 1/64 / sqrt(12).
    EXPECT_LT(std::sqrt(error / SquaredNorm(w)), 0.01) << (*a)[i].name;
    EXPECT_GT(error, 0);
  }
}

TEST_F(FactorizeEncodedTest, CalibratesOnTheEncodedModel) {
  Convert("model", "int4", "int4:g16");
  const auto report = Factorize(temp_ / "int4", temp_ / "out", Options("svd-llm"));
  ASSERT_TRUE(report.ok()) << report.status();
  for (const LayerReport& layer : report->layers) EXPECT_TRUE(layer.weighted_error.has_value());
}

// What is left out keeps its blocks, bit for bit.
TEST_F(FactorizeEncodedTest, WhatIsNotFactoredStaysEncoded) {
  Convert("model", "int4", "int4:g16:k:offset");
  FactorizeOptions options = Options("svd");
  options.only_regex = "mlp";
  const auto report = Factorize(temp_ / "int4", temp_ / "out", options);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto source = OpenCheckpoint(temp_ / "int4"), out = OpenCheckpoint(temp_ / "out");
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_EQ((*out)->factored().size(), 21u);
  int carried = 0;
  for (const FactoredMatrix& m : (*out)->factored()) {
    if (!IsDense(m)) continue;
    EXPECT_EQ(EncodingName(m.terms[0].cores[0].encoding), "int4:g16:k:offset");
    for (const CoreTensor& t : m.terms[0].cores[0].tensors) {
      const TensorInfo *before = (*source)->Find(t.tensor), *after = (*out)->Find(t.tensor);
      ASSERT_TRUE(before != nullptr && after != nullptr) << t.tensor;
      ASSERT_EQ(before->stored_bytes, after->stored_bytes);
      std::string a(before->stored_bytes, '\0'), b(before->stored_bytes, '\1');
      ASSERT_TRUE((*source)->ReadRaw(*before, 0, before->stored_bytes, a.data()).ok());
      ASSERT_TRUE((*out)->ReadRaw(*after, 0, after->stored_bytes, b.data()).ok());
      EXPECT_EQ(a, b) << t.tensor;
      ++carried;
    }
  }
  EXPECT_EQ(carried, 3 * 4 * 5);  // four matrices a layer, five tensors each
  // The rest may follow; then nothing is left.
  options.only_regex = "";
  const auto again = Factorize(temp_ / "out", temp_ / "all", options);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.status().message()),
              AllOf(HasSubstr("mlp"), HasSubstr("factored already")));
  options.only_regex = "self_attn";
  const auto rest = Factorize(temp_ / "out", temp_ / "all", options);
  ASSERT_TRUE(rest.ok()) << rest.status();
  const auto all = OpenCheckpoint(temp_ / "all");
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_FALSE((*all)->factored().empty());
  for (const FactoredMatrix& m : (*all)->factored()) {
    EXPECT_FALSE(IsDense(m)) << m.name;
  }
}

TEST_F(FactorizeEncodedTest, RotatedWeightsAreRefused) {
  Convert("model", "int8", "int8:g16");
  testing::Rewrite(temp_ / "int8", temp_ / "rotated",
                   {{{"signs", DType::kI8, {32}}, std::string(32, '\1')}},
                   [](const std::string&, std::string*) {});
  std::vector<FactoredMatrix> matrices = testing::MustOpen(temp_ / "int8")->factored();
  const std::string name = "model.layers.1.mlp.up_proj";
  for (FactoredMatrix& m : matrices) {
    if (m.name == name) m.input_transforms = {{Transform::Kind::kHadamard, "signs", "", false}};
  }
  WriteWholeFile(temp_ / "rotated/factorization.json", SerializeManifest(matrices));
  const auto report = Factorize(temp_ / "rotated", temp_ / "out", Options("svd"));
  EXPECT_EQ(report.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr(name), HasSubstr("has transforms"), HasSubstr("--skip")));
  // Left out, it keeps its signs.
  FactorizeOptions options = Options("svd");
  options.skip_regex = "layers\\.1\\.mlp\\.up_proj";
  ASSERT_TRUE(Factorize(temp_ / "rotated", temp_ / "out", options).ok());
  const auto out = testing::MustOpen(temp_ / "out");
  EXPECT_EQ(testing::ReadAll(*out, "signs"), std::vector<float>(32, 1.0f));
}

}  // namespace
}  // namespace rankine
