#include "models/lora/lora_checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/safetensors.h"
#include "models/checkpoint/validate.h"
#include "models/layout.h"
#include "models/lora/adapter_config.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// What PEFT puts before the names of the base.
constexpr char kPrefix[] = "base_model.model.";
constexpr char kLeft[] = ".lora_B.weight", kRight[] = ".lora_A.weight";

// A factor of the adapter under the name that it has in this checkpoint.
struct Factor {
  const SafetensorsEntry* entry;
  DType dtype;
  float scale;
};

class LoraCheckpoint : public Checkpoint {
 public:
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(std::unique_ptr<Checkpoint> base,
                                                          const std::string& folder) {
    auto checkpoint = std::make_unique<LoraCheckpoint>();
    checkpoint->base_ = std::move(base);
    checkpoint->adapter_ = folder;
    RK_RETURN_IF_ERROR(checkpoint->Load());
    return checkpoint;
  }

  const ModelConfig& config() const override { return base_->config(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }
  absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end, DType dtype,
                        void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override {
    return base_->ReadBlockRows(core, row_begin, row_end, cols, out);
  }
  absl::Status ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                       void* out) const override;
  const std::vector<std::string>& unused_tensors() const override {
    return base_->unused_tensors();
  }
  const std::vector<FactoredMatrix>& factored() const override { return factored_; }
  const std::string& folder() const override { return base_->folder(); }
  const GgufVocabulary* gguf_vocabulary() const override { return base_->gguf_vocabulary(); }

 private:
  absl::Status Load();
  absl::Status OpenWeights();
  absl::Status AddLinear(const AdapterConfig& config, const LinearSpec& linear);
  absl::Status CheckAllUsed() const;
  absl::StatusOr<const SafetensorsEntry*> Require(const std::string& name,
                                                  const std::vector<int64_t>& shape);
  absl::Status AddTensor(const std::string& name, const SafetensorsEntry& entry, double scale);
  absl::StatusOr<FactoredMatrix> BaseMatrix(const LinearSpec& linear) const;
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(adapter_, ": ", what));
  }

  std::unique_ptr<Checkpoint> base_;
  std::string adapter_;
  std::optional<SafetensorsSet> weights_;
  std::vector<TensorInfo> tensors_;  // of the base, then of the adapter
  std::unordered_map<std::string, size_t> by_name_;
  std::unordered_map<std::string, Factor> factors_;
  std::unordered_set<std::string> used_;  // names of the adapter
  std::vector<FactoredMatrix> factored_;
};

absl::Status LoraCheckpoint::OpenWeights() {
  const std::string path = adapter_ + "/adapter_model.safetensors";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored) &&
      std::filesystem::exists(adapter_ + "/adapter_model.bin", ignored)) {
    return Error(absl::StrCat(
        "adapter_model.bin is a pickle, which can run any code when it is read, so it is never "
        "read here; make safetensors of it once: python tools/scripts/pickle_to_safetensors.py ",
        adapter_));
  }
  RK_ASSIGN_OR_RETURN(weights_, SafetensorsSet::OpenFile(path));
  return absl::OkStatus();
}

absl::Status LoraCheckpoint::Load() {
  RK_ASSIGN_OR_RETURN(const AdapterConfig config, AdapterConfig::Read(adapter_));
  RK_RETURN_IF_ERROR(OpenWeights());
  tensors_ = base_->tensors();
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].name, i);
  factored_ = base_->factored();
  const ModelLayout layout = LayoutOf(base_->config());
  for (const LinearSpec& linear : layout.linears) {
    RK_RETURN_IF_ERROR(AddLinear(config, linear));
  }
  RK_RETURN_IF_ERROR(CheckAllUsed());
  if (used_.empty()) return Error("adapter_model.safetensors holds no tensors of LoRA");
  const TensorLookup lookup = [this](const std::string& name) { return Find(name); };
  for (const FactoredMatrix& matrix : factored_) {
    // GGUF's blocks are no tensors of a folder, and were checked with the file.
    if (base_->gguf_vocabulary() != nullptr) RK_RETURN_IF_ERROR(ValidateNetwork(matrix));
    if (base_->gguf_vocabulary() == nullptr) RK_RETURN_IF_ERROR(ValidateMatrix(matrix, lookup));
  }
  return absl::OkStatus();
}

