// Everything before the tensor data of a GGUF file: metadata and the table of tensors. Format: the
// GGUF specification of the ggml project, versions 2 and 3, little-endian, one file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/block_formats.h"
#include "models/checkpoint/gguf_metadata.h"
#include "models/files/file.h"

namespace rankine {

struct GgufTensor {
  std::string name;  // as in the file: "blk.0.attn_q.weight"
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t>
      shape;           // outermost first (the file has it innermost first): [rows, cols] or [n]
  int64_t offset = 0;  // from the start of the file
  int64_t bytes = 0;
};

struct GgufHeader {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in file order
};

// Checked: every count, size and offset against the file, names unique, types supported, tensors
// without overlap or hole. Memory is bounded by a small multiple of the file's size.
// kInvalidArgument for a malformed file, kUnimplemented for a well-formed one that is not
// supported; messages name the key or tensor.
absl::StatusOr<GgufHeader> ReadGgufHeader(const ReadOnlyFile& file);

}  // namespace rankine
