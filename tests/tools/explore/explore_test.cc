#include "tools/explore/explore.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/explore/explore_testing.h"
#include "tests/tools/explore/predictable_text.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/search/measured_points.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using testing::ExploreTest;
using ::testing::HasSubstr;
using testing::kSmall;
using testing::WriteWholeFile;

// Rows of fields; every field of these tests' files is quoted as RFC 4180 has it.
std::vector<std::vector<std::string>> ParseCsv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row(1);
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      row.back() += text[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == ',') {
      row.emplace_back();
    } else if (!quoted && c == '\n') {
      rows.push_back(std::move(row));
      row.assign(1, "");
    } else if (quoted || c != '\r') {
      row.back() += c;
    }
  }
  return rows;
}

TEST_F(ExploreTest, MeasuresEveryPointAndSaysWhatItIs) {
  ExploreOptions options = Options(kSmall);
  options.evaluator.speed.repeat = 1;
  const auto result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->is_complete);
  ASSERT_EQ(result->points.size(), 6u);
  EXPECT_EQ(result->measured, 6);
  EXPECT_EQ(result->points[0].name, "dense");
  const PointResult& dense = result->points[0];
  EXPECT_EQ(dense.size.bits_per_weight(), 32);  // the tiny model is stored in f32
  EXPECT_EQ(dense.texts[0].kl.value, 0);
  std::map<std::string, const PointResult*> by_name;
  for (const PointResult& p : result->points) {
    by_name[p.name] = &p;
    SCOPED_TRACE(p.name);
    ASSERT_EQ(p.texts.size(), 2u);
    ASSERT_EQ(p.linears.size(), 3u * 7);
    ASSERT_TRUE(p.speed.has_value());
    EXPECT_GT(p.speed->decode_tokens_per_second, 0);
    for (size_t t = 0; t < 2; ++t) {
      // The paired difference is that of the perplexities, and KL is never negative.
      EXPECT_NEAR(p.texts[t].log_difference.value,
                  std::log(p.texts[t].perplexity.value / dense.texts[t].perplexity.value), 1e-9);
      EXPECT_GE(p.texts[t].kl.value, 0);
      EXPECT_TRUE(p.texts[t].perplexity.standard_error.has_value());
    }
  }
  EXPECT_LE(by_name.at("svd 0.5")->parameters_kept, 0.5);
  EXPECT_LT(by_name.at("svd 0.5")->size.linear_bytes, by_name.at("svd 0.8")->size.linear_bytes);
  EXPECT_LT(*by_name.at("svd-llm 0.5")->MeanWeightedError(),
            *by_name.at("svd 0.5")->MeanWeightedError());
  EXPECT_LT(*by_name.at("svd 0.5")->MeanRelativeError(),
            *by_name.at("svd-llm 0.5")->MeanRelativeError());
  EXPECT_GT(*by_name.at("int8:g16")->MeanWeightedError(), 0);
  EXPECT_EQ(*dense.MeanWeightedError(), 0);
  ASSERT_EQ(result->spectra.size(), 3u * 7);
  EXPECT_FALSE(fs::exists(temp_ / "out/models")) << "models are deleted once they are measured";
}

