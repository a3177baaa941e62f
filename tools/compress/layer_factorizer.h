// One layer's linears through a method: weights read, factored in parallel, judged by what is
// stored.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/layer_part.h"
#include "tools/compress/linears.h"
#include "tools/compress/methods/method.h"
#include "tools/compress/statistics.h"

namespace rankine {

// What does not change between layers.
struct FactorJob {
  const Checkpoint* checkpoint = nullptr;
  const Method* method = nullptr;
  const MethodSettings* settings = nullptr;
  Encoding encoding;        // of the factors
  DType block_dtype;        // of dense matrices that the source stores in blocks
  double keep = 0;          // for the provenance; 0 = the budget was another
  std::string text_digest;  // of the calibration; empty = none
  int64_t text_tokens = 0;
  int threads = 0;  // 0 = the cores this process may run on
};

// What is known about one layer. Linears without a budget stay dense.
struct LayerInput {
  std::vector<const LinearInfo*> linears;
  std::map<std::string, Budget> budgets;
  const LayerStatistics* statistics = nullptr;         // null = no calibration
  const LayerStatistics* prefix_statistics = nullptr;  // of the factored prefix; null = none
  const std::map<std::string, std::vector<double>>* fisher = nullptr;  // null = none
};

// A layer in parts that may run at once: the linears that the method factors together, the largest
// first.
class LayerFactorization {
 public:
  // Both outlive it.
  LayerFactorization(const FactorJob& job, const LayerInput& input);
  ~LayerFactorization();

  size_t num_parts() const;
  // Thread-safe; each part once.
  void RunPart(size_t part);
  // When all parts have run; as FactorLayer.
  absl::StatusOr<LayerPart> Collect();

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

// Reports of every linear in order; matrices and tensors of those that are factored. The result
// does not depend on the number of threads. Errors name the linear.
absl::StatusOr<LayerPart> FactorLayer(const FactorJob& job, const LayerInput& input);

// sqrt of the share of E|y|^2 that replacing W by W - delta and b by b + bias_change costs, over
// the inputs of the moments. `bias` may be empty.
double WeightedError(const Matrix64& w, const Matrix64& delta, const std::vector<double>& bias,
                     const std::vector<double>& bias_change, const Moments& moments);

}  // namespace rankine
