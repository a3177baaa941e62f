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
#include "models/checkpoint/open_options.h"
#include "models/config.h"
#include "models/tokenizer/gguf_vocabulary.h"
#include "runtime/factor/factored_matrix.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

struct TensorInfo {
  std::string name;         // Hugging Face name: "model.layers.0.self_attn.q_proj.weight"
  std::string stored_type;  // as stored: "F32", "F16", "BF16", "Q4_1", ...
  // The narrowest float type that holds every stored value exactly, or kF32 for block formats.
  DType natural_dtype = DType::kF32;
  // Of a GGUF matrix of blocks: the member of the affine family that it is, exactly.
  std::optional<Encoding> natural_encoding;
  std::vector<int64_t> shape;  // [rows, cols] or [n]
  int64_t stored_bytes = 0;
};

// Thread-safe: reads are pread calls on an open file, so a file that shrinks gives an error, not a
// signal.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  // Every tensor of the model, in file order.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // Names, as stored, of tensors that are no part of the model (a training head of an encoder).
  virtual const std::vector<std::string>& unused_tensors() const {
    static const std::vector<std::string> none;
    return none;
  }
  // Null when there is none of that name.
  virtual const TensorInfo* Find(std::string_view name) const = 0;

  // Decodes rows [row_begin, row_end) of a tensor (a vector counts as one row) to `dtype` (kF32,
  // kF16 or kBF16), rounding to nearest even, into `out` [row_end - row_begin, cols], contiguous.
  // kInvalidArgument names the tensor when a value read is not finite; kOutOfRange on bad rows.
  // Integer tensors of a folder can be read as they are (kI8, kI32), and kI8 as floats: signs and
  // indices of transforms.
  virtual absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                                DType dtype, void* out) const = 0;

  // Rows [row_begin, row_end) of a block-encoded core, as stored: its last leg makes the columns,
  // which must be `cols`, all others the rows. The core names its tensors by role, as in
  // factorization.json; of a GGUF file the only role is "blocks" (BlocksMatrix below).
  // kInvalidArgument names the tensor: scales that are not finite, another shape or dtype.
  virtual absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                     int64_t cols, BlockRowsBuffer* out) const = 0;

  // `size` bytes from byte `begin` on of a tensor of any type, exactly as they are in the file.
  virtual absl::Status ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                               void* out) const = 0;

  // Factored linears by name ("model.layers.0.mlp.up_proj"), from factorization.json or the names
  // that other programs give to factors; empty for a dense model.
  virtual const std::vector<FactoredMatrix>& factored() const = 0;

  // Where the rest of the model is (tokenizer, chat template, license): its folder, empty for a
  // GGUF, which carries a vocabulary of its own. A folder need not have a tokenizer, nor a GGUF a
  // vocabulary (then null).
  virtual const std::string& folder() const = 0;
  virtual const GgufVocabulary* gguf_vocabulary() const = 0;
};

// A GGUF matrix of blocks as a linear: one dense core in the tensor's natural_encoding, which must
// be there.
FactoredMatrix BlocksMatrix(std::string name, const TensorInfo& tensor,
                            std::string bias_tensor = "");

// `path` is a folder with config.json and safetensors, or a .gguf file. Everything about the file
// is checked here (bounds, overlaps, shapes against config, manifest); values are checked as they
// are read.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path,
                                                           const OpenOptions& options = {});

// The two implementations behind OpenCheckpoint.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path);
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolder(const std::string& path,
                                                       const OpenOptions& options = {});

}  // namespace rankine
