// Code tasks in the format of HumanEval (arXiv 2107.03374).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/model.h"
#include "tools/compress/progress.h"
#include "tools/eval/code_runner.h"
#include "tools/eval/estimate.h"

namespace rankine {

struct CodeTask {
  std::string id, prompt, canonical_solution, test, entry_point;
};

// A JSON object a line with the strings task_id, prompt, canonical_solution, test and entry_point;
// others are ignored. kInvalidArgument names file, line and key.
absl::StatusOr<std::vector<CodeTask>> ReadCodeTasks(const std::string& path);

// Canonical solutions by likelihood, given their prompts. Tasks are the samples of the errors.
struct SolutionLikelihood {
  Estimate loss;           // nats per token of a solution
  Estimate bits_per_byte;  // of a solution
  Estimate greedy;         // share of solutions that greedy decoding would write token by token
  int64_t tasks = 0;
};
absl::StatusOr<SolutionLikelihood> ScoreSolutions(const Model& model, const Tokenizer& tokenizer,
                                                  const std::vector<CodeTask>& tasks,
                                                  DType kv_dtype, const ProgressFn& progress = {});

// Where a completion ends: a new statement at the top level, as in the paper.
const std::vector<std::string>& CodeStopStrings();

// The program that tells whether a completion solves its task: it ends normally when it does.
std::string TestProgram(const CodeTask& task, const std::string& completion);

struct PassAt1 {
  Estimate pass;  // share of tasks whose one completion passes its test
  int64_t tasks = 0, timed_out = 0;
  std::vector<bool> passed;
};
// Runs one completion of each task. Errors of the runner itself end it.
absl::StatusOr<PassAt1> RunCompletions(const std::vector<CodeTask>& tasks,
                                       const std::vector<std::string>& completions,
                                       const CodeLimits& limits, const ProgressFn& progress = {});

}  // namespace rankine
