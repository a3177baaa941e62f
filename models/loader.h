// From a checkpoint on disk to a model in memory, whatever its architecture.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "runtime/factor/linear_group.h"
#include "runtime/model.h"

namespace rankine {

struct LoadOptions {
  // Of all float cores in memory, which matrices of GGUF blocks then become; absent: as stored.
  std::optional<DType> weight_dtype;
  // Of activations in products: kF32, kBF16, or kI8, which quantises those that block-encoded cores
  // read. Absent: kI8 for block-encoded cores, bf16 for bf16 cores, f32 for others.
  std::optional<DType> compute;
  // Memory that plans may spend on other forms of matrices than the stored ones: of the model,
  // spent where a byte saves most predicted time.
  int64_t extra_weight_bytes = 0;
  // kFastest: the fastest plan for each bucket of token counts, by `profile`.
  PlanMode plan = PlanMode::kStable;
  DeviceProfile profile = kPlanningProfile;
};

// A loaded model that can also be explained: its groups with their plans.
class FactoredModel : public Model {
 public:
  virtual const ModelConfig& config() const = 0;
  // Every LinearGroup in the order of execution.
  virtual std::vector<const LinearGroup*> groups() const = 0;
};

// kInvalidArgument lists the supported architectures when the checkpoint's is not among them.
absl::StatusOr<std::unique_ptr<FactoredModel>> LoadModel(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options = {});

// The dtype a core is held in, by the options and what is stored.
DType ResidentDType(const LoadOptions& options, const TensorInfo& tensor);
// Of activations that float cores read.
DType ComputeDType(const LoadOptions& options, DType weight_dtype);
// Whether block-encoded cores read int8.
bool QuantizesActivations(const LoadOptions& options);

}  // namespace rankine
