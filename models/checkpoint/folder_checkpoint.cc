// OpenFolder: a Hugging Face style folder with config.json, safetensors and, for factorised models,
// factorization.json.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/architecture.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/folder_block_rows.h"
#include "models/checkpoint/folder_checks.h"
#include "models/checkpoint/foreign_factors.h"
#include "models/checkpoint/json.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/model_config.h"
#include "models/checkpoint/safetensors.h"
#include "models/checkpoint/validate.h"
#include "models/files/text_file.h"
#include "models/llama_layout.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Bytes read at a time where the type changes on the way: enough to make a system call cheap, small
// enough to stay in L2.
constexpr int64_t kStagingBytes = 256 << 10;

class FolderCheckpoint : public Checkpoint {
 public:
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path,
                                                          const OpenOptions& options) {
    auto checkpoint = std::make_unique<FolderCheckpoint>();
    RK_RETURN_IF_ERROR(checkpoint->Load(path, options));
    return checkpoint;
  }

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const std::vector<std::string>& unused_tensors() const override { return unused_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }
  absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end, DType dtype,
                        void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override {
    return ReadFolderBlockRows(*files_, path_, core, row_begin, row_end, cols, out);
  }
  absl::Status ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                       void* out) const override;
  const std::vector<FactoredMatrix>& factored() const override { return factored_; }
  const std::string& folder() const override { return path_; }
  const GgufVocabulary* gguf_vocabulary() const override { return nullptr; }

 private:
  absl::Status Load(const std::string& path, const OpenOptions& options);
  absl::Status LoadConfig();
  absl::Status ListTensors();
  // Null when there is none of that name.
  const SafetensorsEntry* EntryOf(const TensorInfo& tensor) const {
    const auto found = by_name_.find(tensor.name);
    return found == by_name_.end() ? nullptr : entries_[found->second];
  }
  absl::Status LoadFactors(const OpenOptions& options);
  absl::Status LoadRopeFrequencies();
  struct RowRange {
    int64_t begin, end;
  };
  // Of a tensor of kI8 or kI32: as it is, or kI8 as floats.
  absl::Status ReadIntegers(const TensorInfo& tensor, DType stored, RowRange range, DType dtype,
                            void* out) const;
  bool HasFile(const char* name) const {
    std::error_code ignored;
    return std::filesystem::exists(absl::StrCat(path_, "/", name), ignored);
  }

  std::string path_;
  ModelConfig config_;
  std::optional<SafetensorsSet> files_;
  std::vector<TensorInfo> tensors_;
  std::vector<const SafetensorsEntry*> entries_;  // of tensors_
  std::map<std::string, size_t, std::less<>> by_name_;
  std::vector<std::string> unused_;
  std::vector<FactoredMatrix> factored_;
};

absl::Status FolderCheckpoint::LoadConfig() {
  if (!HasFile("config.json")) {
    if (HasFile("adapter_config.json")) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, ": a PEFT adapter, not a model: rankine convert BASE OUT --lora ", path_));
    }
    return absl::NotFoundError(absl::StrCat(path_, ": no config.json: not a model folder"));
  }
  RK_ASSIGN_OR_RETURN(const JsonValue config, JsonValue::ParseFile(path_ + "/config.json"));
  RK_ASSIGN_OR_RETURN(config_, ParseModelConfig(config));
  if (!HasFile("generation_config.json")) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const JsonValue generation,
                      JsonValue::ParseFile(path_ + "/generation_config.json"));
  return MergeGenerationConfig(generation, &config_);
}

absl::Status FolderCheckpoint::ListTensors() {
  const Architecture* architecture = FindArchitecture(config_.architecture);
  for (const SafetensorsEntry& entry : files_->entries()) {
    const bool as_is = architecture->canonical_name == nullptr;
    const std::string name = as_is ? entry.name : architecture->canonical_name(entry.name);
    if (name.empty()) {
      unused_.push_back(entry.name);
      continue;
    }
    const auto [other, is_new] = by_name_.emplace(name, tensors_.size());
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensors ", absl::CHexEscape(entries_[other->second]->name),
                       " and ", absl::CHexEscape(entry.name), " are both ", name));
    }
    TensorInfo info{.name = name,
                    .stored_type = entry.dtype,
                    .shape = entry.shape,
                    .stored_bytes = entry.bytes};
    if (!FindSafetensorsDType(entry.dtype, &info.natural_dtype)) info.natural_dtype = DType::kF32;
    tensors_.push_back(std::move(info));
    entries_.push_back(&entry);
  }
  return absl::OkStatus();
}

