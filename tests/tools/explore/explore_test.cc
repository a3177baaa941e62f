#include "tools/explore/explore.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/compress/compress_testing.h"
#include "tests/tools/explore/predictable_text.h"
#include "tools/cli/factorize_flags.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/search/measured_points.h"
#include "tools/explore/plan.h"
#include "tools/explore/words.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

class ExploreTest : public ::testing::Test {
 protected:
  ExploreTest() : device_(*MakeCpuDevice({.num_threads = 1})) {
    WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    WriteWholeFile(calibration_, testing::TinyText(4000));
    WriteWholeFile(text_, testing::TinyText(1500, 11));
    WriteWholeFile(other_text_, testing::TinyText(900, 13));
  }

  // As the command makes them.
  std::vector<PointSpec> Points(const Axes& axes) const {
    auto points = PlanPoints(axes);
    EXPECT_TRUE(points.ok()) << points.status();
    for (PointSpec& point : *points) {
      if (point.kind != PointKind::kFactorize) continue;
      auto options = ParseFactorizeFlags(*SplitWords(point.recipe));
      EXPECT_TRUE(options.ok()) << options.status();
      point.factorize = *std::move(options);
    }
    return *points;
  }

  ExploreOptions Options(const Axes& axes) const {
    ExploreOptions o{.model = model_, .out = temp_ / "out", .points = Points(axes)};
    o.evaluator = {
        .device = device_.get(),
        .kv_dtype = [](const FactoredModel&) -> absl::StatusOr<DType> { return DType::kF32; },
        .texts = {{.name = "near", .path = text_}, {.name = "far <&>", .path = other_text_}},
        .context = 64,
        .speed = {.prompt_tokens = 8, .new_tokens = 4, .repeat = 0}};
    o.calibration = {.files = {calibration_}, .windows = 20, .window = 64};
    o.prune = false;
    o.threads = 1;
    return o;
  }

  std::string Out(const std::string& name) const { return ReadWholeFile(temp_ / ("out/" + name)); }
  nlohmann::json Json() const { return nlohmann::json::parse(Out("explore.json")); }

  std::string Error(const ExploreOptions& options) const {
    const auto result = Explore(options);
    EXPECT_FALSE(result.ok());
    return std::string(result.status().message());
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model";
  const std::string calibration_ = temp_ / "calibration.txt";
  const std::string text_ = temp_ / "text.txt", other_text_ = temp_ / "other.txt";
  std::unique_ptr<Device> device_;
};

const Axes kSmall = {.methods = {"svd", "svd-llm"}, .keep = {0.8, 0.5}, .encodings = {"int8:g16"}};

// JSON without what a clock decides.
nlohmann::json WithoutTimes(nlohmann::json json) {
  for (auto& point : json["points"]) {
    point.erase("speed");
    point.erase("make_seconds");
    point.erase("on_speed_frontier");
  }
  return json;
}

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

TEST_F(ExploreTest, ASecondRunMeasuresNothingAndSaysTheSame) {
  const auto first = Explore(Options(kSmall));
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string json = Out("explore.json"), csv = Out("points.csv"), html = Out("explore.html");
  const auto second = Explore(Options(kSmall));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->measured, 0);
  EXPECT_EQ(second->reused, 6);
  EXPECT_EQ(Out("explore.json"), json);
  EXPECT_EQ(Out("points.csv"), csv);
  EXPECT_EQ(Out("explore.html"), html);
}

// Its file is not there at first, and grows when another budget is searched.
TEST_F(ExploreTest, ASearchsLossesMakeNoOtherPoint) {
  const auto point = [&](const std::string& keep) {
    return std::pair("searched " + keep,
                     "--method svd-llm --keep " + keep +
                         " --allocation sensitivity --search-shares 0.5,0.8 --validation " + text_ +
                         " --validation-windows 1 --validation-window 32 --search-file " +
                         (temp_ / "losses"));
  };
  ExploreOptions options = Options({.named_points = {point("0.6")}});
  const auto first = Explore(options);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->points.size(), 2u);
  options = Options({.named_points = {point("0.6"), point("0.7")}});
  ASSERT_TRUE(Explore(options).ok());
  const auto again = Explore(options);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->points.size(), 3u);
  EXPECT_EQ(again->measured, 0);
}

