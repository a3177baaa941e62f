// Linear layers that read the same input (q, k, v; gate, up; or one alone), loaded and ready to
// run: the packed cores and the plan. The V factors of the group stack into one product; an input
// is read once.
#pragma once

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
#include "runtime/factor/planner.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

struct LinearGroupOptions {
  // The dtype of all float cores in memory (S and biases stay f32).
  DType weight_dtype = DType::kBF16;
  DType compute = DType::kBF16;  // of activations in products: kF32 or kBF16
  int64_t extra_weight_bytes = 0;
};

class LinearGroup {
 public:
  // At most kMaxMatrices, all with the same in_features. Reads and packs in parallel on the
  // device's pool.
  static constexpr int kMaxMatrices = 8;
  static absl::StatusOr<LinearGroup> Load(Device& device, absl::Span<const FactoredMatrix> matrices,
                                          const LinearGroupOptions& options,
                                          const TensorSource& source);

  // Of the group: the name of its first matrix.
  const std::string& name() const { return matrices_[0].name; }
  const std::vector<FactoredMatrix>& matrices() const { return matrices_; }
  const std::vector<MatrixChoice>& choices() const { return choices_; }
  const ContractionPlan& plan() const { return plan_; }

  // Dtype of all float cores in memory.
  DType weight_dtype() const { return cores_[0].dtype; }
  // Dtype that inputs of Run must have.
  DType compute() const { return plan_.compute; }
  int64_t in_features() const { return plan_.input_columns; }
  // First column of matrix i in the output, a multiple of 16, and the columns of all.
  int64_t output_column(int i) const { return output_columns_[i]; }
  int64_t output_columns() const { return plan_.output_columns; }
  int64_t intermediate_columns() const { return plan_.intermediate_columns; }
  // The packed dense form of matrix i (a tied embedding is gathered from it); null when it runs as
  // factors.
  const PackedCore* dense_core(int i) const;

  // y = W x (+ bias) (+ y when accumulate), for x [num_tokens, in_features] of dtype compute() and
  // y f32 [num_tokens, output_columns]. `intermediate` has num_tokens x intermediate_columns
  // elements of compute().
  void Run(Device& device, const MatrixView& x, const MatrixView& y, void* intermediate,
           bool accumulate) const;

  int64_t weight_bytes() const;

 private:
  friend class LinearGroupLoader;
  std::vector<FactoredMatrix> matrices_;
  std::vector<MatrixChoice> choices_;
  ContractionPlan plan_;
  std::vector<int64_t> output_columns_;
  std::vector<int> dense_cores_;  // index into cores_, -1 = factors
  std::vector<Buffer> buffers_;
  std::vector<PackedCore> cores_;
  std::vector<const float*> vectors_;  // scales and biases, padded to 16
};

}  // namespace rankine
