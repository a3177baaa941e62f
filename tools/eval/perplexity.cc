#include "tools/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/eval/estimate.h"
#include "tools/eval/next_token.h"
#include "tools/eval/token_windows.h"
#include "tools/eval/window_losses.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

PerplexityResult Summarise(const std::vector<double>& means, int64_t window_tokens) {
  const Estimate loss = MeanOf(means);
  PerplexityResult result{.perplexity = std::exp(loss.value),
                          .tokens = static_cast<int64_t>(means.size()) * (window_tokens - 1),
                          .windows = static_cast<int64_t>(means.size())};
  if (loss.standard_error) result.standard_error = result.perplexity * *loss.standard_error;
  return result;
}

}  // namespace

absl::StatusOr<PerplexityResult> Perplexity(const Model& model, absl::Span<const int32_t> tokens,
                                            const PerplexityOptions& options,
                                            const ProgressFn& progress) {
  if (model.shape().is_encoder) {
    return absl::InvalidArgumentError(
        "the model is an encoder, which predicts no next token and has no perplexity; evaluate it "
        "with --probe");
  }
  auto windows = EvaluationWindows(tokens, options.context, options.max_windows);
  if (!windows.ok()) return windows.status();
  if (auto s = CheckVocabulary(tokens, model.shape().vocab_size); !s.ok()) return s;
  const auto length = static_cast<int64_t>(windows->front().size());
  const auto count = static_cast<int64_t>(windows->size());
  const int64_t per_pass = std::min(count, std::max<int64_t>(1, kPassTokens / length));
  auto runner = WindowRunner::Create(model, {.window_tokens = length,
                                             .windows_per_pass = per_pass,
                                             .max_logit_rows = kLossRows,
                                             .kv_dtype = options.kv_dtype});
  if (!runner.ok()) return runner.status();
  const ProgressReporter reporter(progress);
  std::vector<double> means;
  for (int64_t first = 0; first < count; first += per_pass) {
    const auto pass = absl::MakeConstSpan(*windows).subspan(first, per_pass);
    runner->Begin(pass);
    runner->Forward();
    for (double mean : WindowLosses(model, pass, &*runner)) {
      if (!std::isfinite(mean)) {
        return absl::DataLossError(absl::StrCat("logits of window ", means.size(),
                                                " are not finite: the model is damaged"));
      }
      means.push_back(mean);
    }
    auto status = reporter.Report(static_cast<double>(means.size()) / static_cast<double>(count),
                                  absl::StrCat("window ", means.size(), " of ", count));
    if (!status.ok()) return status;
  }
  return Summarise(means, length);
}

absl::StatusOr<PerplexityResult> PerplexityOfFile(const Model& model, const Tokenizer& tokenizer,
                                                  const std::string& path,
                                                  const PerplexityOptions& options,
                                                  const ProgressFn& progress) {
  const auto tokens = ReadTextTokens(tokenizer, {path});
  if (!tokens.ok()) return tokens.status();
  return Perplexity(model, *tokens, options, progress);
}

}  // namespace rankine
