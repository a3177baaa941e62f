// What factoring the linears of one layer gives, in memory and as a file of the working folder.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/factor/factored_matrix.h"
#include "tools/compress/factorize.h"
#include "tools/compress/stored_tensor.h"

namespace rankine {

struct LayerPart {
  std::vector<LayerReport> reports;      // every selected linear of the layer
  std::vector<FactoredMatrix> matrices;  // those that are factored, in the same order
  std::vector<StoredTensor> tensors;     // of the matrices
};

absl::Status WritePart(const std::string& path, const LayerPart& part);
// kNotFound, kDataLoss (damaged) name the file.
absl::StatusOr<LayerPart> ReadPart(const std::string& path);

}  // namespace rankine
