// A Llama GGUF file as a Checkpoint: Hugging Face names and row order on the outside, GGML blocks
// inside.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/checkpoint/block_formats.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/ggml_affine.h"
#include "models/checkpoint/gguf_config.h"
#include "models/checkpoint/gguf_header.h"
#include "models/checkpoint/gguf_names.h"
#include "models/checkpoint/gguf_rows.h"
#include "models/checkpoint/model_config.h"
#include "models/files/file.h"
#include "models/llama_layout.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

DType NaturalDType(GgmlType type) {
  if (type == GgmlType::kF16) return DType::kF16;
  if (type == GgmlType::kBF16) return DType::kBF16;
  return DType::kF32;
}

std::string ShapeName(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status TensorError(const std::string& name, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", QuoteName(name), ": ", what));
}

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(ReadOnlyFile file) : file_(std::move(file)) {}

  absl::Status Load();

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : &tensors_[it->second];
  }
  absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end, DType dtype,
                        void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override;
  absl::Status ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                       void* out) const override;
  const std::vector<FactoredMatrix>& factored() const override { return factored_; }
  const std::string& folder() const override { return folder_; }
  const GgufVocabulary* gguf_vocabulary() const override {
    return vocabulary_.has_value() ? &*vocabulary_ : nullptr;
  }

 private:
  absl::Status AddTensors(const std::vector<GgufTensor>& stored);
  absl::Status AddTensor(const GgufTensor& stored, const GgufTensorRole& role);
  absl::Status AddRopeFrequencies(const GgufTensor& stored);
  void List(std::string name, GgufRows rows);
  absl::StatusOr<const GgufRows*> RowsOf(const std::string& name) const;

  ReadOnlyFile file_;
  ModelConfig config_;
  std::optional<GgufVocabulary> vocabulary_;
  std::vector<TensorInfo> tensors_;
  std::vector<GgufRows> rows_;  // by index in tensors_
  std::map<std::string, size_t, std::less<>> by_name_;
  const std::vector<FactoredMatrix> factored_;  // a GGUF file is dense
  const std::string folder_;                    // and is no folder
};

absl::Status GgufCheckpoint::Load() {
  const absl::StatusOr<GgufHeader> header = ReadGgufHeader(file_);
  if (!header.ok()) return header.status();
  absl::StatusOr<std::optional<GgufVocabulary>> vocabulary = ReadGgufVocabulary(header->metadata);
  if (!vocabulary.ok()) return vocabulary.status();
  vocabulary_ = *std::move(vocabulary);
  const absl::StatusOr<ModelConfig> config = ReadGgufConfig(header->metadata, gguf_vocabulary());
  if (!config.ok()) return config.status();
  config_ = *config;
  if (auto valid = ValidateModelConfig(config_, file_.path()); !valid.ok()) return valid;
  return AddTensors(header->tensors);
}

