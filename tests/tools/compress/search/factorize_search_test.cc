// Factorising by policies that look at the model's loss, from the options to the folder.
#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/loader.h"
#include "models/text.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/work_folder.h"
#include "tools/eval/perplexity.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Files;
using ::testing::HasSubstr;
using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

constexpr int64_t kWindow = 64;

class FactorizeSearchTest : public ::testing::Test {
 protected:
  FactorizeSearchTest() {
    WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    WriteWholeFile(temp_ / "calibration", testing::TinyText(2000, 3));
    WriteWholeFile(temp_ / "validation", testing::TinyText(4 * kWindow, 11));
  }

  FactorizeOptions Options(const std::string& method, const std::string& allocation) const {
    FactorizeOptions o{.method = method,
                       .keep = 0.7,
                       .allocation = allocation,
                       .validation_files = {temp_ / "validation"},
                       .validation_windows = 4,
                       .validation_window = kWindow,
                       .search = {.evaluations = 6},
                       .calibration_windows = 20,
                       .window = 64,
                       .threads = 2};
    if (method == "svd-llm" || method == "bolaco") o.calibration_files = {temp_ / "calibration"};
    return o;
  }

  std::string Error(const FactorizeOptions& o) const {
    const auto report = Factorize(model_, temp_ / "error", o);
    EXPECT_FALSE(report.ok());
    EXPECT_FALSE(fs::exists(temp_ / "error"));
    fs::remove_all(WorkFolder::PathOf(temp_ / "error"));
    return std::string(report.status().message());
  }