// Whenever time is up, the next run goes on, makes no point twice, and ends at the same figures.
TEST_F(ExploreTest, GoesOnWhereTimeWasUp) {
  ExploreOptions whole = Options(kSmall);
  whole.out = temp_ / "whole";
  ASSERT_TRUE(Explore(whole).ok());
  const auto expected =
      WithoutTimes(nlohmann::json::parse(ReadWholeFile(temp_ / "whole/explore.json")));
  int measured = 0, runs = 0;
  for (bool is_complete = false; !is_complete && runs < 200; ++runs) {
    ExploreOptions options = Options(kSmall);
    // Time for so many questions; it grows, so that every step is reached.
    auto left = std::make_shared<int>(20 + 7 * runs);
    options.out_of_time = [left] { return --*left < 0; };
    const auto result = Explore(options);
    ASSERT_TRUE(result.ok()) << result.status();
    measured += result->measured;
    is_complete = result->is_complete;
    if (is_complete) break;
    EXPECT_THAT(Out("explore.html"), HasSubstr("Not complete"));
    // Every point is either measured or said to be missing.
    if (!result->points.empty()) {
      EXPECT_EQ(result->points.size() + result->unmeasured.size(), 6u);
    }
  }
  EXPECT_GT(runs, 3) << "the walk was not interrupted";
  EXPECT_EQ(measured, 6) << "no point is measured twice";
  EXPECT_EQ(WithoutTimes(Json()), expected);
}

TEST_F(ExploreTest, SaysWhatIsMissingWhenTimeIsUp) {
  ExploreOptions options = Options(kSmall);
  options.out_of_time = [] { return true; };
  const auto result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->is_complete);
  EXPECT_TRUE(result->points.empty());
  EXPECT_THAT(result->unmeasured, Contains(Field(&UnmeasuredPoint::name, "svd 0.5")));
  EXPECT_THAT(Out("explore.html"), HasSubstr("svd 0.5"));
  EXPECT_EQ(Json()["complete"], false);
}

TEST_F(ExploreTest, DamagedAndForeignCacheFilesAreMadeAgain) {
  ASSERT_TRUE(Explore(Options(kSmall)).ok());
  const auto expected = WithoutTimes(Json());
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(temp_ / "out/cache")) {
    if (entry.path().filename() != "spectra.json") files.push_back(entry.path());
  }
  ASSERT_EQ(files.size(), 6u);
  std::string damaged = ReadWholeFile(files[0]);
  const size_t at = damaged.find("\"kl\"");
  ASSERT_NE(at, std::string::npos);
  const size_t digit = damaged.find_first_of("0123456789", at);
  damaged[digit] = damaged[digit] == '1' ? '2' : '1';
  WriteWholeFile(files[0], damaged);
  WriteWholeFile(files[1], ReadWholeFile(files[2]));  // another point's
  WriteWholeFile(files[3], "{");
  WriteWholeFile(temp_ / "out/cache/spectra.json", "[]");
  const auto result = Explore(Options(kSmall));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->measured, 3);
  EXPECT_EQ(WithoutTimes(Json()), expected);
}

TEST_F(ExploreTest, OtherTextsOrModelsAreOtherPoints) {
  ASSERT_TRUE(Explore(Options({.encodings = {"int8:g16"}})).ok());
  ExploreOptions options = Options({.encodings = {"int8:g16"}});
  options.evaluator.texts[1].windows = 3;
  const auto result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->measured, 2);
  testing::TinyLlamaOptions other = testing::TinyOptions();
  other.hidden = 64;
  testing::WriteTinyModelWithTokenizer(temp_ / "other", other);
  options.model = temp_ / "other";
  EXPECT_THAT(Error(options), HasSubstr("other"));  // the statistics are of the first
}

TEST_F(ExploreTest, SpeedIsAddedToLossesOfAnEarlierRun) {
  ExploreOptions options = Options({.methods = {"svd"}, .keep = {0.5}, .encodings = {"int8:g16"}});
  options.keep_models = true;
  ASSERT_TRUE(Explore(options).ok());
  const nlohmann::json losses = Json();
  // What was made and measured is read, not written again.
  std::map<std::string, fs::file_time_type> written;
  for (const char* folder : {"out/cache", "out/models"}) {
    for (const auto& entry : fs::directory_iterator(temp_ / folder)) {
      written[entry.path()] = entry.last_write_time();
    }
  }
  ASSERT_EQ(written.size(), 3u + 2 + 1 + 2);  // points, those made, spectra; models
  options.evaluator.speed.repeat = 1;
  ExploreOptions hurried = options;
  hurried.calibration.files.clear();  // its statistics are there
  hurried.statistics_folder = temp_ / "out/statistics";
  hurried.out_of_time = [] { return true; };
  const auto late = Explore(hurried);
  ASSERT_TRUE(late.ok()) << late.status();
  EXPECT_FALSE(late->is_complete);
  EXPECT_EQ(late->points.size(), 3u) << "losses are shown without speeds";
  ASSERT_EQ(late->unmeasured.size(), 3u);
  EXPECT_EQ(late->unmeasured[0].reason, "time was up before its speed");
  for (const int measured : {3, 0}) {
    const auto result = Explore(options);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->measured, measured);
    for (const PointResult& p : result->points) EXPECT_TRUE(p.speed.has_value()) << p.name;
    EXPECT_EQ(WithoutTimes(Json()), WithoutTimes(losses));
  }
  for (const auto& [path, time] : written) EXPECT_EQ(fs::last_write_time(path), time) << path;
  options.evaluator.speed.repeat = 0;  // losses alone are those of either run
  const auto result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->measured, 0);
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
