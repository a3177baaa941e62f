#include "tools/eval/code_tasks.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/eval/json_lines.h"
#include "tools/eval/sequence_scorer.h"

namespace rankine {

absl::StatusOr<std::vector<CodeTask>> ReadCodeTasks(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> lines, ReadJsonLines(path));
  std::vector<CodeTask> tasks;
  for (const JsonValue& line : lines) {
    CodeTask task;
    for (const auto& [key, out] :
         {std::pair{"task_id", &task.id}, std::pair{"prompt", &task.prompt},
          std::pair{"canonical_solution", &task.canonical_solution}, std::pair{"test", &task.test},
          std::pair{"entry_point", &task.entry_point}}) {
      RK_ASSIGN_OR_RETURN(const JsonValue value, line.Get(key));
      RK_ASSIGN_OR_RETURN(*out, value.String());
      if (out->empty()) return value.Error("is empty");
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

absl::StatusOr<SolutionLikelihood> ScoreSolutions(const Model& model, const Tokenizer& tokenizer,
                                                  const std::vector<CodeTask>& tasks,
                                                  DType kv_dtype, const ProgressFn& progress) {
  std::vector<Continuation> sequences;
  for (const CodeTask& task : tasks) {
    auto sequence = EncodeContinuation(tokenizer, task.prompt, task.canonical_solution);
    if (!sequence.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(task.id, ": ", sequence.status().message()));
    }
    sequences.push_back(*std::move(sequence));
  }
  RK_ASSIGN_OR_RETURN(const auto scores, ScoreContinuations(model, sequences, kv_dtype, progress));
  std::vector<double> losses, bits, greedy;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const double loss = -scores[i].log_likelihood;
    losses.push_back(loss / static_cast<double>(scores[i].tokens));
    bits.push_back(loss / std::log(2.0) / static_cast<double>(tasks[i].canonical_solution.size()));
    greedy.push_back(scores[i].is_greedy ? 1 : 0);
  }
  return SolutionLikelihood{.loss = MeanOf(losses),
                            .bits_per_byte = MeanOf(bits),
                            .greedy = MeanOf(greedy),
                            .tasks = static_cast<int64_t>(tasks.size())};
}

const std::vector<std::string>& CodeStopStrings() {
  static const std::vector<std::string> stops = {"\nclass", "\ndef", "\n#", "\nif", "\nprint"};
  return stops;
}

std::string TestProgram(const CodeTask& task, const std::string& completion) {
  return absl::StrCat(task.prompt, completion, "\n", task.test, "\ncheck(", task.entry_point,
                      ")\n");
}

absl::StatusOr<PassAt1> RunCompletions(const std::vector<CodeTask>& tasks,
                                       const std::vector<std::string>& completions,
                                       const CodeLimits& limits, const ProgressFn& progress) {
  PassAt1 result{.tasks = static_cast<int64_t>(tasks.size())};
  std::vector<double> passed;
  const ProgressReporter reporter(progress);
  for (size_t i = 0; i < tasks.size(); ++i) {
    RK_ASSIGN_OR_RETURN(const CodeOutcome outcome,
                        RunPython(TestProgram(tasks[i], completions[i]), limits));
    result.passed.push_back(outcome == CodeOutcome::kPassed);
    passed.push_back(result.passed.back() ? 1 : 0);
    if (outcome == CodeOutcome::kTimedOut) ++result.timed_out;
    RK_RETURN_IF_ERROR(
        reporter.Report(static_cast<double>(i + 1) / static_cast<double>(tasks.size()),
                        absl::StrCat("running task ", i + 1, " of ", tasks.size())));
  }
  result.pass = MeanOf(passed);
  return result;
}

}  // namespace rankine
