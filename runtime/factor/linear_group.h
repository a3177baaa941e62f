// Linear layers that read the same input (q, k, v; gate, up; or one alone), loaded and ready to
// run: the packed cores and the plan. Products of the group that read the same activations stack
// into one; an input is read, transformed and quantised once.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/api/packed_core.h"
#include "kernels/api/products.h"
#include "runtime/device/device.h"
#include "runtime/factor/contraction_plan.h"
#include "runtime/factor/group_layout.h"
#include "runtime/factor/group_plan.h"
#include "runtime/factor/planner.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

struct LinearGroupOptions {
  // The dtype of all float cores in memory (S and biases stay f32).
  DType weight_dtype = DType::kBF16;
  // Of activations in products with float cores: kF32 or kBF16.
  DType compute = DType::kBF16;
  // Block-encoded cores read activations quantised to int8; otherwise as `compute` says.
  bool int8_blocks = true;
  // Memory beyond the stored cores that the plan of this group may spend.
  int64_t extra_weight_bytes = 0;
  PlanMode mode = PlanMode::kStable;
  // What plans are chosen by; another than the fixed one gives other plans on other machines.
  DeviceProfile profile = kPlanningProfile;
  // The plan, where a model has shared a budget among its groups; without forms it is chosen here.
  GroupPlan plan;
  // To measure candidates: PlannerOptions::orders.
  std::vector<std::string> orders;
};

// The input of a group, in the forms that it needs.
struct GroupInput {
  MatrixView dense;      // [num_tokens, in_features] of the group's compute(), pads zero
  MatrixView quantized;  // the same as i8 (kernels/api/quantized_rows.h)
};

class LinearGroup {
 public:
  // At most kMaxMatrices, all with the same in_features. Reads and packs in parallel on the
  // device's pool.
  static constexpr int kMaxMatrices = 8;
  // The plans that Load may choose from for the same arguments.
  static absl::StatusOr<std::vector<GroupPlan>> Plans(absl::Span<const FactoredMatrix> matrices,
                                                      const LinearGroupOptions& options);
  static absl::StatusOr<LinearGroup> Load(Device& device, absl::Span<const FactoredMatrix> matrices,
                                          const LinearGroupOptions& options,
                                          const TensorSource& source);

  // Of the group: the name of its first matrix.
  const std::string& name() const { return matrices_[0].name; }
  const std::vector<FactoredMatrix>& matrices() const { return matrices_; }
  // The candidates of all terms, and the choice for one token.
  const std::vector<MatrixChoice>& choices() const { return choices_; }
  // The plan that runs one token, and all of them but with PlanMode::kFastest.
  const ContractionPlan& plan() const { return plans_[0]; }
  const ContractionPlan& plan_of(int64_t num_tokens) const {
    return plans_[plan_of_bucket_[BucketOf(num_tokens)]];
  }
  size_t num_plans() const { return plans_.size(); }

  // Dtype of all float cores in memory.
  DType weight_dtype() const { return weight_dtype_; }
  // Forms of the input that Run reads, and the dtype of the dense one (kF32 or kBF16).
  bool needs_dense() const { return needs_dense_; }
  bool needs_quantized() const { return needs_quantized_; }
  DType compute() const { return plan().compute; }
  int64_t in_features() const { return plan().input_columns; }
  // First column of matrix i in the output, a multiple of 16, and the columns of all.
  int64_t output_column(int i) const { return output_columns_[i]; }
  int64_t output_columns() const { return plan().output_columns; }
  // Of the workspace that Run takes; at most that of a few hundred tokens.
  int64_t workspace_bytes(int64_t num_tokens) const;
  // The packed form of matrix i where it is one core without transforms (a tied embedding is
  // gathered from it); data null when it runs as factors.
  PackedCore dense_core(int i) const;

  // y = W x (+ bias) (+ y when accumulate), for inputs of num_tokens rows and y f32
  // [num_tokens, output_columns]. The workspace is aligned to 64 bytes. Allocates nothing.
  void Run(Device& device, const GroupInput& x, const MatrixView& y, void* workspace,
           bool accumulate) const {
    RunPlan(plan_of(y.rows), device, x, y, workspace, accumulate);
  }

  // The plan for the first `rank` slices of the sorted leg of every matrix that has one (all of
  // them where there are fewer): a cheaper approximation from the same memory. kInvalidArgument
  // when a matrix's plan has no such prefix, or not at that rank: a multiple of 16, and of 512
  // where the leg is summed with a block-encoded core.
  absl::StatusOr<ContractionPlan> PlanForRank(int64_t rank) const;
  // Run by a plan of this group.
  void RunPlan(const ContractionPlan& plan, Device& device, const GroupInput& x,
               const MatrixView& y, void* workspace, bool accumulate) const;

  int64_t weight_bytes() const;

 private:
  friend class LinearGroupLoader;

  std::vector<FactoredMatrix> matrices_;
  std::vector<MatrixChoice> choices_;
  std::vector<ContractionPlan> plans_;
  std::array<int, kNumBuckets> plan_of_bucket_{};
  bool needs_dense_ = false, needs_quantized_ = false;  // by any plan
  DType weight_dtype_ = DType::kF32;
  std::vector<int64_t> output_columns_;
  std::vector<DenseCore> dense_cores_;
  std::vector<Buffer> buffers_;
  std::vector<PackedCore> cores_;
  std::vector<const float*> vectors_;        // scales, biases, signs and blocks, padded to 16
  std::vector<const int32_t*> index_lists_;  // of permutations and gathers
};

}  // namespace rankine