// What the walk says of a point is what the commands say of it one by one.
TEST_F(ExploreTest, AgreesWithFactorize) {
  const auto result = Explore(Options({.methods = {"svd-llm"}, .keep = {0.5}}));
  ASSERT_TRUE(result.ok()) << result.status();
  const PointResult& point = result->points.back();
  FactorizeOptions options = *ParseFactorizeFlags(*SplitWords(point.recipe));
  options.calibration_files = {calibration_};
  options.calibration_windows = 20;
  options.window = 64;
  const auto report = Factorize(model_, temp_ / "alone", options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_DOUBLE_EQ(point.parameters_kept, report->parameters_kept);
  EXPECT_NEAR(point.size.bits_per_weight(), report->bits_per_weight, 1e-9);
  for (size_t i = 0; i < report->layers.size(); ++i) {
    EXPECT_EQ(point.linears[i].name, report->layers[i].name);
    EXPECT_EQ(point.linears[i].rank, report->layers[i].rank);
    EXPECT_DOUBLE_EQ(*point.linears[i].weighted_error, *report->layers[i].weighted_error);
  }
}

TEST_F(ExploreTest, CsvAndJsonAgree) {
  ExploreOptions options = Options({.encodings = {"int8:g16", "int4:g16"}});
  options.evaluator.speed.repeat = 2;
  ASSERT_TRUE(Explore(options).ok());
  const auto rows = ParseCsv(Out("points.csv"));
  const nlohmann::json json = Json();
  ASSERT_EQ(rows.size(), json["points"].size() + 1);
  const std::map<std::string, nlohmann::json::json_pointer> fields = {
      {"linear bytes", nlohmann::json::json_pointer("/linear_bytes")},
      {"bytes", nlohmann::json::json_pointer("/bytes")},
      {"bits per weight", nlohmann::json::json_pointer("/bits_per_weight")},
      {"mean weighted error", nlohmann::json::json_pointer("/mean_weighted_error")},
      {"near perplexity", nlohmann::json::json_pointer("/texts/0/perplexity/value")},
      {"far <&> KL p99", nlohmann::json::json_pointer("/texts/1/kl_p99/value")},
      {"near log perplexity difference standard error",
       nlohmann::json::json_pointer("/texts/0/log_perplexity_difference/standard_error")},
      {"decode ratio to dense", nlohmann::json::json_pointer("/speed/decode_ratio/median")}};
  for (size_t i = 1; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i].size(), rows[0].size());
    const nlohmann::json& point = json["points"][i - 1];
    size_t found = 0;
    for (size_t c = 0; c < rows[0].size(); ++c) {
      if (rows[0][c] == "name") {
        EXPECT_EQ(rows[i][c], point["name"]);
      }
      const auto field = fields.find(rows[0][c]);
      if (field == fields.end()) continue;
      ++found;
      const double expected = point.at(field->second).get<double>();
      EXPECT_NEAR(std::stod(rows[i][c]), expected, 1e-8 * std::abs(expected)) << field->first;
    }
    EXPECT_EQ(found, fields.size());
  }
}

TEST_F(ExploreTest, PrunesWhatIsSmallerThanADominatedPoint) {
  // On this text every change of the model loses; int4 changes it less than any of these ranks.
  WriteWholeFile(text_, testing::PredictableText(model_, *device_, /*count=*/16, /*length=*/64));
  ExploreOptions options =
      Options({.methods = {"svd"}, .keep = {0.6, 0.5, 0.4, 0.25}, .encodings = {"int4:g16"}});
  options.prune = true;
  const auto result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  // 0.6 is measured and loses. At 0.4 of 16 bits a point would still be larger than int4 with its
  // scales, 5 bits; at 0.25 it is smaller, and has to be measured.
  std::vector<std::string> pruned;
  for (const UnmeasuredPoint& p : result->unmeasured) {
    EXPECT_EQ(p.why, UnmeasuredPoint::Why::kPruned);
    EXPECT_THAT(p.reason, HasSubstr("int4:g16"));
    pruned.push_back(p.name);
  }
  EXPECT_THAT(pruned, ::testing::ElementsAre("svd 0.5", "svd 0.4"));
  EXPECT_EQ(result->measured, 4);
  options.prune = false;
  const auto all = Explore(options);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->measured, 2);
  EXPECT_EQ(all->reused, 4);
}