  // Mean loss on the validation text, by the evaluation of a whole folder.
  double Loss(const std::string& folder) const {
    const auto checkpoint = *OpenCheckpoint(folder);
    const auto device = *MakeCpuDevice({.num_threads = 2});
    const auto model = *LoadModel(*checkpoint, *device, {.compute = DType::kF32});
    const auto result = PerplexityOfFile(*model, **TokenizerOf(*checkpoint), temp_ / "validation",
                                         {.context = kWindow});
    EXPECT_TRUE(result.ok()) << result.status();
    return std::log(result->perplexity);
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model";
};

TEST_F(FactorizeSearchTest, PlansWithinTheBudgetAndReportsTheLossOfTheFolder) {
  for (const auto& [method, allocation] :
       std::vector<std::pair<std::string, std::string>>{{"svd", "sensitivity"},
                                                        {"svd-llm", "sensitivity"},
                                                        {"svd", "bayes"},
                                                        {"bolaco", "bayes"}}) {
    SCOPED_TRACE(method + " " + allocation);
    const std::string out = temp_ / (method + allocation);
    const auto report = Factorize(model_, out, Options(method, allocation));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_LE(report->parameters_kept, 0.7);
    EXPECT_GT(report->parameters_kept, 0.6);
    ASSERT_TRUE(report->search.has_value());
    const SearchReport& search = *report->search;
    EXPECT_NEAR(search.unchanged.loss, Loss(model_), 1e-12);
    // Slices that were cut off, not made again: bf16 factors agree but for products' last bits.
    EXPECT_NEAR(search.planned.loss, Loss(out), 1e-3);
    EXPECT_NEAR(search.planned.increase, search.planned.loss - search.unchanged.loss, 1e-12);
    EXPECT_TRUE(search.planned.increase_error.has_value());
    if (allocation == "bayes") {
      // Six evaluations and the model as it is; on so small a model two points may be one
      // allocation.
      EXPECT_LE(search.measured, 7);
      EXPECT_GE(search.measured, 5);
    } else {
      EXPECT_EQ(search.measured, 1 + 21 * 4 + 1);
    }
    EXPECT_FALSE(fs::exists(WorkFolder::PathOf(out)));
  }
}

// Laser's choice is the best of all reductions, each written and evaluated as a folder.
TEST_F(FactorizeSearchTest, LaserAgreesWithTryingAll) {
  FactorizeOptions o = Options("laser", "");
  o.only_regex = "layers\\.2\\.mlp";
  o.search.shares = {0.1, 0.4, 0.9};
  const auto report = Factorize(model_, temp_ / "laser", o);
  ASSERT_TRUE(report.ok()) << report.status();
  const double dense = Loss(model_);
  double best = 1e9;
  std::string linear;
  int64_t at = 0;
  for (const char* name : {"down", "gate", "up"}) {
    for (const int64_t rank : {3, 12, 28}) {
      const std::string out = temp_ / (name + std::to_string(rank));
      FactorizeOptions alone{.method = "laser", .rank = rank};
      alone.only_regex = std::string("layers\\.2\\.mlp\\.") + name;
      const auto written = Factorize(model_, out, alone);
      ASSERT_TRUE(written.ok()) << written.status();
      EXPECT_EQ(written->layers[0].rank, rank);
      // 28 x (48 + 32) numbers are more than 48 x 32: W' itself is stored.
      EXPECT_EQ(written->layers[0].kept_parameters, std::min<int64_t>(rank * 80, 48 * 32));
      const double loss = Loss(out);
      if (loss < best) {
        best = loss;
        linear = alone.only_regex.substr(alone.only_regex.rfind('.') + 1);
        at = rank;
      }
    }
  }
  ASSERT_TRUE(report->search.has_value());
  EXPECT_THAT(report->search->best_linear, HasSubstr("layers.2.mlp." + linear));
  EXPECT_EQ(report->search->best_rank, at);
  EXPECT_NEAR(report->search->best.loss, best, 1e-12);
  int factored = 0;
  for (const LayerReport& l : report->layers) factored += l.rank > 0;
  EXPECT_EQ(factored, best < dense ? 1 : 0);
  EXPECT_NEAR(Loss(temp_ / "laser"), std::min(best, dense), 1e-12);
}

TEST_F(FactorizeSearchTest, LaserStoresTheReducedWeightUnderItsOwnName) {
  FactorizeOptions o{.method = "laser", .rank = 28, .only_regex = "layers\\.2\\.mlp\\.up"};
  ASSERT_TRUE(Factorize(model_, temp_ / "dense", o).ok());
  const auto checkpoint = *OpenCheckpoint(temp_ / "dense");
  const std::string name = "model.layers.2.mlp.up_proj";
  EXPECT_NE(checkpoint->Find(name + ".weight"), nullptr);
  EXPECT_EQ(checkpoint->Find(name + ".U"), nullptr);
  o.method = "svd";
  ASSERT_TRUE(Factorize(model_, temp_ / "svd", o).ok());
  // The same matrix, rounded to bf16 once or as two factors.
  EXPECT_NEAR(Loss(temp_ / "dense"), Loss(temp_ / "svd"), 1e-2);
}

// Stopped after any number of reports, and gone on with, a run gives the same folder.
TEST_F(FactorizeSearchTest, ResumesToTheSameBytes) {
  for (const auto& [method, allocation] : std::vector<std::pair<std::string, std::string>>{
           {"svd-llm", "sensitivity"}, {"bolaco", "bayes"}, {"laser", "laser"}}) {
    SCOPED_TRACE(allocation);
    FactorizeOptions o = Options(method, allocation);
    o.only_regex = "mlp";
    o.search.shares = {0.3, 0.8};
    const std::string whole = temp_ / ("whole_" + allocation);
    const auto expected = Factorize(model_, whole, o);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const std::string out = temp_ / ("stopped_" + allocation);
    int stops = 0;
    absl::StatusOr<FactorizeReport> report = absl::UnknownError("");
    do {
      // More than the reports of an attempt that finds everything measured make progress possible.
      int left = 25 + 10 * stops;
      report = Factorize(model_, out, o, [&](const Progress&) { return --left > 0; });
      ASSERT_TRUE(report.ok() || absl::IsCancelled(report.status())) << report.status();
      if (!report.ok()) ++stops;
      ASSERT_LT(stops, 200);
    } while (!report.ok());
    EXPECT_GT(stops, 2);
    EXPECT_EQ(Files(out), Files(whole));
    EXPECT_EQ(report->search->planned.loss, expected->search->planned.loss);
  }
}

TEST_F(FactorizeSearchTest, UsesWhatAnEarlierRunMeasured) {
  FactorizeOptions o = Options("svd", "sensitivity");
  o.search_file = temp_ / "losses";
  ASSERT_TRUE(Factorize(model_, temp_ / "a", o).ok());
  const std::string measured = ReadWholeFile(o.search_file);
  // Another budget: one more point, that of the plan.
  o.keep = 0.8;
  ASSERT_TRUE(Factorize(model_, temp_ / "b", o).ok());
  const std::string more = ReadWholeFile(o.search_file);
  EXPECT_EQ(more.substr(0, measured.size()), measured);
  EXPECT_EQ(
      std::count(more.begin() + static_cast<std::ptrdiff_t>(measured.size()), more.end(), '\n'), 1);
  WriteTinyModelWithTokenizer(temp_ / "other", [] {
    auto options = testing::TinyOptions();
    options.seed = 5;
    return options;
  }());
  EXPECT_THAT(std::string(Factorize(temp_ / "other", temp_ / "c", o).status().message()),
              AllOf(HasSubstr("another model"), HasSubstr("losses")));
  o.method = "laser";
  EXPECT_THAT(Error(o), HasSubstr("method"));
}

TEST_F(FactorizeSearchTest, RefusesBadInput) {
  FactorizeOptions o = Options("svd", "sensitivity");
  o.validation_files.clear();
  EXPECT_THAT(Error(o), HasSubstr("--validation FILE"));
  o.validation_files = {temp_ / "missing"};
  EXPECT_THAT(Error(o), HasSubstr("missing"));
  WriteWholeFile(temp_ / "empty", "");
  o.validation_files = {temp_ / "empty"};
  EXPECT_THAT(Error(o), AllOf(HasSubstr("validation"), HasSubstr("0 tokens")));
  WriteWholeFile(temp_ / "tiny", testing::TinyText(100));
  o.validation_files = {temp_ / "tiny"};
  EXPECT_THAT(Error(o), AllOf(HasSubstr("validation"), HasSubstr("4 are needed")));
  o = Options("svd", "sensitivity");
  o.validation_window = 1;
  EXPECT_THAT(Error(o), HasSubstr("two tokens"));
  o = Options("svd", "sensitivity");
  o.search.shares = {1.5};
  EXPECT_THAT(Error(o), HasSubstr("--search-shares"));
  o = Options("svd-llm", "sensitivity");
  o.calibration_files = o.validation_files;
  o.calibration_windows = 4;
  EXPECT_THAT(Error(o), HasSubstr("is the calibration text"));
  o = Options("svd", "uniform");
  EXPECT_THAT(Error(o), HasSubstr("--validation"));
  o = Options("svd-llm-u", "bayes");
  o.calibration_files = {temp_ / "calibration"};
  EXPECT_THAT(Error(o), HasSubstr("svd-llm-u"));
  o = Options("svd", "bayes");
  o.rank = 3;
  EXPECT_THAT(Error(o), HasSubstr("--rank"));
  o = Options("svd", "sensitivity");
  o.keep = 0.05;
  EXPECT_THAT(Error(o), HasSubstr("--search-shares"));
}

}  // namespace
}  // namespace rankine