absl::StatusOr<const SafetensorsEntry*> LoraCheckpoint::Require(const std::string& name,
                                                                const std::vector<int64_t>& shape) {
  const SafetensorsEntry* entry = weights_->Find(name);
  if (entry == nullptr) return Error(absl::StrCat("tensor ", name, " is missing"));
  if (entry->shape != shape) {
    return Error(absl::StrCat("tensor ", name, " has shape [", absl::StrJoin(entry->shape, ", "),
                              "]; the base and adapter_config.json ask for [",
                              absl::StrJoin(shape, ", "), "]"));
  }
  used_.insert(name);
  return entry;
}

absl::Status LoraCheckpoint::AddTensor(const std::string& name, const SafetensorsEntry& entry,
                                       double scale) {
  DType dtype;
  if (!FindSafetensorsDType(entry.dtype, &dtype) || !IsFloat(dtype)) {
    return Error(absl::StrCat("tensor ", entry.name, " is ", entry.dtype,
                              "; adapters must be F32, F16 or BF16"));
  }
  // A scaled value need not fit the dtype it was stored in.
  const DType natural = scale == 1 ? dtype : DType::kF32;
  const int64_t bytes = entry.bytes / static_cast<int64_t>(SizeOf(dtype));
  if (!by_name_.emplace(name, tensors_.size()).second) {
    return Error(absl::StrCat("the base has a tensor ", name, " already"));
  }
  tensors_.push_back({.name = name,
                      .stored_type = SafetensorsDTypeName(natural),
                      .natural_dtype = natural,
                      .shape = entry.shape,
                      .stored_bytes = bytes * static_cast<int64_t>(SizeOf(natural))});
  factors_.emplace(name, Factor{&entry, dtype, static_cast<float>(scale)});
  return absl::OkStatus();
}

// The linear as the base has it.
absl::StatusOr<FactoredMatrix> LoraCheckpoint::BaseMatrix(const LinearSpec& linear) const {
  const TensorInfo* weight = base_->Find(linear.weight());
  if (weight == nullptr) {
    return Error(absl::StrCat("the base has no tensor ", linear.weight()));
  }
  const std::string bias = base_->Find(linear.bias()) != nullptr ? linear.bias() : "";
  if (weight->natural_encoding) return BlocksMatrix(linear.name, *weight, bias);
  return DenseMatrix(linear.name, linear.out, linear.in, Encoding::Float(weight->natural_dtype),
                     weight->name, bias);
}