absl::Status GgufCheckpoint::AddTensors(const std::vector<GgufTensor>& stored) {
  std::set<std::string_view> present;
  std::vector<std::optional<GgufTensorRole>> roles;
  config_.tie_embeddings = true;
  for (const GgufTensor& tensor : stored) {
    present.insert(tensor.name);
    roles.push_back(FindGgufRole(tensor.name));
    if (!roles.back().has_value() && tensor.name != kRopeFreqsTensor) {
      return TensorError(tensor.name,
                         "is no tensor of the llama architecture, so the model is not supported");
    }
    if (tensor.name == "output.weight") config_.tie_embeddings = false;
    config_.attention_bias |= roles.back().has_value() && roles.back()->is_attention_bias;
    config_.mlp_bias |= roles.back().has_value() && roles.back()->is_mlp_bias;
  }
  // Bounds the list of required names, which is made from a number in the file.
  if (config_.num_layers > static_cast<int64_t>(stored.size())) {
    return absl::InvalidArgumentError(absl::StrCat("key 'llama.block_count' is ",
                                                   config_.num_layers, ", but there are only ",
                                                   stored.size(), " tensors"));
  }
  for (const std::string& name : RequiredGgufNames(config_)) {
    if (!present.contains(name)) return TensorError(name, "is missing");
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    const absl::Status status =
        roles[i].has_value() ? AddTensor(stored[i], *roles[i]) : AddRopeFrequencies(stored[i]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GgufCheckpoint::AddTensor(const GgufTensor& stored, const GgufTensorRole& role) {
  if (role.layer >= config_.num_layers) {
    return TensorError(stored.name,
                       absl::StrCat("belongs to no layer: the model has ", config_.num_layers));
  }
  const std::vector<int64_t> expected = ExpectedShape(role, config_);
  if (stored.shape != expected) {
    return TensorError(stored.name,
                       absl::StrCat("has shape ", ShapeName(stored.shape),
                                    ", but the metadata demand ", ShapeName(expected)));
  }
  GgufRows rows{.tensor = stored};
  if (role.interleaved_heads) rows.interleaved_head_dim = config_.head_dim;
  List(role.hf_name, std::move(rows));
  return absl::OkStatus();
}

void GgufCheckpoint::List(std::string name, GgufRows rows) {
  const GgufTensor& stored = rows.tensor;
  by_name_.emplace(name, tensors_.size());
  tensors_.push_back(
      {.name = std::move(name),
       .stored_type = std::string(GetBlockFormat(stored.type).name),
       .natural_dtype = NaturalDType(stored.type),
       .natural_encoding = stored.shape.size() == 2 ? AffineEncoding(stored.type) : std::nullopt,
       .shape = stored.shape,
       .stored_bytes = stored.bytes});
  rows_.push_back(std::move(rows));
}

absl::Status GgufCheckpoint::AddRopeFrequencies(const GgufTensor& stored) {
  const std::vector<int64_t> expected = {config_.head_dim / 2};
  if (stored.shape != expected) {
    return TensorError(stored.name, absl::StrCat("has shape ", ShapeName(stored.shape),
                                                 ", expected ", ShapeName(expected)));
  }
  std::vector<float> divisors(config_.head_dim / 2);
  const absl::Status status = ReadGgufRows(file_, GgufRows{.tensor = stored}, stored.name, {0, 1},
                                           DType::kF32, divisors.data());
  if (!status.ok()) return status;
  for (const float divisor : divisors) {
    if (!(divisor > 0)) return TensorError(stored.name, "has a divisor that is not positive");
  }
  config_.rope.frequency_divisors = std::move(divisors);
  // Also a tensor, as in a folder: what is made from this file must carry it over.
  List(kRopeFreqsTensor, GgufRows{.tensor = stored});
  return absl::OkStatus();
}

absl::Status GgufCheckpoint::ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                                      DType dtype, void* out) const {
  RK_ASSIGN_OR_RETURN(const GgufRows* rows, RowsOf(tensor.name));
  return ReadGgufRows(file_, *rows, tensor.name, {row_begin, row_end}, dtype, out);
}

absl::Status GgufCheckpoint::ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                           int64_t cols, BlockRowsBuffer* out) const {
  const std::string& name = core.TensorOf("blocks");
  RK_ASSIGN_OR_RETURN(const GgufRows* rows, RowsOf(name));
  if (AffineEncoding(rows->tensor.type) != core.encoding || rows->tensor.shape.back() != cols) {
    return absl::InvalidArgumentError(absl::StrCat(
        file_.path(), ": tensor ", QuoteName(name), " is ",
        std::string(GetBlockFormat(rows->tensor.type).name), " of ", rows->tensor.shape.back(),
        " columns; core ", core.name, " asks for another encoding, or for ", cols, " columns"));
  }
  return ReadGgufBlockRows(file_, *rows, name, {row_begin, row_end}, out);
}

absl::Status GgufCheckpoint::ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                                     void* out) const {
  RK_ASSIGN_OR_RETURN(const GgufRows* rows, RowsOf(tensor.name));
  const int64_t bytes = rows->tensor.bytes;
  if (begin < 0 || size < 0 || begin > bytes || size > bytes - begin) {
    return absl::OutOfRangeError(absl::StrCat(file_.path(), ": tensor ", QuoteName(tensor.name),
                                              " has ", bytes, " bytes; ", size, " at ", begin,
                                              " were asked for"));
  }
  return file_.ReadAt(rows->tensor.offset + begin, size, out);
}

absl::StatusOr<const GgufRows*> GgufCheckpoint::RowsOf(const std::string& name) const {
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) {
    return absl::NotFoundError(
        absl::StrCat(file_.path(), ": there is no tensor ", QuoteName(name)));
  }
  return &rows_[it->second];
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path) {
  absl::StatusOr<ReadOnlyFile> file = ReadOnlyFile::Open(path);
  if (!file.ok()) return file.status();
  auto checkpoint = std::make_unique<GgufCheckpoint>(*std::move(file));
  const absl::Status status = checkpoint->Load();
  if (status.ok()) return checkpoint;
  if (absl::StrContains(status.message(), path)) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace rankine
