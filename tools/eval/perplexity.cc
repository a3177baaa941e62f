#include "tools/eval/perplexity.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/eval/estimate.h"
#include "tools/eval/next_token.h"
#include "tools/eval/token_windows.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

// Rows of logits made at a time: f32 of a vocabulary of 128k takes 32 MiB, and 64 rows already run
// the head's product at the speed of a large one.
constexpr int64_t kLogitRows = 64;

// Tokens of a pass: where the products reach their full speed (bench/micro).
constexpr int64_t kPassTokens = 512;

// Losses of rows [first, first + losses) of the pass; row r is scored against targets[r].
void LossesOfSlice(const Model& model, const MatrixView& logits, const int32_t* targets,
                   double* losses) {
  WorkQueue queue(logits.rows, 1);
  auto work = [&](int) {
    for (int64_t row = 0, end = 0; queue.Next(&row, &end);) {
      losses[row] = targets[row] < 0
                        ? 0
                        : NegativeLogLikelihood(logits.Row<float>(row), logits.cols, targets[row]);
    }
  };
  ThreadPool* pool = model.device().stream().pool;
  if (pool == nullptr) {
    work(0);
  } else {
    pool->Run(work);
  }
}

// Mean loss of each window of a pass.
std::vector<double> PassLosses(const Model& model, absl::Span<const absl::Span<const int32_t>> pass,
                               WindowRunner* runner) {
  runner->Begin(pass);
  runner->Forward();
  // What each row predicts; the last row of a window predicts nothing.
  std::vector<int32_t> targets;
  for (const auto& window : pass) {
    targets.insert(targets.end(), window.begin() + 1, window.end());
    targets.push_back(-1);
  }
  std::vector<double> losses(targets.size());
  for (int64_t row = 0; row < runner->rows(); row += kLogitRows) {
    const MatrixView logits = runner->Logits(row, std::min(kLogitRows, runner->rows() - row));
    LossesOfSlice(model, logits, targets.data() + row, losses.data() + row);
  }
  std::vector<double> means;
  const double* loss = losses.data();
  for (const auto& window : pass) {
    double sum = 0;
    for (size_t i = 0; i + 1 < window.size(); ++i) sum += loss[i];
    means.push_back(sum / static_cast<double>(window.size() - 1));
    loss += window.size();
  }
  return means;
}

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
                                             .max_logit_rows = kLogitRows,
                                             .kv_dtype = options.kv_dtype});
  if (!runner.ok()) return runner.status();
  const ProgressReporter reporter(progress);
  std::vector<double> means;
  for (int64_t first = 0; first < count; first += per_pass) {
    const auto pass = absl::MakeConstSpan(*windows).subspan(first, per_pass);
    for (double mean : PassLosses(model, pass, &*runner)) {
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