absl::Status LoraCheckpoint::AddLinear(const AdapterConfig& config, const LinearSpec& linear) {
  const std::string left = absl::StrCat(kPrefix, linear.name, kLeft);
  const std::string right = absl::StrCat(kPrefix, linear.name, kRight);
  if (weights_->Find(left) == nullptr && weights_->Find(right) == nullptr) {
    return absl::OkStatus();
  }
  const int64_t rank = config.RankOf(linear.name);
  RK_ASSIGN_OR_RETURN(const SafetensorsEntry* b, Require(left, {linear.out, rank}));
  RK_ASSIGN_OR_RETURN(const SafetensorsEntry* a, Require(right, {rank, linear.in}));
  RK_RETURN_IF_ERROR(AddTensor(linear.name + ".lora_L", *b, config.ScaleOf(linear.name)));
  RK_RETURN_IF_ERROR(AddTensor(linear.name + ".lora_R", *a, 1));
  auto matrix = std::find_if(factored_.begin(), factored_.end(),
                             [&](const FactoredMatrix& m) { return m.name == linear.name; });
  if (matrix == factored_.end()) {
    RK_ASSIGN_OR_RETURN(FactoredMatrix dense, BaseMatrix(linear));
    matrix = factored_.insert(factored_.end(), std::move(dense));
  }
  if (!matrix->input_transforms.empty() || !matrix->output_transforms.empty()) {
    return Error(absl::StrCat("the base's linear ", linear.name,
                              " has transforms, whose basis is not the adapter's: not supported"));
  }
  if (matrix->output_legs.size() != 1 || matrix->input_legs.size() != 1) {
    return Error(absl::StrCat("the base's linear ", linear.name,
                              " has several legs on a side, which L R cannot join: not supported"));
  }
  const auto core = [&](const char* name, LegRange rows, LegRange cols, const std::string& tensor) {
    return Core{.name = name,
                .legs = {std::move(rows), std::move(cols)},
                .encoding = Encoding::Float(Find(tensor)->natural_dtype),
                .tensors = {{"values", tensor}}};
  };
  const LegRange out{.name = matrix->output_legs[0].name, .extent = linear.out};
  const LegRange in{.name = matrix->input_legs[0].name, .extent = linear.in};
  const LegRange bond{.name = "lora_r", .extent = rank};
  matrix->terms.push_back({{core("lora_L", out, bond, linear.name + ".lora_L"),
                            core("lora_R", bond, in, linear.name + ".lora_R")}});
  Provenance& provenance = matrix->provenance;
  provenance.method = absl::StrCat(provenance.method.empty() ? "dense" : provenance.method,
                                   " + LoRA, scale ", config.ScaleOf(linear.name));
  // They were those of the base's term against another matrix.
  provenance.relative_error = provenance.weighted_error = -1;
  return absl::OkStatus();
}

absl::Status LoraCheckpoint::CheckAllUsed() const {
  for (const SafetensorsEntry& entry : weights_->entries()) {
    if (used_.contains(entry.name)) continue;
    return Error(absl::StrCat("tensor ", absl::CHexEscape(entry.name),
                              " is not the lora_A or lora_B of a linear of the base: not "
                              "supported"));
  }
  return absl::OkStatus();
}

absl::Status LoraCheckpoint::ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                                      DType dtype, void* out) const {
  const auto found = factors_.find(tensor.name);
  if (found == factors_.end()) return base_->ReadRows(tensor, row_begin, row_end, dtype, out);
  const Factor& factor = found->second;
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  if (row_begin < 0 || row_end < row_begin || row_end > rows || !IsFloat(dtype)) {
    return absl::OutOfRangeError(absl::StrCat(adapter_, ": tensor ", factor.entry->name, ": rows ",
                                              row_begin, " to ", row_end, " of ", rows, " as ",
                                              Name(dtype).data()));
  }
  const int64_t count = (row_end - row_begin) * cols;
  const int64_t size = static_cast<int64_t>(SizeOf(factor.dtype));
  std::vector<char> raw(static_cast<size_t>(count * size));
  RK_RETURN_IF_ERROR(
      weights_->Read(*factor.entry, row_begin * cols * size, count * size, raw.data()));
  std::vector<float> values(static_cast<size_t>(count));
  int64_t bad = ConvertFloats(factor.dtype, raw.data(), DType::kF32, values.data(), count);
  for (float& value : values) value *= factor.scale;
  if (bad < 0) bad = ConvertFloats(DType::kF32, values.data(), dtype, out, count);
  if (bad < 0) return absl::OkStatus();
  return Error(absl::StrCat("tensor ", factor.entry->name, ": the value ", values[bad], " at row ",
                            row_begin + bad / cols, ", column ", bad % cols,
                            " is not finite or does not fit in ", Name(dtype).data()));
}

absl::Status LoraCheckpoint::ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                                     void* out) const {
  if (!factors_.contains(tensor.name)) return base_->ReadRaw(tensor, begin, size, out);
  return absl::UnimplementedError(
      absl::StrCat("tensor ", tensor.name, " is scaled as it is read and has no bytes of its own"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenLora(std::unique_ptr<Checkpoint> base,
                                                     const std::string& folder) {
  return LoraCheckpoint::Open(std::move(base), folder);
}

}  // namespace rankine
