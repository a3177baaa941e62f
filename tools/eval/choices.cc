#include "tools/eval/choices.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/eval/json_lines.h"
#include "tools/eval/sequence_scorer.h"

namespace rankine {
namespace {

absl::StatusOr<ChoiceQuestion> ParseQuestion(const JsonValue& line) {
  RK_ASSIGN_OR_RETURN(const auto members, line.Members());
  for (const auto& [key, value] : members) {
    if (key != "context" && key != "choices" && key != "answer" && key != "id") {
      return value.Error("unknown key; a question has context, choices, answer and maybe id");
    }
  }
  ChoiceQuestion question;
  RK_ASSIGN_OR_RETURN(const JsonValue context, line.Get("context"));
  RK_ASSIGN_OR_RETURN(question.context, context.String());
  RK_ASSIGN_OR_RETURN(const JsonValue choices, line.Get("choices"));
  RK_ASSIGN_OR_RETURN(const auto elements, choices.Elements());
  for (const JsonValue& element : elements) {
    RK_ASSIGN_OR_RETURN(std::string choice, element.String());
    if (choice.empty()) return element.Error("is empty: it has no likelihood");
    question.choices.push_back(std::move(choice));
  }
  if (question.choices.size() < 2) return choices.Error("needs at least two choices");
  RK_ASSIGN_OR_RETURN(const JsonValue answer, line.Get("answer"));
  RK_ASSIGN_OR_RETURN(question.answer, answer.Int());
  if (question.answer < 0 || question.answer >= static_cast<int64_t>(question.choices.size())) {
    return answer.Error(absl::StrCat(question.answer, " is none of the ", question.choices.size(),
                                     " choices; the first is 0"));
  }
  return question;
}

}  // namespace

absl::StatusOr<std::vector<ChoiceQuestion>> ReadChoices(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> lines, ReadJsonLines(path));
  std::vector<ChoiceQuestion> questions;
  for (const JsonValue& line : lines) {
    RK_ASSIGN_OR_RETURN(ChoiceQuestion question, ParseQuestion(line));
    questions.push_back(std::move(question));
  }
  return questions;
}

absl::StatusOr<ChoicesResult> EvaluateChoices(const Model& model, const Tokenizer& tokenizer,
                                              const std::vector<ChoiceQuestion>& questions,
                                              DType kv_dtype, const ProgressFn& progress) {
  std::vector<Continuation> sequences;
  for (size_t i = 0; i < questions.size(); ++i) {
    for (const std::string& choice : questions[i].choices) {
      auto sequence = EncodeContinuation(tokenizer, questions[i].context, choice);
      if (!sequence.ok()) {
        return absl::InvalidArgumentError(absl::StrCat("question ", i + 1, ", choice '", choice,
                                                       "': ", sequence.status().message()));
      }
      sequences.push_back(*std::move(sequence));
    }
  }
  RK_ASSIGN_OR_RETURN(const auto scores, ScoreContinuations(model, sequences, kv_dtype, progress));
  std::vector<double> right, right_normalised;
  ChoicesResult result{.questions = static_cast<int64_t>(questions.size())};
  size_t next = 0;
  for (const ChoiceQuestion& question : questions) {
    size_t best = 0, best_normalised = 0;
    const ContinuationScore* score = &scores[next];
    const auto per_byte = [&](size_t c) {
      return score[c].log_likelihood / static_cast<double>(question.choices[c].size());
    };
    for (size_t c = 1; c < question.choices.size(); ++c) {
      if (score[c].log_likelihood > score[best].log_likelihood) best = c;
      if (per_byte(c) > per_byte(best_normalised)) best_normalised = c;
    }
    result.log_likelihoods.emplace_back();
    for (size_t c = 0; c < question.choices.size(); ++c) {
      result.log_likelihoods.back().push_back(score[c].log_likelihood);
    }
    const auto answer = static_cast<size_t>(question.answer);
    right.push_back(best == answer ? 1 : 0);
    right_normalised.push_back(best_normalised == answer ? 1 : 0);
    next += question.choices.size();
  }
  result.accuracy = MeanOf(right);
  result.normalised_accuracy = MeanOf(right_normalised);
  return result;
}

}  // namespace rankine
