#include "tools/explore/sensitivity.h"

#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/fingerprint.h"
#include "tools/compress/search/measured_points.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;

class SensitivityFileTest : public ::testing::Test {
 protected:
  SensitivityFileTest() {
    testing::WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    dense_ = *OpenCheckpoint(model_);
    digest_ = *ModelFingerprint(*dense_);
  }

  void Write(const std::vector<std::pair<Ranks, std::vector<double>>>& losses) const {
    auto points = MeasuredPoints::Open(
        file_, {.model_digest = digest_, .model_name = "tiny", .windows = 2, .window = 64});
    ASSERT_TRUE(points.ok()) << points.status();
    for (const auto& [ranks, of_windows] : losses) ASSERT_TRUE(points->Add(ranks, of_windows).ok());
  }

  std::string Error(const std::string& digest) const {
    return std::string(ReadSensitivities(file_, *dense_, digest).status().message());
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model", file_ = temp_ / "losses";
  std::unique_ptr<Checkpoint> dense_;
  std::string digest_;
};

// The file that the policy leaves, not one that was made up.
TEST_F(SensitivityFileTest, ReadsWhatTheSearchWrites) {
  testing::WriteWholeFile(temp_ / "validation.txt", testing::TinyText(800, 17));
  FactorizeOptions search{.method = "svd", .keep = 0.6, .allocation = "sensitivity"};
  search.validation_files = {temp_ / "validation.txt"};
  search.validation_windows = 4;
  search.validation_window = 64;
  search.search_file = file_;
  search.search.shares = {0.5, 0.8};
  search.threads = 1;
  const auto report = Factorize(model_, temp_ / "searched", search);
  ASSERT_TRUE(report.ok()) << report.status();

  const auto sensitivities = ReadSensitivities(file_, *dense_, digest_);
  ASSERT_TRUE(sensitivities.ok()) << sensitivities.status();
  ASSERT_EQ(sensitivities->size(), 3u * 7);
  const auto points = ReadMeasuredLosses(file_)->points;
  for (const Sensitivity& s : *sensitivities) {
    const auto mean = [&](const Ranks& ranks) {
      const std::vector<double>& of_windows = points.at(ranks);
      return std::accumulate(of_windows.begin(), of_windows.end(), 0.0) / 4;
    };
    EXPECT_DOUBLE_EQ(s.increase, mean({{s.linear, s.rank}}) - mean({})) << s.linear;
    // The least share asked for, within a rank of the smallest linear: (16 + 32) / (16 x 32).
    EXPECT_LE(s.share, 0.5) << s.linear;
    EXPECT_GT(s.share, 0.5 - 0.094) << s.linear;
  }
}

TEST_F(SensitivityFileTest, TakesTheLeastRankOfALinearAlone) {
  const std::string up = "model.layers.1.mlp.up_proj", q = "model.layers.0.self_attn.q_proj";
  Write({{{}, {1, 2}},
         {{{up, 9}}, {1.5, 2.5}},
         {{{up, 4}}, {2, 4}},
         {{{up, 4}, {q, 3}}, {7, 7}},
         {{{q, 12}}, {1.25, 2}},
         {{{q, 2}, {up, 2}}, {9, 9}}});
  const auto found = ReadSensitivities(file_, *dense_, digest_);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 2u);
  EXPECT_EQ((*found)[0].linear, q);
  EXPECT_EQ((*found)[0].rank, 12);
  EXPECT_DOUBLE_EQ((*found)[0].share, 12.0 * 64 / (32 * 32));
  EXPECT_DOUBLE_EQ((*found)[0].increase, 0.125);
  EXPECT_EQ((*found)[1].linear, up);
  EXPECT_EQ((*found)[1].rank, 4);
  EXPECT_DOUBLE_EQ((*found)[1].increase, 1.5);
}

TEST_F(SensitivityFileTest, SaysWhatIsWrongWithAFile) {
  EXPECT_THAT(Error(digest_), HasSubstr("losses"));  // there is none
  const std::string up = "model.layers.1.mlp.up_proj", q = "model.layers.0.self_attn.q_proj";
  Write({{{{up, 9}}, {1.5, 2.5}}});
  EXPECT_THAT(Error("another"), HasSubstr("of another model: it was made from tiny"));
  EXPECT_THAT(Error(digest_), HasSubstr("lacks the loss of the model as it is"));
  std::filesystem::remove(file_);
  Write({{{}, {1, 2}}, {{{up, 4}, {q, 3}}, {7, 7}}});
  EXPECT_THAT(Error(digest_), HasSubstr("no loss of a linear alone"));
}

}  // namespace
}  // namespace rankine
