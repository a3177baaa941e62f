// ExportDense: every linear multiplied out.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/float_convert.h"
#include "models/llama_layout.h"
#include "models/status_macros.h"
#include "tools/export/dense_weight.h"
#include "tools/export/export.h"
#include "tools/export/export_writer.h"

namespace rankine {
namespace {

// Rows converted at a time.
constexpr int64_t kConvertedRows = 256;

class DenseExport {
 public:
  DenseExport(const Checkpoint& source, const ExportOptions& options)
      : source_(source),
        options_(options),
        config_(source.config()),
        pool_(options.num_threads > 0 ? options.num_threads : DefaultNumThreads()) {
    for (const FactoredMatrix& matrix : source.factored()) factored_.emplace(matrix.name, &matrix);
  }

  absl::StatusOr<ExportReport> Run(const std::string& out, const ConvertProgress& progress) {
    if (source_.Find(kRopeFreqsTensor) != nullptr) {
      return absl::UnimplementedError(
          absl::StrCat("tensor ", kRopeFreqsTensor,
                       ": config.json of transformers cannot say such RoPE divisors, so the export "
                       "would be another model: not supported"));
    }
    for (const TensorInfo& tensor : source_.tensors()) report_.source_bytes += tensor.stored_bytes;
    const ModelLayout layout = LayoutOf(config_);
    for (const LinearSpec& table : layout.embeddings) RK_RETURN_IF_ERROR(AddLinear(table));
    for (const LinearSpec& linear : layout.linears) RK_RETURN_IF_ERROR(AddLinear(linear));
    RK_RETURN_IF_ERROR(AddBiases(layout.linears));
    for (const VectorSpec& vector : layout.vectors) {
      const TensorInfo* tensor = source_.Find(vector.name);
      if (tensor == nullptr && vector.optional) continue;
      if (tensor == nullptr) return Missing(vector.name);
      tensors_.push_back(CopyOf(source_, *tensor, vector.name, DType::kF32));
    }
    RK_RETURN_IF_ERROR(
        WriteExport(source_, out, config_, options_.dtype, tensors_, progress, &report_.bytes));
    return report_;
  }

 private:
  static absl::Status Missing(const std::string& name) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
  }

  const FactoredMatrix* FindMatrix(const std::string& name) const {
    const auto found = factored_.find(name);
    return found == factored_.end() ? nullptr : found->second;
  }

  absl::Status AddLinear(const LinearSpec& linear) {
    if (linear.optional && FindMatrix(linear.name) == nullptr &&
        source_.Find(linear.weight()) == nullptr) {
      return absl::OkStatus();
    }
    if (const FactoredMatrix* matrix = FindMatrix(linear.name); matrix != nullptr) {
      tensors_.push_back({.spec = {linear.weight(), options_.dtype, {linear.out, linear.in}},
                          .write = [this, matrix](const AppendBytes& append) {
                            return WriteProduct(*matrix, append);
                          }});
      ++report_.densified;
      return absl::OkStatus();
    }
    const TensorInfo* weight = source_.Find(linear.weight());
    if (weight == nullptr) return Missing(linear.weight());
    tensors_.push_back(CopyOf(source_, *weight, linear.weight(), options_.dtype));
    return absl::OkStatus();
  }

  absl::Status WriteProduct(const FactoredMatrix& matrix, const AppendBytes& append) {
    RK_ASSIGN_OR_RETURN(const Matrix64 w, DenseWeight(source_, matrix, pool_));
    std::vector<float> floats;
    std::vector<char> out;
    for (int64_t row = 0; row < w.rows; row += kConvertedRows) {
      const int64_t count = (std::min(w.rows, row + kConvertedRows) - row) * w.cols;
      floats.assign(w.Row(row), w.Row(row) + count);
      out.resize(static_cast<size_t>(count) * SizeOf(options_.dtype));
      const int64_t bad =
          ConvertFloats(DType::kF32, floats.data(), options_.dtype, out.data(), count);
      if (bad >= 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(matrix.name, ": the product of its factors at row ", row + bad / w.cols,
                         ", column ", bad % w.cols, ", ", w.Row(row)[bad], ", does not fit in ",
                         Name(options_.dtype).data(), "; choose another --dtype"));
      }
      RK_RETURN_IF_ERROR(append(out.data(), static_cast<int64_t>(out.size())));
    }
    return absl::OkStatus();
  }

  // The tensor of a linear's bias; null when it has none.
  const TensorInfo* BiasOf(const LinearSpec& linear) const {
    const FactoredMatrix* matrix = FindMatrix(linear.name);
    const std::string name = matrix != nullptr ? matrix->bias_tensor : linear.bias();
    return name.empty() ? nullptr : source_.Find(name);
  }

  // transformers knows biases of all attention or all MLP linears, or of none.
  absl::Status AddBiases(const std::vector<LinearSpec>& linears) {
    for (const LinearSpec& linear : linears) {
      if (BiasOf(linear) == nullptr || linear.has_bias) continue;
      if (absl::StrContains(linear.name, ".self_attn.")) {
        config_.attention_bias = true;
      } else if (absl::StrContains(linear.name, ".mlp.")) {
        config_.mlp_bias = true;
      } else {
        return absl::UnimplementedError(
            absl::StrCat(linear.name, " has a bias, which config.json of ", config_.architecture,
                         " cannot say: not supported"));
      }
    }
    for (const LinearSpec& linear : linears) {
      const bool wanted = linear.has_bias                                 ? true
                          : absl::StrContains(linear.name, ".self_attn.") ? config_.attention_bias
                          : absl::StrContains(linear.name, ".mlp.")       ? config_.mlp_bias
                                                                          : false;
      const bool absent = linear.optional && FindMatrix(linear.name) == nullptr &&
                          source_.Find(linear.weight()) == nullptr;
      if (!wanted || absent) continue;
      if (const TensorInfo* bias = BiasOf(linear); bias != nullptr) {
        tensors_.push_back(CopyOf(source_, *bias, linear.bias(), DType::kF32));
        continue;
      }
      tensors_.push_back({.spec = {linear.bias(), DType::kF32, {linear.out}},
                          .write = [size = linear.out](const AppendBytes& append) {
                            const std::vector<float> zeros(static_cast<size_t>(size));
                            return append(zeros.data(), size * 4);
                          }});
    }
    return absl::OkStatus();
  }

  const Checkpoint& source_;
  const ExportOptions& options_;
  ModelConfig config_;
  ThreadPool pool_;
  std::unordered_map<std::string, const FactoredMatrix*> factored_;
  std::vector<ExportTensor> tensors_;
  ExportReport report_;
};

}  // namespace

absl::StatusOr<ExportReport> ExportDense(const Checkpoint& source, const std::string& out,
                                         const ExportOptions& options,
                                         const ConvertProgress& progress) {
  return DenseExport(source, options).Run(out, progress);
}

}  // namespace rankine
