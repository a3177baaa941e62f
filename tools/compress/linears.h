// Which linear layers of a model may be factored: the matrices of its numbered layers. The
// embedding and the output head are not among them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/linalg.h"

namespace rankine {

struct LinearInfo {
  std::string name;  // "model.layers.3.mlp.up_proj"
  int64_t layer = 0;
  // Of the checkpoint, one of the two: a tensor, or a manifest's matrix of one core.
  const TensorInfo* weight = nullptr;
  const FactoredMatrix* matrix = nullptr;
  std::string bias_tensor;  // empty = none

  int64_t out_features() const {
    return matrix != nullptr ? matrix->out_features : weight->shape[0];
  }
  int64_t in_features() const { return matrix != nullptr ? matrix->in_features : weight->shape[1]; }
};

// The first part of a linear's name that is a number and has parts around it ("model.layers.3.mlp",
// "encoder.layer.3.output"); absent for embeddings and heads.
std::optional<int64_t> LayerOf(std::string_view name);
// The same name with that number in its place; a name without one as it is.
std::string InLayer(const std::string& name, int64_t layer);

// The dense linears, block-encoded ones too, whose full name `only` matches somewhere and `skip`
// nowhere (ECMAScript regular expressions; empty = all, none), by layer, then by name.
// kInvalidArgument: a bad expression, or nothing selected. kFailedPrecondition: a selected linear
// is factored already, or has transforms.
absl::StatusOr<std::vector<LinearInfo>> SelectLinears(const Checkpoint& checkpoint,
                                                      const std::string& only,
                                                      const std::string& skip);

// Bits of the linear in a model where it is copied: the weight as stored, or in block_dtype where
// the source stores it in GGUF's blocks. The bias is not counted.
int64_t DenseBits(const LinearInfo& linear, DType block_dtype);

// The bias [out_features], or empty.
absl::StatusOr<std::vector<double>> ReadBias(const Checkpoint& checkpoint,
                                             const LinearInfo& linear);

// The weight in f64, decoded. kInvalidArgument names it when a value is not finite.
absl::StatusOr<Matrix64> ReadWeight(const Checkpoint& checkpoint, const LinearInfo& linear);

}  // namespace rankine
