#include "tools/compress/model_writer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/folder_writer.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/model_config.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Bytes read at a time.
constexpr int64_t kBlockBytes = int64_t{8} << 20;

// The dtype as stored: natural_dtype may be narrower.
DType CopyDType(const TensorInfo& t, DType block_dtype) {
  if (!IsFloat(t.natural_dtype)) return t.natural_dtype;  // codes, signs, indices
  if (t.stored_type == "F32") return DType::kF32;
  if (t.stored_type == "F16") return DType::kF16;
  if (t.stored_type == "BF16") return DType::kBF16;
  return t.shape.size() == 2 ? block_dtype : DType::kF32;
}

void AddTensorsOf(const FactoredMatrix& m, std::unordered_set<std::string>* names) {
  for (const Term& term : m.terms) {
    for (const Core& core : term.cores) {
      for (const CoreTensor& t : core.tensors) names->insert(t.tensor);
    }
  }
  for (const auto* transforms : {&m.input_transforms, &m.output_transforms}) {
    for (const Transform& t : *transforms) names->insert({t.tensor, t.block_tensor});
  }
  names->insert(m.bias_tensor);
}

class ModelWriter {
 public:
  ModelWriter(const FactorizedModel& model, const std::function<absl::Status(double)>& progress)
      : model_(model), progress_(progress) {}

  // Declares all tensors: the copied ones in file order, then those of the parts.
  absl::Status Plan() {
    std::unordered_set<std::string> linears, replaced;
    std::vector<TensorSpec> fresh;
    for (const std::string& path : model_.part_paths) {
      RK_ASSIGN_OR_RETURN(const LayerPart part, ReadPart(path));
      for (const FactoredMatrix& m : part.matrices) linears.insert(m.name);
      for (const StoredTensor& t : part.tensors) fresh.push_back({t.name, t.dtype, t.shape});
    }
    for (const std::string& linear : linears) replaced.insert(linear + ".weight");
    for (const FactoredMatrix& m : model_.source->factored()) {
      if (linears.count(m.name) != 0) AddTensorsOf(m, &replaced);
    }
    // What others share with the replaced matrices stays, and so do biases.
    std::unordered_set<std::string> used;
    for (const FactoredMatrix& m : model_.matrices) AddTensorsOf(m, &used);
    // A new bias may bear the old one's name.
    for (const TensorSpec& s : fresh) {
      used.erase(s.name);
      replaced.insert(s.name);
    }
    for (const TensorInfo& t : model_.source->tensors()) {
      if (replaced.count(t.name) != 0 && used.count(t.name) == 0) continue;
      copied_.push_back(&t);
      specs_.push_back({t.name, CopyDType(t, model_.block_dtype), t.shape});
    }
    num_copied_ = specs_.size();
    specs_.insert(specs_.end(), fresh.begin(), fresh.end());
    for (const TensorSpec& s : specs_) total_bytes_ += BytesOf(s);
    return absl::OkStatus();
  }

  absl::Status WriteTensors(const std::string& folder) {
    RK_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(folder, specs_));
    for (size_t i = 0; i < num_copied_; ++i) {
      RK_RETURN_IF_ERROR(Copy(*copied_[i], specs_[i], &writer));
    }
    for (const std::string& path : model_.part_paths) {
      RK_ASSIGN_OR_RETURN(const LayerPart part, ReadPart(path));
      for (const StoredTensor& t : part.tensors) {
        const auto bytes = static_cast<int64_t>(t.bytes.size());
        RK_RETURN_IF_ERROR(writer.Append(t.name, t.bytes.data(), bytes));
        RK_RETURN_IF_ERROR(Advance(bytes));
      }
    }
    return writer.Finish();
  }

  // What config.json calls the dtype of the matrices: that of most copied bytes.
  DType MatrixDType() const {
    int64_t bytes[3] = {};
    constexpr DType kTypes[] = {DType::kBF16, DType::kF16, DType::kF32};
    for (const TensorSpec& s : specs_) {
      if (s.shape.size() != 2) continue;
      for (int i = 0; i < 3; ++i) bytes[i] += s.dtype == kTypes[i] ? BytesOf(s) : 0;
    }
    return kTypes[std::max_element(bytes, bytes + 3) - bytes];
  }

 private:
  static int64_t BytesOf(const TensorSpec& s) {
    auto bytes = static_cast<int64_t>(SizeOf(s.dtype));
    for (int64_t extent : s.shape) bytes *= extent;
    return bytes;
  }

  absl::Status Advance(int64_t bytes) {
    done_bytes_ += bytes;
    return progress_(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
  }

  absl::Status Copy(const TensorInfo& tensor, const TensorSpec& spec, SafetensorsWriter* writer) {
    const int64_t rows = tensor.shape.size() < 2 ? 1 : tensor.shape[0];
    const int64_t row_bytes = BytesOf(spec) / std::max<int64_t>(rows, 1);
    const int64_t step = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(row_bytes, 1));
    std::string block;
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t end = std::min(rows, row + step);
      block.resize(static_cast<size_t>((end - row) * row_bytes));
      RK_RETURN_IF_ERROR(IsFloat(spec.dtype)
                             ? model_.source->ReadRows(tensor, row, end, spec.dtype, block.data())
                             : model_.source->ReadRaw(tensor, row * row_bytes,
                                                      (end - row) * row_bytes, block.data()));
      RK_RETURN_IF_ERROR(
          writer->Append(tensor.name, block.data(), static_cast<int64_t>(block.size())));
      RK_RETURN_IF_ERROR(Advance(static_cast<int64_t>(block.size())));
    }
    return absl::OkStatus();
  }

  const FactorizedModel& model_;
  const std::function<absl::Status(double)>& progress_;
  std::vector<const TensorInfo*> copied_;
  std::vector<TensorSpec> specs_;
  size_t num_copied_ = 0;
  int64_t total_bytes_ = 0;
  int64_t done_bytes_ = 0;
};

}  // namespace

absl::Status WriteFactorizedModel(const FactorizedModel& model, const std::string& out,
                                  const std::function<absl::Status(double)>& progress) {
  ModelWriter writer(model, progress);
  RK_RETURN_IF_ERROR(writer.Plan());
  const Checkpoint& source = *model.source;
  RK_ASSIGN_OR_RETURN(FolderWriter folder, FolderWriter::Create(out));
  RK_RETURN_IF_ERROR(CopyCompanions(source, folder.staging()));
  RK_RETURN_IF_ERROR(
      folder.WriteFile("config.json", SerializeModelConfig(source.config(), writer.MatrixDType())));
  std::error_code ignored;
  if (!std::filesystem::exists(folder.staging() + "/generation_config.json", ignored)) {
    RK_RETURN_IF_ERROR(
        folder.WriteFile("generation_config.json", SerializeGenerationConfig(source.config())));
  }
  if (!model.matrices.empty()) {
    RK_RETURN_IF_ERROR(folder.WriteFile("factorization.json", SerializeManifest(model.matrices)));
  }
  RK_RETURN_IF_ERROR(writer.WriteTensors(folder.staging()));
  return folder.Commit();
}

bool HasManifestOf(const std::vector<FactoredMatrix>& matrices, const std::string& out) {
  std::ifstream in(out + "/factorization.json", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return !matrices.empty() && text == SerializeManifest(matrices);
}

}  // namespace rankine