TEST_F(ExploreTest, APointThatCannotBeMadeIsReportedAndOthersGoOn) {
  Axes axes{.encodings = {"int8:g16"},
            .named_points = {{"no gradients", "--method fwsvd --keep 0.5"}}};
  const auto result = Explore(Options(axes));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->unmeasured.size(), 1u);
  EXPECT_EQ(result->unmeasured[0].why, UnmeasuredPoint::Why::kFailed);
  EXPECT_THAT(result->unmeasured[0].reason, HasSubstr("--fisher"));
  EXPECT_EQ(result->points.size(), 2u);
  EXPECT_TRUE(result->is_complete);
}

TEST_F(ExploreTest, KeepsModelsWhenAskedAndPutsBaselinesFirst) {
  ExploreOptions options = Options({.encodings = {"int8:g16"}});
  options.keep_models = true;
  ASSERT_TRUE(Explore(options).ok());
  std::string kept;
  for (const auto& entry : fs::directory_iterator(temp_ / "out/models")) kept = entry.path();
  ASSERT_TRUE(OpenCheckpoint(kept).ok()) << kept;
  options.points = Points({.baselines = {{"as shipped", kept}}});
  const auto result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->points.size(), 2u);
  EXPECT_EQ(result->points[0].name, "as shipped");
  EXPECT_EQ(result->points[0].kind, PointKind::kBaseline);
  EXPECT_GT(*result->points[0].MeanWeightedError(), 0);
  EXPECT_TRUE(fs::exists(kept)) << "a baseline is not deleted";
}

TEST_F(ExploreTest, BadOptionsAreErrors) {
  ExploreOptions options = Options(kSmall);
  options.calibration.files.clear();
  EXPECT_THAT(Error(options), HasSubstr("--calibration"));
  options = Options(kSmall);
  options.evaluator.texts.clear();
  EXPECT_THAT(Error(options), HasSubstr("--text"));
  options = Options(kSmall);
  WriteWholeFile(temp_ / "empty.txt", "");
  options.evaluator.texts = {{.name = "empty", .path = temp_ / "empty.txt"}};
  EXPECT_THAT(Error(options), HasSubstr("empty.txt"));
  options = Options({.baselines = {{"gone", temp_ / "gone"}}});
  EXPECT_THAT(Error(options), HasSubstr("gone"));
  options = Options({});
  options.points = {{.kind = PointKind::kFactorize, .name = "x", .factorize = {.method = "sdv"}}};
  EXPECT_THAT(Error(options), HasSubstr("sdv"));
  options = Options(kSmall);
  WriteWholeFile(temp_ / "bad", "{}\n");
  options.sensitivity_file = temp_ / "bad";
  EXPECT_THAT(Error(options), HasSubstr("bad is no file of measured losses"));
}

TEST_F(ExploreTest, MeasuredSensitivitiesReplaceTheErrorsInTheHeatMap) {
  ExploreOptions options = Options({.encodings = {"int8:g16"}});
  options.sensitivity_file = temp_ / "losses";
  {
    const auto digest = ModelFingerprint(**OpenCheckpoint(model_));
    ASSERT_TRUE(digest.ok()) << digest.status();
    auto points =
        MeasuredPoints::Open(options.sensitivity_file, {.model_digest = *digest, .windows = 1});
    ASSERT_TRUE(points.ok()) << points.status();
    ASSERT_TRUE(points->Add({}, {3}).ok());
    ASSERT_TRUE(points->Add({{"model.layers.0.mlp.up_proj", 6}}, {3.25}).ok());
    ASSERT_TRUE(points->Add({{"model.layers.1.mlp.up_proj", 6}}, {3.5}).ok());
  }
  ASSERT_TRUE(Explore(options).ok());
  const std::string html = Out("explore.html");
  EXPECT_THAT(html, HasSubstr("rank 6: loss rises by 0.25"));
  EXPECT_THAT(html, HasSubstr("cut to 31% of its parameters"));  // 6 (32 + 48) / (32 x 48)
  EXPECT_EQ(Json()["sensitivity"].size(), 2u);
}

}  // namespace
}  // namespace rankine
