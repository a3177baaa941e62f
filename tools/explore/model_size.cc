#include "tools/explore/model_size.h"

#include <set>
#include <string>

#include "absl/strings/strip.h"
#include "tools/compress/linears.h"

namespace rankine {
namespace {

// Adds tensors, each once.
class TensorSum {
 public:
  explicit TensorSum(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void Add(const std::string& name) {
    const TensorInfo* tensor = checkpoint_.Find(name);
    if (tensor != nullptr && counted_.insert(name).second) bytes_ += tensor->stored_bytes;
  }
  void Add(const FactoredMatrix& matrix) {
    for (const Term& term : matrix.terms) {
      for (const Core& core : term.cores) {
        for (const CoreTensor& tensor : core.tensors) Add(tensor.tensor);
      }
    }
    for (const auto* transforms : {&matrix.input_transforms, &matrix.output_transforms}) {
      for (const Transform& transform : *transforms) {
        Add(transform.tensor);
        Add(transform.block_tensor);
      }
    }
    Add(matrix.bias_tensor);
  }
  int64_t bytes() const { return bytes_; }

 private:
  const Checkpoint& checkpoint_;
  std::set<std::string> counted_;
  int64_t bytes_ = 0;
};

}  // namespace

ModelSize SizeOfModel(const Checkpoint& checkpoint) {
  ModelSize size;
  TensorSum sum(checkpoint);
  std::set<std::string> factored;
  for (const FactoredMatrix& matrix : checkpoint.factored()) {
    factored.insert(matrix.name);
    if (!LayerOf(matrix.name)) continue;
    size.linear_weights += matrix.out_features * matrix.in_features;
    sum.Add(matrix);
  }
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    size.bytes += tensor.stored_bytes;
    absl::string_view name = tensor.name;
    if (tensor.shape.size() != 2 || !absl::ConsumeSuffix(&name, ".weight")) continue;
    const std::string linear(name);
    if (!LayerOf(linear) || factored.count(linear) != 0) continue;
    size.linear_weights += tensor.shape[0] * tensor.shape[1];
    sum.Add(tensor.name);
    sum.Add(linear + ".bias");
  }
  size.linear_bytes = sum.bytes();
  return size;
}

}  // namespace rankine
