// Multiple choice by likelihood.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/model.h"
#include "tools/compress/progress.h"
#include "tools/eval/estimate.h"

namespace rankine {

struct ChoiceQuestion {
  std::string context;
  std::vector<std::string>
      choices;         // each follows the context as it is, its leading space included
  int64_t answer = 0;  // index into choices
};

// A line for each question: {"context": "...", "choices": ["...", "..."], "answer": 0}; "id" is
// allowed and ignored, empty lines are skipped. kInvalidArgument names file, line and key.
absl::StatusOr<std::vector<ChoiceQuestion>> ReadChoices(const std::string& path);

struct ChoicesResult {
  Estimate accuracy;             // the most likely choice is the answer
  Estimate normalised_accuracy;  // likelihood per byte of the choice
  int64_t questions = 0;
  std::vector<std::vector<double>> log_likelihoods;  // [question][choice], nats
};

// kInvalidArgument names the question without tokens or beyond the model's context.
absl::StatusOr<ChoicesResult> EvaluateChoices(const Model& model, const Tokenizer& tokenizer,
                                              const std::vector<ChoiceQuestion>& questions,
                                              DType kv_dtype, const ProgressFn& progress = {});

}  // namespace rankine
