#include "tools/compress/search/validation_loss.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/compress/factorize.h"
#include "tools/compress/layer_factorizer.h"
#include "tools/compress/search/rank_losses.h"
#include "tools/eval/estimate.h"
#include "tools/eval/perplexity.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;

constexpr int64_t kWindows = 5, kTokens = 48;

absl::Status Ignore(double) { return absl::OkStatus(); }

class ValidationLossTest : public ::testing::Test {
 protected:
  ValidationLossTest() {
    WriteTinyModelWithTokenizer(model_, testing::TinyOptions());
    checkpoint_ = *OpenCheckpoint(model_);
    for (const char c : testing::TinyText(kWindows * kTokens)) tokens_.push_back(c);
  }

  std::vector<std::vector<int32_t>> Windows() const {
    std::vector<std::vector<int32_t>> windows;
    for (int64_t w = 0; w < kWindows; ++w) {
      windows.emplace_back(tokens_.begin() + w * kTokens, tokens_.begin() + (w + 1) * kTokens);
    }
    return windows;
  }

  std::unique_ptr<ValidationLoss> Create(int64_t kept_bytes = int64_t{1} << 30,
                                         int threads = 2) const {
    auto loss = ValidationLoss::Create(*checkpoint_, Windows(),
                                       {.threads = threads, .kept_bytes = kept_bytes}, Ignore);
    EXPECT_TRUE(loss.ok()) << loss.status();
    return *std::move(loss);
  }

  // Of a whole folder, by the evaluation that `rankine eval` runs.
  double LogPerplexity(const std::string& folder) const {
    const auto checkpoint = *OpenCheckpoint(folder);
    const auto device = *MakeCpuDevice({.num_threads = 2});
    const auto model = *LoadModel(*checkpoint, *device, {.compute = DType::kF32});
    const auto result = Perplexity(*model, tokens_, {.context = kTokens});
    EXPECT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->windows, kWindows);
    return std::log(result->perplexity);
  }

  absl::StatusOr<LayerPart> PartOf(int64_t layer, const std::string& only) const {
    const auto linears = *SelectLinears(*checkpoint_, only, "");
    LayerInput input;
    for (const LinearInfo& l : linears) {
      if (l.layer != layer) continue;
      input.linears.push_back(&l);
      input.budgets[l.name] = {.parameters = 0.6 * l.out_features() * l.in_features()};
    }
    return FactorLayer({.checkpoint = checkpoint_.get(),
                        .method = *FindMethod("svd"),
                        .encoding = Encoding::Float(DType::kBF16),
                        .block_dtype = DType::kBF16},
                       input);
  }

  const TempFolder temp_;
  const std::string model_ = temp_ / "model";
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<int32_t> tokens_;
};

// Products and sums are the same ones in the same order: exp and log alone round.
constexpr double kRounding = 1e-13;

TEST_F(ValidationLossTest, OfTheUnchangedModelIsItsPerplexity) {
  EXPECT_NEAR(MeanOf(Create()->unchanged()).value, LogPerplexity(model_), kRounding);
}

TEST_F(ValidationLossTest, EqualsTheEvaluationOfTheFactoredFolder) {
  int cases = 0;
  for (const auto& [only, layers] : std::vector<std::pair<std::string, std::set<int64_t>>>{
           {"layers\\.1\\.mlp\\.up", {1}}, {"layers\\.(0|2)", {0, 2}}, {"", {0, 1, 2}}}) {
    SCOPED_TRACE(only);
    const std::string out = temp_ / std::to_string(++cases);
    ASSERT_TRUE(Factorize(model_, out, {.method = "svd", .keep = 0.6, .only_regex = only}).ok());
    const double expected = LogPerplexity(out);
    // All states kept; every second layer's; the first layer's alone.
    for (const int64_t kept : {int64_t{1} << 30, 2 * kWindows * kTokens * 32 * 4, int64_t{1}}) {
      const auto loss = Create(kept);
      const auto now = loss->Evaluate(
          layers, [&](int64_t layer) { return PartOf(layer, only); }, Ignore);
      ASSERT_TRUE(now.ok()) << now.status();
      EXPECT_NEAR(MeanOf(*now).value, expected, kRounding) << kept;
      EXPECT_GT(std::abs(expected - MeanOf(loss->unchanged()).value), 1e-4);
    }
  }
}

TEST_F(ValidationLossTest, DoesNotDependOnThreadsOrOnWhatWasAskedBefore) {
  const auto one = Create(1 << 30, 1), two = Create(1 << 30, 2);
  EXPECT_EQ(one->unchanged(), two->unchanged());
  const auto part = [&](int64_t layer) { return PartOf(layer, "mlp"); };
  const auto first = two->Evaluate({1}, part, Ignore);
  ASSERT_TRUE(two->Evaluate({0, 2}, part, Ignore).ok());
  EXPECT_EQ(*two->Evaluate({1}, part, Ignore), *first);
  EXPECT_EQ(*one->Evaluate({1}, part, Ignore), *first);
  EXPECT_EQ(*one->Evaluate({}, part, Ignore), one->unchanged());
}

TEST_F(ValidationLossTest, ErrorsComeThrough) {
  const auto loss = Create();
  const auto failing = [](int64_t) -> absl::StatusOr<LayerPart> {
    return absl::InternalError("no such factors");
  };
  EXPECT_THAT(std::string(loss->Evaluate({1}, failing, Ignore).status().message()),
              HasSubstr("no such factors"));
  const auto stop = [](double) { return absl::CancelledError("stop"); };
  EXPECT_TRUE(absl::IsCancelled(loss->Evaluate({1}, failing, stop).status()) ||
              absl::IsInternal(loss->Evaluate({1}, failing, stop).status()));
  EXPECT_TRUE(absl::IsCancelled(
      ValidationLoss::Create(*checkpoint_, Windows(), {.threads = 1}, stop).status()));
  EXPECT_THAT(
      std::string(ValidationLoss::Create(*checkpoint_, {{1}}, {}, Ignore).status().message()),
      HasSubstr("two tokens"));
  EXPECT_THAT(
      std::string(ValidationLoss::Create(*checkpoint_, {{1, 5000}}, {}, Ignore).status().message()),
      HasSubstr("outside the vocabulary"));
}

TEST(CompareLossesTest, PairsWindows) {
  const MeasuredLoss loss = CompareLosses({1, 5, 3}, {1.5, 5.25, 3.75});
  EXPECT_DOUBLE_EQ(loss.loss, 3.5);
  EXPECT_DOUBLE_EQ(loss.increase, 0.5);
  // Deviations 0.25 of (0.5, 0.25, 0.75), over sqrt(3); the loss itself varies far more.
  EXPECT_NEAR(*loss.increase_error, 0.25 / std::sqrt(3.0), 1e-15);
  EXPECT_GT(*loss.standard_error, 1);
  EXPECT_FALSE(CompareLosses({1}, {2}).increase_error.has_value());
}

}  // namespace
}  // namespace rankine
