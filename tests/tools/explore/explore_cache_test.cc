// What an exploration keeps between its runs, and what it measures anew.
#include "tools/explore/explore.h"

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/explore/explore_testing.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using testing::ExploreTest;
using ::testing::Field;
using ::testing::HasSubstr;
using testing::kSmall;
using ::testing::Not;
using testing::ReadWholeFile;
using testing::WriteWholeFile;

// JSON without what a clock decides.
nlohmann::json WithoutTimes(nlohmann::json json) {
  for (auto& point : json["points"]) {
    point.erase("speed");
    point.erase("make_seconds");
    point.erase("on_speed_frontier");
  }
  return json;
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

}  // namespace
}  // namespace rankine