// From the manifest, or without one by the names that other programs use.
absl::Status FolderCheckpoint::LoadFactors(const OpenOptions& options) {
  const TensorLookup lookup = [this](const std::string& name) { return Find(name); };
  std::string source = path_;
  if (HasFile("factorization.json")) {
    source = path_ + "/factorization.json";
    RK_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(source, JsonLimits{}.max_bytes));
    RK_ASSIGN_OR_RETURN(factored_, ParseManifest(text, source));
  } else {
    RK_ASSIGN_OR_RETURN(factored_, RecogniseFactors(config_, lookup, options.factor_order, path_));
  }
  for (const FactoredMatrix& matrix : factored_) {
    if (const absl::Status status = ValidateMatrix(matrix, lookup); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat(source, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status FolderCheckpoint::LoadRopeFrequencies() {
  const TensorInfo* tensor = Find(kRopeFreqsTensor);
  if (tensor == nullptr) return absl::OkStatus();
  std::vector<float>& divisors = config_.rope.frequency_divisors;
  divisors.resize(static_cast<size_t>(config_.head_dim / 2));
  RK_RETURN_IF_ERROR(ReadRows(*tensor, 0, 1, DType::kF32, divisors.data()));
  for (const float divisor : divisors) {
    if (!(divisor > 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor ", kRopeFreqsTensor, ": ", divisor, " is not positive"));
    }
  }
  return absl::OkStatus();
}

absl::Status FolderCheckpoint::Load(const std::string& path, const OpenOptions& options) {
  path_ = path;
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such folder"));
  }
  RK_RETURN_IF_ERROR(LoadConfig());
  RK_ASSIGN_OR_RETURN(files_, SafetensorsSet::Open(path));
  RK_RETURN_IF_ERROR(ListTensors());
  const TensorLookup lookup = [this](const std::string& name) { return Find(name); };
  RK_RETURN_IF_ERROR(LoadFactors(options));
  RK_RETURN_IF_ERROR(CheckModelTensors(config_, tensors_, lookup, factored_, path));
  return LoadRopeFrequencies();
}

absl::Status FolderCheckpoint::ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                                       void* out) const {
  const SafetensorsEntry* entry = EntryOf(tensor);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat(path_, ": no tensor ", tensor.name));
  }
  return files_->Read(*entry, begin, size, out);
}

absl::Status FolderCheckpoint::ReadIntegers(const TensorInfo& tensor, DType stored, RowRange range,
                                            DType dtype, void* out) const {
  const int64_t rows = tensor.shape.size() <= 1 ? 1 : tensor.shape[0];
  if (range.begin < 0 || range.end < range.begin || range.end > rows) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": tensor ", tensor.name, ": rows ",
                                              range.begin, " to ", range.end, " of ", rows));
  }
  if (rows == 0) return absl::OkStatus();
  const int64_t row_bytes = tensor.stored_bytes / rows;
  const int64_t begin = range.begin * row_bytes, size = (range.end - range.begin) * row_bytes;
  if (stored == dtype) return ReadRaw(tensor, begin, size, out);
  std::vector<int8_t> raw(static_cast<size_t>(size));
  RK_RETURN_IF_ERROR(ReadRaw(tensor, begin, size, raw.data()));
  const std::vector<float> values(raw.begin(), raw.end());
  ConvertFloats(DType::kF32, values.data(), dtype, out, size);  // every int8 fits
  return absl::OkStatus();
}

absl::Status FolderCheckpoint::ReadRows(const TensorInfo& tensor, int64_t row_begin,
                                        int64_t row_end, DType dtype, void* out) const {
  const SafetensorsEntry* entry = EntryOf(tensor);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat(path_, ": no tensor ", tensor.name));
  }
  DType stored;
  const bool known = FindSafetensorsDType(entry->dtype, &stored);
  const bool integers = known && (stored == DType::kI8 || stored == DType::kI32);
  if (integers && (dtype == stored || (stored == DType::kI8 && IsFloat(dtype)))) {
    return ReadIntegers(tensor, stored, {row_begin, row_end}, dtype, out);
  }
  if (!known || !IsFloat(stored) || !IsFloat(dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor ", tensor.name,
                                                   ": cannot read ", entry->dtype, " as ",
                                                   Name(dtype).data()));
  }
  const int64_t size = static_cast<int64_t>(SizeOf(stored));
  const int64_t rows = entry->shape.size() <= 1 ? 1 : entry->shape[0];
  if (row_begin < 0 || row_end < row_begin || row_end > rows) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": tensor ", tensor.name, ": rows ", row_begin,
                                              " to ", row_end, " of ", rows));
  }
  if (rows == 0) return absl::OkStatus();
  const int64_t cols = entry->bytes / size / rows;
  const int64_t begin = row_begin * cols;
  const int64_t count = (row_end - row_begin) * cols;
  std::vector<char> staging;
  const int64_t step = stored == dtype ? std::max<int64_t>(count, 1) : kStagingBytes / size;
  if (stored != dtype) staging.resize(static_cast<size_t>(std::min(step, count) * size));
  for (int64_t done = 0; done < count; done += step) {
    const int64_t now = std::min(step, count - done);
    char* target = static_cast<char*>(out) + done * static_cast<int64_t>(SizeOf(dtype));
    char* raw = stored == dtype ? target : staging.data();
    RK_RETURN_IF_ERROR(files_->Read(*entry, (begin + done) * size, now * size, raw));
    const int64_t bad = ConvertFloats(stored, raw, dtype, target, now);
    if (bad < 0) continue;
    const float value = FloatAt(stored, raw, bad);
    const int64_t index = begin + done + bad;
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor ", tensor.name, ": the value ", value, " at row ",
                     index / cols, ", column ", index % cols,
                     std::isfinite(value) ? absl::StrCat(" does not fit in ", Name(dtype).data())
                                          : std::string(" is not finite")));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolder(const std::string& path,
                                                       const OpenOptions& options) {
  return FolderCheckpoint::Open(path, options);
}

}  // namespace rankine
