#include "models/checkpoint/convert.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/checkpoint/convert_plan.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/folder_writer.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/model_config.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Bytes copied at a time: a few rows of the largest matrices, small beside any model.
constexpr int64_t kBlockBytes = 8 << 20;

// What a dense matrix that was encoded here says of its making.
constexpr char kRoundingMethod[] = "least-squares rounding";

int64_t CountOf(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

int64_t BytesOf(const TensorSpec& spec) {
  return CountOf(spec.shape) * static_cast<int64_t>(SizeOf(spec.dtype));
}

// Runs the jobs of a plan.
class Copier {
 public:
  Copier(const Checkpoint& source, ConvertPlan& plan, const ConvertOptions& options,
         const ConvertProgress& progress)
      : source_(source),
        plan_(plan),
        progress_(progress),
        pool_(options.num_threads > 0 ? options.num_threads : DefaultNumThreads()) {}

  absl::Status Run(const std::string& folder, ConvertReport* report) {
    std::vector<TensorSpec> specs;
    for (const ConvertJob& job : plan_.jobs()) {
      specs.insert(specs.end(), job.specs.begin(), job.specs.end());
    }
    for (const TensorSpec& spec : specs) total_ += BytesOf(spec);
    RK_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(folder, specs));
    for (const ConvertJob& job : plan_.jobs()) {
      RK_RETURN_IF_ERROR(job.kind == ConvertJob::Kind::kCore ? WriteCoreJob(job, &writer, report)
                                                             : CopyTensor(job, &writer));
    }
    return writer.Finish();
  }

 private:
  void Advance(int64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(done_, total_);
  }

  absl::Status WriteCoreJob(const ConvertJob& job, SafetensorsWriter* writer,
                            ConvertReport* report) {
    EncodeError error;
    RK_RETURN_IF_ERROR(WriteCore(
        source_, job.core, pool_, writer, [&](int64_t bytes) { Advance(bytes); }, &error));
    const Core& core = job.core.to;
    if (core.encoding.IsFloat()) return absl::OkStatus();
    FactoredMatrix& matrix = plan_.matrices()[job.matrix];
    ConvertedCore entry{.linear = matrix.name,
                        .core = core.name,
                        .encoding = core.encoding,
                        .weights = 1,
                        .relative_error = error.relative()};
    for (const int64_t extent : core.StoredShape()) entry.weights *= extent;
    for (const TensorSpec& spec : job.specs) entry.bytes += BytesOf(spec);
    if (IsDense(matrix) && !job.core.carries_codes()) {
      matrix.provenance = {.method = kRoundingMethod, .relative_error = error.relative()};
    }
    report->cores.push_back(std::move(entry));
    return absl::OkStatus();
  }

  absl::Status CopyTensor(const ConvertJob& job, SafetensorsWriter* writer) {
    const TensorSpec& spec = job.specs[0];
    const bool raw = job.kind == ConvertJob::Kind::kRaw;
    const int64_t rows = spec.shape.size() <= 1 ? 1 : spec.shape[0];
    const int64_t row_bytes = BytesOf(spec) / std::max<int64_t>(rows, 1);
    const int64_t step = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(row_bytes, 1));
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t end = std::min(rows, row + step);
      const int64_t bytes = (end - row) * row_bytes;
      block_.resize(static_cast<size_t>(std::max<int64_t>(bytes, 1)));
      RK_RETURN_IF_ERROR(raw ? source_.ReadRaw(*job.source, row * row_bytes, bytes, block_.data())
                             : source_.ReadRows(*job.source, row, end, spec.dtype, block_.data()));
      RK_RETURN_IF_ERROR(writer->Append(spec.name, block_.data(), bytes));
      Advance(bytes);
    }
    return absl::OkStatus();
  }

  const Checkpoint& source_;
  ConvertPlan& plan_;
  const ConvertProgress& progress_;
  ThreadPool pool_;
  std::vector<char> block_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

absl::StatusOr<ConvertReport> ConvertModel(const Checkpoint& source, const std::string& out,
                                           const ConvertOptions& options,
                                           const ConvertProgress& progress) {
  RK_CHECK(IsFloat(options.dtype));
  ConvertPlan plan(source, options);
  RK_RETURN_IF_ERROR(plan.Make());
  RK_ASSIGN_OR_RETURN(FolderWriter folder, FolderWriter::Create(out));
  RK_RETURN_IF_ERROR(CopyCompanions(source, folder.staging()));
  RK_RETURN_IF_ERROR(
      folder.WriteFile("config.json", SerializeModelConfig(source.config(), options.dtype)));
  std::error_code ignored;
  if (!std::filesystem::exists(folder.staging() + "/generation_config.json", ignored)) {
    RK_RETURN_IF_ERROR(
        folder.WriteFile("generation_config.json", SerializeGenerationConfig(source.config())));
  }
  ConvertReport report;
  RK_RETURN_IF_ERROR(Copier(source, plan, options, progress).Run(folder.staging(), &report));
  plan.Report(&report);
  if (!plan.matrices().empty()) {
    RK_RETURN_IF_ERROR(folder.WriteFile("factorization.json", SerializeManifest(plan.matrices())));
  }
  RK_RETURN_IF_ERROR(folder.Commit());
  return report;
}

absl::Status ConvertModel(const Checkpoint& source, const std::string& out, DType dtype,
                          const ConvertProgress& progress) {
  return ConvertModel(source, out, ConvertOptions{.dtype = dtype}, progress).status();
}

}  // namespace rankine
