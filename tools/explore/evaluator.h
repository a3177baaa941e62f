// Measures models against one dense model, which stays loaded.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "models/loader.h"
#include "tools/compress/progress.h"
#include "tools/eval/pass_states.h"
#include "tools/explore/point.h"

namespace rankine {

struct SpeedOptions {
  int64_t prompt_tokens = 256;
  int64_t new_tokens = 32;
  int repeat = 5;  // 0: speed is not measured
};

struct EvaluationText {
  std::string name, path;
  int64_t windows = 0;  // at most so many of it, at even distances; 0 = all
};

struct EvaluatorOptions {
  Device* device = nullptr;
  LoadOptions load;
  // Of the KV cache of a model; both models of a comparison have that of the one compared.
  std::function<absl::StatusOr<DType>(const FactoredModel&)> kv_dtype;
  std::vector<EvaluationText> texts;  // the first leads
  int64_t context = 512;              // tokens of a window
  SpeedOptions speed;
};

class Evaluator {
 public:
  // Loads the dense model and reads the texts. The checkpoint and the device outlive it.
  // kInvalidArgument: an encoder, texts that are too short.
  static absl::StatusOr<std::unique_ptr<Evaluator>> Create(const Checkpoint& dense,
                                                           const EvaluatorOptions& options);

  // Of the tokens of all texts and how they are cut: part of every point's key. Names do not count.
  const std::string& texts_digest() const { return texts_digest_; }

  // Loads a model to measure as it would be served. kInvalidArgument: an encoder.
  absl::StatusOr<std::unique_ptr<FactoredModel>> Load(const Checkpoint& checkpoint) const;
  // The model that others are measured against; it may be measured itself.
  const FactoredModel& dense() const { return *dense_; }

  // Of each text, in their order. kCancelled: `progress` said so. The dense model's layers run once
  // for each text and cache dtype, as far as memory allows.
  absl::StatusOr<std::vector<TextResult>> Losses(const FactoredModel& model,
                                                 const ProgressFn& progress);
  // In turns with the dense model's.
  absl::StatusOr<SpeedResult> Speed(const FactoredModel& model) const;

 private:
  struct Text {
    std::string name;
    int64_t windows = 0;
    std::vector<int32_t> tokens;
    std::map<DType, PassStates> dense_states;  // by the dtype of the cache
  };
  Evaluator() = default;
  absl::StatusOr<TextResult> LossesOf(Text& text, const FactoredModel& model, DType kv_dtype,
                                      const ProgressFn& progress) const;

  EvaluatorOptions options_;
  std::unique_ptr<FactoredModel> dense_;
  std::vector<Text> texts_;
  std::string texts_digest_;
};

}  // namespace rankine
