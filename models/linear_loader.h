// From a checkpoint's names to vectors and LinearGroups in memory: what every architecture's loader
// is made of.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/checkpoint_source.h"
#include "models/loader.h"
#include "runtime/device/device.h"

namespace rankine {

// All three must outlive it. Errors name the tensor.
class LinearLoader {
 public:
  LinearLoader(const Checkpoint& checkpoint, Device& device, const LoadOptions& options)
      : checkpoint_(checkpoint), device_(device), options_(options), source_(checkpoint) {}

  // Loads what `load` asks for by the functions below, the same in the same order each time it is
  // called: where groups share a budget or a choice of plans it is called twice, first to list the
  // plans that each may have, when the functions leave their results empty.
  absl::Status Load(absl::FunctionRef<absl::Status()> load);

  // f32 [size], padded to kColumnPad.
  absl::StatusOr<Buffer> Vector(const std::string& name, int64_t size);
  // Linears {name, out_features} that read the same input: factored where the checkpoint says so.
  absl::Status Group(const std::vector<std::pair<std::string, int64_t>>& linears, int64_t in,
                     LinearGroup* group);
  // A group of one matrix that rows can be gathered from. kUnimplemented when it is factored.
  absl::Status Table(const std::string& name, int64_t rows, int64_t cols, LinearGroup* group);

 private:
  absl::StatusOr<FactoredMatrix> Matrix(const std::string& name, int64_t out, int64_t in);
  LinearGroupOptions GroupOptions(const std::vector<FactoredMatrix>& matrices) const;

  const Checkpoint& checkpoint_;
  Device& device_;
  const LoadOptions& options_;
  CheckpointSource source_;
  bool planning_ = false;
  std::vector<std::vector<GroupPlan>> possible_plans_;
  std::vector<GroupPlan> plans_;  // chosen, in the order of the groups; empty: each for itself
  size_t next_plan_ = 0;
};

}  // namespace rankine
