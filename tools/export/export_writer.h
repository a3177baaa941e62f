// Writing the folder of an export: declared tensors one after another, config.json, companions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/convert.h"
#include "models/checkpoint/safetensors_writer.h"

namespace rankine {

// Appends the next bytes of a tensor.
using AppendBytes = std::function<absl::Status(const void* data, int64_t bytes)>;

struct ExportTensor {
  TensorSpec spec;
  std::function<absl::Status(const AppendBytes&)> write;
};

// A tensor of `source` as `dtype`, which for integers is its own; read in runs of rows.
ExportTensor CopyOf(const Checkpoint& source, const TensorInfo& tensor, const std::string& name,
                    DType dtype);

// The folder `out`, whole or not at all: `config` as config.json with `dtype`, the tensors, and
// what goes with a model (tokenizer, licence). `bytes` (may be null) gets the size of the tensors.
absl::Status WriteExport(const Checkpoint& source, const std::string& out,
                         const ModelConfig& config, DType dtype,
                         const std::vector<ExportTensor>& tensors, const ConvertProgress& progress,
                         int64_t* bytes);

}  // namespace rankine
