#include "tools/eval/fidelity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/eval/next_token.h"
#include "tools/eval/token_windows.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

// Two models hold logits.
constexpr int64_t kRowsOfEach = kLogitRows / 2;

// Of one position.
struct PositionScore {
  double loss, dense_loss, kl, agrees;
};

// Scores of rows that predict a token (targets[row] >= 0); others stay as they are.
void ScoreSlice(const Model& model, const MatrixView& logits, const MatrixView& dense,
                const int32_t* targets, PositionScore* scores) {
  WorkQueue queue(logits.rows, 1);
  auto work = [&](int) {
    for (int64_t row = 0, end = 0; queue.Next(&row, &end);) {
      if (targets[row] < 0) continue;
      const float* q = logits.Row<float>(row);
      const float* p = dense.Row<float>(row);
      const int64_t vocab = logits.cols;
      const Divergence divergence = KlDivergence(p, q, vocab);
      scores[row] = {.loss = divergence.q_norm - q[targets[row]],
                     .dense_loss = divergence.p_norm - p[targets[row]],
                     .kl = divergence.kl,
                     .agrees = ArgMax(p, vocab) == ArgMax(q, vocab) ? 1.0 : 0.0};
    }
  };
  OnThreads(model.device().stream(), work);
}

class Comparison {
 public:
  Comparison(const Model& model, WindowRunner runner, WindowRunner dense, PassStates* dense_states)
      : model_(model),
        runner_(std::move(runner)),
        dense_(std::move(dense)),
        dense_states_(dense_states) {}

  absl::Status AddPass(absl::Span<const absl::Span<const int32_t>> pass) {
    runner_.Begin(pass);
    runner_.Forward();
    dense_.Begin(pass);
    dense_states_->Forward(passes_++, &dense_);
    std::vector<int32_t> targets;
    for (const auto& window : pass) {
      targets.insert(targets.end(), window.begin() + 1, window.end());
      targets.push_back(-1);
    }
    std::vector<PositionScore> scores(targets.size());
    for (int64_t row = 0; row < runner_.rows(); row += kRowsOfEach) {
      const int64_t count = std::min(kRowsOfEach, runner_.rows() - row);
      ScoreSlice(model_, runner_.Logits(row, count), dense_.Logits(row, count),
                 targets.data() + row, scores.data() + row);
    }
    const PositionScore* score = scores.data();
    for (const auto& window : pass) {
      if (!AddWindow(score, static_cast<int64_t>(window.size()) - 1)) {
        return absl::DataLossError(absl::StrCat("logits of window ", losses_.size(),
                                                " are not finite: a model is damaged"));
      }
      score += window.size();
    }
    return absl::OkStatus();
  }

  FidelityResult Result() const {
    const auto windows = static_cast<int64_t>(losses_.size());
    const auto tokens = static_cast<int64_t>(divergences_.size());
    FidelityResult result{.kl = MeanOf(kl_),
                          .kl_p99 = ClusterQuantile(divergences_, tokens / windows, 0.99),
                          .kl_max = *std::max_element(divergences_.begin(), divergences_.end()),
                          .top1 = MeanOf(agreements_),
                          .perplexity = std::exp(MeanOf(losses_).value),
                          .dense_perplexity = std::exp(MeanOf(dense_losses_).value),
                          .tokens = tokens,
                          .windows = windows};
    std::vector<double> differences;
    for (size_t i = 0; i < losses_.size(); ++i)
      differences.push_back(losses_[i] - dense_losses_[i]);
    result.log_perplexity_difference = MeanOf(differences);
    if (const auto error = MeanOf(losses_).standard_error) {
      result.standard_error = result.perplexity * *error;
    }
    return result;
  }

 private:
  // False when a figure is not finite.
  bool AddWindow(const PositionScore* scores, int64_t count) {
    PositionScore sum{};
    for (int64_t i = 0; i < count; ++i) {
      sum.loss += scores[i].loss;
      sum.dense_loss += scores[i].dense_loss;
      sum.kl += scores[i].kl;
      sum.agrees += scores[i].agrees;
      divergences_.push_back(scores[i].kl);
    }
    const auto n = static_cast<double>(count);
    losses_.push_back(sum.loss / n);
    dense_losses_.push_back(sum.dense_loss / n);
    kl_.push_back(sum.kl / n);
    agreements_.push_back(sum.agrees / n);
    return std::isfinite(sum.loss) && std::isfinite(sum.dense_loss) && std::isfinite(sum.kl);
  }

  const Model& model_;
  WindowRunner runner_, dense_;
  PassStates* const dense_states_;
  int64_t passes_ = 0;
  std::vector<double> divergences_;                              // of each position
  std::vector<double> losses_, dense_losses_, kl_, agreements_;  // means of each window
};

}  // namespace

absl::StatusOr<FidelityResult> CompareWithDense(const Model& model, const Model& dense,
                                                absl::Span<const int32_t> tokens,
                                                const PerplexityOptions& options,
                                                const ProgressFn& progress,
                                                PassStates* dense_states) {
  if (model.shape().vocab_size != dense.shape().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the models have vocabularies of ", model.shape().vocab_size, " and ",
        dense.shape().vocab_size, ": the dense model must be the one that this was made from"));
  }
  const auto windows = EvaluationWindows(tokens, options.context, options.max_windows);
  if (!windows.ok()) return windows.status();
  if (auto s = CheckVocabulary(tokens, model.shape().vocab_size); !s.ok()) return s;
  const auto length = static_cast<int64_t>(windows->front().size());
  const auto count = static_cast<int64_t>(windows->size());
  const int64_t per_pass = std::min(count, std::max<int64_t>(1, kPassTokens / length));
  const WindowRunnerOptions runner_options{.window_tokens = length,
                                           .windows_per_pass = per_pass,
                                           .max_logit_rows = kRowsOfEach,
                                           .kv_dtype = options.kv_dtype};
  auto runner = WindowRunner::Create(model, runner_options);
  if (!runner.ok()) return runner.status();
  auto dense_runner = WindowRunner::Create(dense, runner_options);
  if (!dense_runner.ok()) return dense_runner.status();
  PassStates no_states(0);
  Comparison comparison(model, *std::move(runner), *std::move(dense_runner),
                        dense_states == nullptr ? &no_states : dense_states);
  const ProgressReporter reporter(progress);
  for (int64_t first = 0; first < count; first += per_pass) {
    auto status = comparison.AddPass(absl::MakeConstSpan(*windows).subspan(first, per_pass));
    if (!status.ok()) return status;
    const int64_t done = std::min(count, first + per_pass);
    status = reporter.Report(static_cast<double>(done) / static_cast<double>(count),
                             absl::StrCat("window ", done, " of ", count));
    if (!status.ok()) return status;
  }
  return comparison.Result();
}

}  // namespace rankine
