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

struct EvaluatorOptions {
  Device* device = nullptr;
  LoadOptions load;
  // Of the KV cache of a model; both models of a comparison have that of the one compared.
  std::function<absl::StatusOr<DType>(const FactoredModel&)> kv_dtype;
  std::vector<std::pair<std::string, std::string>> texts;  // name and file; the first leads
  int64_t context = 512;                                   // tokens of a window
  int64_t windows = 0;  // at most so many of each text, at even distances; 0 = all
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

  // Fills texts and speed of `result` from the model `checkpoint`. kCancelled: `progress` said so.
  // The dense model's layers run once for each text and cache dtype, as far as memory allows.
  absl::Status Measure(const Checkpoint& checkpoint, const ProgressFn& progress,
                       PointResult* result);
  // The same of the dense model itself.
  absl::Status MeasureDense(const ProgressFn& progress, PointResult* result) const;

 private:
  struct Text {
    std::string name;
    std::vector<int32_t> tokens;
    std::map<DType, PassStates> dense_states;  // by the dtype of the cache
  };
  Evaluator() = default;
  absl::StatusOr<SpeedResult> SpeedOf(const FactoredModel& model, DType kv_dtype) const;

  EvaluatorOptions options_;
  std::unique_ptr<FactoredModel> dense_;
  std::vector<Text> texts_;
  std::string texts_digest_;
};

}  // namespace rankine
