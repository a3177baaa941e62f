#include "tools/eval/sequence_scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/eval/next_token.h"
#include "tools/eval/window_runner.h"

namespace rankine {
namespace {

absl::Status CheckSequences(const Model& model, absl::Span<const Continuation> sequences) {
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto count = static_cast<int64_t>(sequences[i].tokens.size());
    if (sequences[i].first < 1 || sequences[i].first >= count) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", i, ": of ", count, " tokens those from ", sequences[i].first,
                       " on are to be scored: the first has nothing before it"));
    }
    if (count > model.shape().max_position) {
      return absl::InvalidArgumentError(absl::StrCat("sequence ", i, " has ", count,
                                                     " tokens, the model's context is ",
                                                     model.shape().max_position));
    }
    auto status = CheckVocabulary(sequences[i].tokens, model.shape().vocab_size);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Rows [begin, end) of a pass predict tokens [first, ...) of one sequence.
ContinuationScore ScoreRows(WindowRunner& runner, int64_t begin, const Continuation& sequence) {
  const auto count = static_cast<int64_t>(sequence.tokens.size());
  ContinuationScore score{.tokens = count - sequence.first, .is_greedy = true};
  for (int64_t token = sequence.first; token < count; token += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, count - token);
    const MatrixView logits = runner.Logits(begin + token - 1, rows);
    for (int64_t r = 0; r < rows; ++r) {
      const int32_t target = sequence.tokens[token + r];
      const float* row = logits.Row<float>(r);
      score.log_likelihood -= NegativeLogLikelihood(row, logits.cols, target);
      score.is_greedy = score.is_greedy && ArgMax(row, logits.cols) == target;
    }
  }
  return score;
}

}  // namespace

absl::StatusOr<Continuation> EncodeContinuation(const Tokenizer& tokenizer,
                                                const std::string& context,
                                                const std::string& text) {
  const size_t end = context.find_last_not_of(' ');
  const std::string trimmed = context.substr(0, end == std::string::npos ? 0 : end + 1);
  auto before = tokenizer.Encode(trimmed, {});
  if (!before.ok()) return before.status();
  auto whole = tokenizer.Encode(context + text, {});
  if (!whole.ok()) return whole.status();
  const auto first = static_cast<int64_t>(before->size());
  if (first < 1) {
    return absl::InvalidArgumentError("the context has no tokens, so nothing predicts the text");
  }
  if (static_cast<int64_t>(whole->size()) <= first) {
    return absl::InvalidArgumentError("the text adds no tokens to its context");
  }
  return Continuation{.tokens = *std::move(whole), .first = first};
}

absl::StatusOr<std::vector<ContinuationScore>> ScoreContinuations(
    const Model& model, absl::Span<const Continuation> sequences, DType kv_dtype,
    const ProgressFn& progress) {
  if (auto status = CheckSequences(model, sequences); !status.ok()) return status;
  std::vector<ContinuationScore> scores(sequences.size());
  // The longest first, so that a pass holds sequences of about one length.
  std::vector<size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return sequences[a].tokens.size() > sequences[b].tokens.size();
  });
  const ProgressReporter reporter(progress);
  for (size_t done = 0; done < order.size();) {
    const auto longest = static_cast<int64_t>(sequences[order[done]].tokens.size());
    const auto left = static_cast<int64_t>(order.size() - done);
    const int64_t count = std::min(left, std::max<int64_t>(1, kPassTokens / longest));
    auto runner = WindowRunner::Create(model, {.window_tokens = longest,
                                               .windows_per_pass = count,
                                               .max_logit_rows = kLogitRows,
                                               .kv_dtype = kv_dtype});
    if (!runner.ok()) return runner.status();
    std::vector<absl::Span<const int32_t>> pass;
    for (int64_t i = 0; i < count; ++i) pass.push_back(sequences[order[done + i]].tokens);
    runner->Begin(pass);
    runner->Forward();
    int64_t begin = 0;
    for (int64_t i = 0; i < count; ++i) {
      const size_t index = order[done + i];
      scores[index] = ScoreRows(*runner, begin, sequences[index]);
      if (!std::isfinite(scores[index].log_likelihood)) {
        return absl::DataLossError(
            absl::StrCat("logits of sequence ", index, " are not finite: the model is damaged"));
      }
      begin += static_cast<int64_t>(sequences[index].tokens.size());
    }
    done += static_cast<size_t>(count);
    auto status = reporter.Report(static_cast<double>(done) / static_cast<double>(order.size()),
                                  absl::StrCat("sequence ", done, " of ", order.size()));
    if (!status.ok()) return status;
  }
  return scores;
}

}  // namespace rankine
