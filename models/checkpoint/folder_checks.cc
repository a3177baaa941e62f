#include "models/checkpoint/folder_checks.h"

#include <unordered_map>
#include <unordered_set>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/safetensors.h"
#include "models/layout.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

class Checker {
 public:
  Checker(const ModelConfig& config, const TensorLookup& lookup,
          const std::vector<FactoredMatrix>& factored, const std::string& source)
      : config_(config), lookup_(lookup), source_(source) {
    for (const FactoredMatrix& matrix : factored) factored_.emplace(matrix.name, &matrix);
  }

  absl::Status Check(const std::vector<TensorInfo>& tensors) {
    const ModelLayout layout = LayoutOf(config_);
    // An embedding may be block-encoded, and is then a matrix of the manifest too.
    for (const LinearSpec& table : layout.embeddings) RK_RETURN_IF_ERROR(CheckLinear(table));
    for (const LinearSpec& linear : layout.linears) RK_RETURN_IF_ERROR(CheckLinear(linear));
    for (const VectorSpec& vector : layout.vectors) {
      if (vector.optional && lookup_(vector.name) == nullptr) continue;
      RK_RETURN_IF_ERROR(Require(vector.name, {vector.size}));
    }
    for (const auto& [name, matrix] : factored_) {
      if (!used_matrices_.contains(name)) {
        return Error(absl::StrCat("factorization.json has the matrix ", absl::CHexEscape(name),
                                  ", but the model has no such linear layer"));
      }
    }
    for (const TensorInfo& tensor : tensors) {
      if (!expected_.contains(tensor.name) && !IsHarmless(tensor.name)) {
        return Error(absl::StrCat("unexpected tensor ", absl::CHexEscape(tensor.name),
                                  ": no part of a model of architecture ", config_.architecture,
                                  " with this config.json"));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(source_, ": ", what));
  }

  absl::Status Require(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorInfo* tensor = lookup_(name);
    if (tensor == nullptr) return Error(absl::StrCat("tensor ", name, " is missing"));
    if (tensor->shape != shape) {
      return Error(absl::StrCat("tensor ", name, " has shape ", ShapeText(tensor->shape),
                                ", config.json asks for ", ShapeText(shape)));
    }
    if (!IsFloat(tensor->natural_dtype) ||
        tensor->stored_type != SafetensorsDTypeName(tensor->natural_dtype)) {
      return Error(absl::StrCat("tensor ", name, " is ", tensor->stored_type,
                                "; weights must be F32, F16 or BF16"));
    }
    expected_.insert(name);
    return absl::OkStatus();
  }

  absl::Status CheckLinear(const LinearSpec& linear) {
    const auto found = factored_.find(linear.name);
    const bool dense = lookup_(linear.weight()) != nullptr;
    if (found == factored_.end()) {
      if (!dense && linear.optional) return absl::OkStatus();
      if (!dense) {
        return Error(absl::StrCat("tensor ", linear.weight(),
                                  " is missing, and factorization.json has no matrix ",
                                  linear.name));
      }
      RK_RETURN_IF_ERROR(Require(linear.weight(), {linear.out, linear.in}));
      return linear.has_bias ? Require(linear.bias(), {linear.out}) : absl::OkStatus();
    }
    return CheckFactored(linear, *found->second, dense);
  }

  absl::Status CheckFactored(const LinearSpec& linear, const FactoredMatrix& matrix, bool dense) {
    used_matrices_.insert(linear.name);
    AddTensorsOf(matrix);
    if (dense && !expected_.contains(linear.weight())) {
      return Error(absl::StrCat(linear.name, " is there twice: as tensor ", linear.weight(),
                                " and in factorization.json; remove one"));
    }
    if (matrix.out_features != linear.out || matrix.in_features != linear.in) {
      return Error(absl::StrCat("factorization.json: matrix ", linear.name, " is ",
                                ShapeText({matrix.out_features, matrix.in_features}),
                                ", config.json asks for ", ShapeText({linear.out, linear.in})));
    }
    if (linear.has_bias && matrix.bias_tensor.empty()) {
      return Error(absl::StrCat("factorization.json: matrix ", linear.name,
                                " has no bias, config.json asks for one"));
    }
    return absl::OkStatus();
  }

  void AddTensorsOf(const FactoredMatrix& matrix) {
    for (const Term& term : matrix.terms) {
      for (const Core& core : term.cores) {
        for (const CoreTensor& tensor : core.tensors) expected_.insert(tensor.tensor);
      }
    }
    for (const auto* transforms : {&matrix.input_transforms, &matrix.output_transforms}) {
      for (const Transform& transform : *transforms) {
        expected_.insert(transform.tensor);
        expected_.insert(transform.block_tensor);
      }
    }
    expected_.insert(matrix.bias_tensor);
  }

  // Buffers that old checkpoints carry, and the copy of the embedding that some tied ones do.
  bool IsHarmless(const std::string& name) const {
    if (config_.tie_embeddings && name == "lm_head.weight") return true;
    return absl::EndsWith(name, "rotary_emb.inv_freq");
  }

  const ModelConfig& config_;
  const TensorLookup& lookup_;
  const std::string& source_;
  std::unordered_map<std::string, const FactoredMatrix*> factored_;
  std::unordered_set<std::string> expected_;
  std::unordered_set<std::string> used_matrices_;
};

}  // namespace

absl::Status CheckModelTensors(const ModelConfig& config, const std::vector<TensorInfo>& tensors,
                               const TensorLookup& lookup,
                               const std::vector<FactoredMatrix>& factored,
                               const std::string& source) {
  return Checker(config, lookup, factored, source).Check(tensors);
}

}  // namespace rankine
