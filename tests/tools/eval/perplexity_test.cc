#include "tools/eval/perplexity.h"
#include "models/text.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/loader.h"
#include "tests/tools/compress/compress_testing.h"
#include "tools/eval/token_windows.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;

class PerplexityTest : public ::testing::Test {
 protected:
  PerplexityTest() {
    WriteTinyModelWithTokenizer(temp_ / "model", testing::TinyOptions());
    checkpoint_ = *OpenCheckpoint(temp_ / "model");
    device_ = *MakeCpuDevice({.num_threads = 2});
    auto model = LoadModel(*checkpoint_, *device_, {.compute = DType::kF32});
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    for (char c : testing::TinyText(1000)) tokens_.push_back(static_cast<unsigned char>(c));
  }

  // -log p of token i + 1 after tokens [0, i] of a window, from all logits at once and a plain sum.
  std::vector<double> Losses(absl::Span<const int32_t> window) const {
    const auto n = static_cast<int64_t>(window.size());
    auto runner = WindowRunner::Create(*model_, {.window_tokens = n, .max_logit_rows = n});
    EXPECT_TRUE(runner.ok());
    runner->Begin({window});
    runner->Forward();
    const MatrixView logits = runner->Logits(0, n);
    std::vector<double> losses;
    for (int64_t i = 0; i + 1 < n; ++i) {
      double sum = 0;
      for (int64_t v = 0; v < logits.cols; ++v) sum += std::exp(double{logits.Row<float>(i)[v]});
      losses.push_back(std::log(sum) - logits.Row<float>(i)[window[i + 1]]);
    }
    return losses;
  }

  const TempFolder temp_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<FactoredModel> model_;
  std::vector<int32_t> tokens_;
};

TEST_F(PerplexityTest, EqualsAPlainSum) {
  for (int64_t context : {2, 37, 64, 200}) {
    const int64_t windows = 1000 / context;
    std::vector<double> means;
    for (int64_t w = 0; w < windows; ++w) {
      const auto losses = Losses(absl::MakeConstSpan(tokens_).subspan(w * context, context));
      double mean = 0;
      for (double l : losses) mean += l / losses.size();
      means.push_back(mean);
    }
    double mean = 0, squares = 0;
    for (double m : means) mean += m / windows;
    for (double m : means) squares += (m - mean) * (m - mean);
    const auto result = Perplexity(*model_, tokens_, {.context = context});
    ASSERT_TRUE(result.ok()) << result.status();
    // Logits are the same floats whatever shares their pass; the sums are f64.
    EXPECT_NEAR(result->perplexity, std::exp(mean), 1e-11 * std::exp(mean)) << context;
    EXPECT_EQ(result->windows, windows);
    EXPECT_EQ(result->tokens, windows * (context - 1));
    const double error = std::exp(mean) * std::sqrt(squares / (windows - 1) / windows);
    EXPECT_NEAR(result->standard_error.value(), error, 1e-9 * error);
  }
}

TEST_F(PerplexityTest, AShortTextIsOneWindow) {
  const auto text = absl::MakeConstSpan(tokens_).first(45);
  const auto result = Perplexity(*model_, text, {.context = 64});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->windows, 1);
  EXPECT_EQ(result->tokens, 44);
  EXPECT_FALSE(result->standard_error.has_value());
  double sum = 0;
  for (double l : Losses(text)) sum += l;
  EXPECT_NEAR(std::log(result->perplexity), sum / 44, 1e-12);
}

TEST_F(PerplexityTest, TakesWindowsEvenly) {
  const auto some = Perplexity(*model_, tokens_, {.context = 100, .max_windows = 3});
  ASSERT_TRUE(some.ok());
  EXPECT_EQ(some->windows, 3);
  std::vector<int32_t> chosen;  // windows 0, 3 and 6 of 10
  for (int64_t w : {0, 3, 6}) {
    chosen.insert(chosen.end(), tokens_.begin() + w * 100, tokens_.begin() + (w + 1) * 100);
  }
  const auto same = Perplexity(*model_, chosen, {.context = 100});
  EXPECT_EQ(some->perplexity, same->perplexity);
  EXPECT_EQ(Perplexity(*model_, tokens_, {.context = 100, .max_windows = 99})->windows, 10);
}

TEST_F(PerplexityTest, ReadsAFile) {
  testing::WriteWholeFile(temp_ / "text", testing::TinyText(1000));
  const auto tokenizer = TokenizerOf(*checkpoint_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto a = PerplexityOfFile(*model_, **tokenizer, temp_ / "text", {.context = 50});
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->perplexity, Perplexity(*model_, tokens_, {.context = 50})->perplexity);
  EXPECT_THAT(
      std::string(PerplexityOfFile(*model_, **tokenizer, temp_ / "no", {}).status().message()),
      HasSubstr("no"));
}

TEST_F(PerplexityTest, RefusesBadArguments) {
  const auto message = [&](const std::vector<int32_t>& tokens, const PerplexityOptions& options) {
    return std::string(Perplexity(*model_, tokens, options).status().message());
  };
  EXPECT_THAT(message({}, {}), HasSubstr("0 tokens"));
  EXPECT_THAT(message({5}, {}), HasSubstr("1 tokens"));
  EXPECT_THAT(message(tokens_, {.context = 1}), HasSubstr("context of 1"));
  EXPECT_THAT(message(tokens_, {.context = 512}), HasSubstr("256"));
  EXPECT_THAT(message({5, 256, 7}, {}), HasSubstr("token 256"));
  EXPECT_THAT(message(tokens_, {.context = 8, .max_windows = -1}), HasSubstr("-1"));
  const auto stopped =
      Perplexity(*model_, tokens_, {.context = 100}, [](const Progress&) { return false; });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace rankine
