// A model on disk, opened for reading: its config, its tensors under Hugging Face names, its
// factorised linears and its tokenizer. Two implementations: a folder with safetensors, and a GGUF
// file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/config.h"
#include "models/tokenizer/gguf_vocabulary.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

struct TensorInfo {
  std::string name;         // Hugging Face name: "model.layers.0.self_attn.q_proj.weight"
  std::string stored_type;  // as stored: "F32", "F16", "BF16", "Q4_1", ...
  // The narrowest float type that holds every stored value exactly, or kF32 for block formats.
  DType natural_dtype = DType::kF32;
  std::vector<int64_t> shape;  // [rows, cols] or [n]
  int64_t stored_bytes = 0;
};

// Thread-safe: reads are pread calls on an open file, so a file that shrinks gives an error, not a
// signal.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  // Every tensor, in file order.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // Null when there is none of that name.
  virtual const TensorInfo* Find(std::string_view name) const = 0;

  // Decodes rows [row_begin, row_end) of a tensor (a vector counts as one row) to `dtype` (kF32,
  // kF16 or kBF16), rounding to nearest even, into `out` [row_end - row_begin, cols], contiguous.
  // kInvalidArgument names the tensor when a value read is not finite; kOutOfRange on bad rows.
  virtual absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                                DType dtype, void* out) const = 0;

  // Factored linears by name ("model.layers.0.mlp.up_proj"), from factorization.json; empty for a
  // dense model.
  virtual const std::vector<FactoredMatrix>& factored() const = 0;

  // Where the rest of the model is (tokenizer, chat template, license): its folder, empty for a
  // GGUF, which carries a vocabulary of its own. A folder need not have a tokenizer, nor a GGUF a
  // vocabulary (then null).
  virtual const std::string& folder() const = 0;
  virtual const GgufVocabulary* gguf_vocabulary() const = 0;
};

// `path` is a folder with config.json and safetensors, or a .gguf file. Everything about the file
// is checked here (bounds, overlaps, shapes against config, manifest); values are checked as they
// are read.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path);

// The two implementations behind OpenCheckpoint.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path);
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolder(const std::string& path);

}  // namespace rankine
