#include "models/checkpoint/convert.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/folder_writer.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/model_config.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/llama_layout.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Bytes decoded at a time: a few rows of the largest matrices, small beside any model.
constexpr int64_t kBlockBytes = 8 << 20;

struct CopyJob {
  TensorSpec spec;
  const TensorInfo* source;
};

int64_t RowsOf(const TensorInfo& tensor) { return tensor.shape.size() <= 1 ? 1 : tensor.shape[0]; }

int64_t CountOf(const TensorInfo& tensor) {
  int64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= extent;
  return count;
}

// What is to be written: the tensors in the order of the model, and the manifest for their new
// dtype.
class Plan {
 public:
  Plan(const Checkpoint& source, DType dtype) : source_(source), dtype_(dtype) {
    for (const FactoredMatrix& matrix : source.factored()) factored_.emplace(matrix.name, &matrix);
  }

  absl::Status Make() {
    const ModelConfig& config = source_.config();
    RK_RETURN_IF_ERROR(Add(kEmbeddingTensor));
    for (const LinearSpec& linear : LlamaLinears(config)) RK_RETURN_IF_ERROR(AddLinear(linear));
    for (const VectorSpec& vector : LlamaVectors(config)) RK_RETURN_IF_ERROR(Add(vector.name));
    if (source_.Find(kRopeFreqsTensor) != nullptr) return Add(kRopeFreqsTensor);
    return absl::OkStatus();
  }

  const std::vector<CopyJob>& jobs() const { return jobs_; }
  const std::vector<FactoredMatrix>& matrices() const { return matrices_; }

 private:
  absl::Status Add(const std::string& name) {
    if (!added_.insert(name).second) return absl::OkStatus();  // a core shared by several matrices
    const TensorInfo* tensor = source_.Find(name);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
    }
    const DType dtype = tensor->shape.size() <= 1 ? DType::kF32 : dtype_;
    jobs_.push_back({{name, dtype, tensor->shape}, tensor});
    return absl::OkStatus();
  }

  absl::Status AddLinear(const LinearSpec& linear) {
    const auto found = factored_.find(linear.name);
    if (found != factored_.end()) return AddFactored(*found->second);
    RK_RETURN_IF_ERROR(Add(linear.weight()));
    return linear.has_bias ? Add(linear.bias()) : absl::OkStatus();
  }

  absl::Status AddFactored(FactoredMatrix matrix) {
    if (!matrix.input_transforms.empty() || !matrix.output_transforms.empty()) {
      return absl::UnimplementedError(
          absl::StrCat("matrix ", matrix.name, ": converting transforms is not supported"));
    }
    for (Term& term : matrix.terms) {
      for (Core& core : term.cores) {
        if (!core.encoding.IsFloat()) {
          return absl::UnimplementedError(
              absl::StrCat("matrix ", matrix.name, ": core ", core.name,
                           ": converting block encodings and codebooks is not supported"));
        }
        core.encoding = Encoding::Float(core.legs.size() == 1 ? DType::kF32 : dtype_);
        RK_RETURN_IF_ERROR(Add(core.TensorOf("values")));
      }
    }
    if (!matrix.bias_tensor.empty()) RK_RETURN_IF_ERROR(Add(matrix.bias_tensor));
    matrices_.push_back(std::move(matrix));
    return absl::OkStatus();
  }

  const Checkpoint& source_;
  DType dtype_;
  std::unordered_map<std::string, const FactoredMatrix*> factored_;
  std::unordered_set<std::string> added_;
  std::vector<CopyJob> jobs_;
  std::vector<FactoredMatrix> matrices_;
};

absl::Status CopyTensors(const Checkpoint& source, const std::vector<CopyJob>& jobs,
                         const std::string& folder, const ConvertProgress& progress) {
  std::vector<TensorSpec> specs;
  int64_t total = 0;
  for (const CopyJob& job : jobs) {
    specs.push_back(job.spec);
    total += CountOf(*job.source) * static_cast<int64_t>(SizeOf(job.spec.dtype));
  }
  RK_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(folder, specs));
  std::vector<char> block;
  int64_t done = 0;
  for (const CopyJob& job : jobs) {
    const int64_t rows = RowsOf(*job.source);
    const int64_t row_bytes = CountOf(*job.source) / std::max<int64_t>(rows, 1) *
                              static_cast<int64_t>(SizeOf(job.spec.dtype));
    const int64_t step = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(row_bytes, 1));
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t end = std::min(rows, row + step);
      const int64_t bytes = (end - row) * row_bytes;
      block.resize(static_cast<size_t>(std::max<int64_t>(bytes, 1)));
      RK_RETURN_IF_ERROR(source.ReadRows(*job.source, row, end, job.spec.dtype, block.data()));
      RK_RETURN_IF_ERROR(writer.Append(job.spec.name, block.data(), bytes));
      done += bytes;
      if (progress) progress(done, total);
    }
  }
  return writer.Finish();
}

}  // namespace

absl::Status ConvertModel(const Checkpoint& source, const std::string& out, DType dtype,
                          const ConvertProgress& progress) {
  RK_CHECK(IsFloat(dtype));
  Plan plan(source, dtype);
  RK_RETURN_IF_ERROR(plan.Make());
  RK_ASSIGN_OR_RETURN(FolderWriter folder, FolderWriter::Create(out));
  RK_RETURN_IF_ERROR(CopyCompanions(source, folder.staging()));
  RK_RETURN_IF_ERROR(folder.WriteFile("config.json", SerializeModelConfig(source.config(), dtype)));
  std::error_code ignored;
  if (!std::filesystem::exists(folder.staging() + "/generation_config.json", ignored)) {
    RK_RETURN_IF_ERROR(
        folder.WriteFile("generation_config.json", SerializeGenerationConfig(source.config())));
  }
  if (!plan.matrices().empty()) {
    RK_RETURN_IF_ERROR(folder.WriteFile("factorization.json", SerializeManifest(plan.matrices())));
  }
  RK_RETURN_IF_ERROR(CopyTensors(source, plan.jobs(), folder.staging(), progress));
  return folder.Commit();
}

}  // namespace rankine
