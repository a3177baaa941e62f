// What a conversion writes: the tensors in the order of the model, and the manifest of what is not
// a plain tensor.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "models/checkpoint/convert.h"
#include "models/checkpoint/core_writer.h"
#include "models/layout.h"

namespace rankine {

struct ConvertJob {
  enum class Kind : uint8_t {
    kFloats,  // `source` as floats of specs[0].dtype
    kRaw,     // the bytes of `source`
    kCore,    // `core`
  };
  Kind kind;
  std::vector<TensorSpec> specs;
  const TensorInfo* source = nullptr;
  CoreJob core;
  // kCore: the matrix that the core belongs to, by index in matrices().
  size_t matrix = 0;
};

class ConvertPlan {
 public:
  // Both must outlive the plan.
  ConvertPlan(const Checkpoint& source, const ConvertOptions& options);
  absl::Status Make();

  const std::vector<ConvertJob>& jobs() const { return jobs_; }
  std::vector<FactoredMatrix>& matrices() { return matrices_; }
  // Lists what the map left over.
  void Report(ConvertReport* report) const;

 private:
  const EncodingTarget* TargetOf(const std::string& linear, bool is_embedding);
  absl::Status AddFloats(const std::string& name, DType dtype);
  absl::Status AddVector(const std::string& name) { return AddFloats(name, DType::kF32); }
  absl::Status AddRaw(const std::string& name);
  absl::Status AddLinear(const LinearSpec& linear, bool is_embedding);
  absl::Status AddMatrix(FactoredMatrix matrix, const EncodingTarget* target);
  absl::Status AddCore(const EncodingTarget* target, const FactoredMatrix& matrix, Core* core);

  const Checkpoint& source_;
  const ConvertOptions& options_;
  std::unordered_map<std::string, const FactoredMatrix*> factored_;
  // By the first tensor of what is read: a core that several matrices share is written once.
  std::map<std::string, Core> added_;
  std::vector<ConvertJob> jobs_;
  std::vector<FactoredMatrix> matrices_;
  std::vector<bool> rule_used_;
  std::vector<std::string> unmatched_;
};

}  // namespace rankine
