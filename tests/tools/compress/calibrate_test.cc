#include "tools/compress/calibrate.h"

#include <filesystem>
#include <limits>
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/statistics_folder.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Files;
using ::testing::HasSubstr;
using testing::TempFolder;
using testing::WriteWholeFile;

class CalibrateTest : public ::testing::Test {
 protected:
  CalibrateTest() {
    WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    WriteWholeFile(text_, testing::TinyText(4000));
  }
  CalibrationOptions Options() const { return {.files = {text_}, .windows = 40, .window = 64}; }
  FactorizeOptions SvdLlm() const {
    return {.method = "svd-llm", .keep = 0.6, .statistics_folder = temp_ / "stats", .threads = 2};
  }
  std::string CalibrateError(const CalibrationOptions& options) const {
    const auto report = Calibrate(model_, temp_ / "error", options, 2);
    EXPECT_FALSE(report.ok());
    return std::string(report.status().message());
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model", text_ = temp_ / "text";
};

TEST_F(CalibrateTest, FactorizeNeedsNoTextAfterwards) {
  const auto report = Calibrate(model_, temp_ / "stats", Options(), 2);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->layers, 3);
  EXPECT_EQ(report->groups, 3 * 4);
  EXPECT_EQ(report->tokens, 40 * 64);
  ASSERT_TRUE(Factorize(model_, temp_ / "a", SvdLlm()).ok());
  FactorizeOptions one_step = SvdLlm();
  one_step.statistics_folder = "";
  one_step.calibration_files = {text_};
  one_step.calibration_windows = 40;
  one_step.window = 64;
  ASSERT_TRUE(Factorize(model_, temp_ / "b", one_step).ok());
  EXPECT_EQ(Files(temp_ / "a"), Files(temp_ / "b"));
}

TEST_F(CalibrateTest, HoldsMeansOfGroupsOf32Sequences) {
  ASSERT_TRUE(Calibrate(model_, temp_ / "stats", Options(), 2).ok());
  const auto folder = StatisticsFolder::Open(temp_ / "stats");
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto layer = folder->Read(1);
  ASSERT_TRUE(layer.ok()) << layer.status();
  const Moments* m = layer->Find("model.layers.1.mlp.up_proj");
  ASSERT_NE(m, nullptr);
  EXPECT_EQ(m->group_tokens, (std::vector<int64_t>{32 * 64, 8 * 64}));
  for (int64_t j = 0; j < m->second.cols; ++j) {
    const double pooled = (m->group_means(0, j) * 32 + m->group_means(1, j) * 8) / 40;
    EXPECT_NEAR(pooled, m->mean[j], 1e-12);
    // |mean| <= mean of |x| <= root mean square
    EXPECT_LE(std::abs(m->mean[j]), m->mean_absolute[j]);
    EXPECT_LE(m->mean_absolute[j], std::sqrt(m->second(j, j)) * (1 + 1e-6));
  }
}

TEST_F(CalibrateTest, GoesOnWithTheSameBytes) {
  ASSERT_TRUE(Calibrate(model_, temp_ / "whole", Options(), 2).ok());
  const auto expected = Files(temp_ / "whole");
  EXPECT_EQ(expected.size(), 4u);
  for (int stop_at = 0; stop_at < 12; stop_at += 2) {
    const std::string out = temp_ / ("resumed" + std::to_string(stop_at));
    int calls = 0;
    const auto stopped =
        Calibrate(model_, out, Options(), 2, [&](const Progress&) { return calls++ != stop_at; });
    EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
    ASSERT_TRUE(Calibrate(model_, out, Options(), 2).ok());
    EXPECT_EQ(Files(out), expected);
  }
}

TEST_F(CalibrateTest, AnotherModelsStatisticsAreRefusedByName) {
  ASSERT_TRUE(Calibrate(model_, temp_ / "stats", Options(), 2).ok());
  testing::TinyLlamaOptions other = testing::TinyOptions();
  other.seed += 1;
  WriteTinyModelWithTokenizer(temp_ / "other", other);
  const auto report = Factorize(temp_ / "other", temp_ / "out", SvdLlm());
  EXPECT_EQ(report.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(report.status().message()),
              AllOf(HasSubstr("another model"), HasSubstr("from model ("), HasSubstr("other (")));
  const auto again = Calibrate(temp_ / "other", temp_ / "stats", Options(), 2);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("another model"));
  EXPECT_FALSE(fs::exists(temp_ / "out"));
}

// File names are bytes: these are no UTF-8, which JSON requires.
TEST_F(CalibrateTest, NamesOfFilesMayBeAnyBytes) {
  const std::string model = temp_ /
                            "mod\xff"
                            "el",
                    text = temp_ /
                           "te\xfe"
                           "xt";
  fs::rename(model_, model);
  fs::rename(text_, text);
  CalibrationOptions options = Options();
  options.files = {text};
  const auto report = Calibrate(model, temp_ / "stats", options, 2);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto factored = Factorize(model, temp_ / "out", SvdLlm());
  ASSERT_TRUE(factored.ok()) << factored.status();
}

TEST_F(CalibrateTest, IncompleteStatisticsAreNamed) {
  ASSERT_TRUE(Calibrate(model_, temp_ / "stats", Options(), 2).ok());
  fs::remove(temp_ / "stats/layer_00002.statistics");
  EXPECT_THAT(std::string(Factorize(model_, temp_ / "out", SvdLlm()).status().message()),
              AllOf(HasSubstr("layer_00002"), HasSubstr("not complete")));
  FactorizeOptions nowhere = SvdLlm();
  nowhere.statistics_folder = temp_ / "nowhere";
  EXPECT_THAT(std::string(Factorize(model_, temp_ / "out2", nowhere).status().message()),
              AllOf(HasSubstr("nowhere"), HasSubstr("rankine calibrate")));
}

TEST_F(CalibrateTest, RefusesBadInput) {
  CalibrationOptions o = Options();
  WriteWholeFile(text_, "");
  EXPECT_THAT(CalibrateError(o), HasSubstr("tokens"));
  WriteWholeFile(text_, "tiny");
  EXPECT_THAT(CalibrateError(o), HasSubstr("4 tokens"));
  o.windows = 0;
  EXPECT_THAT(CalibrateError(o), HasSubstr("bad calibration"));
  o.files.clear();
  EXPECT_THAT(CalibrateError(o), HasSubstr("--text"));
  EXPECT_FALSE(fs::exists(temp_ / "error"));
  fs::create_directory(temp_ / "error");
  WriteWholeFile(temp_ / "error/thesis.txt", "years of work");
  WriteWholeFile(text_, testing::TinyText(4000));
  EXPECT_THAT(CalibrateError(Options()), HasSubstr("other files"));
}

}  // namespace
}  // namespace rankine
