#include "tools/export/export_writer.h"

#include <algorithm>
#include <filesystem>

#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/folder_writer.h"
#include "models/checkpoint/model_config.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Bytes read at a time: a few rows of the largest matrices.
constexpr int64_t kBlockBytes = int64_t{8} << 20;

int64_t SizeOfTensor(const TensorSpec& spec) {
  int64_t bytes = static_cast<int64_t>(SizeOf(spec.dtype));
  for (const int64_t extent : spec.shape) bytes *= extent;
  return bytes;
}

}  // namespace

ExportTensor CopyOf(const Checkpoint& source, const TensorInfo& tensor, const std::string& name,
                    DType dtype) {
  ExportTensor copy{.spec = {name, dtype, tensor.shape}};
  const int64_t rows = tensor.shape.size() <= 1 ? 1 : tensor.shape[0];
  const int64_t row_bytes = SizeOfTensor(copy.spec) / std::max<int64_t>(rows, 1);
  copy.write = [&source, &tensor, rows, row_bytes, dtype](const AppendBytes& append) {
    std::vector<char> block;
    const int64_t step = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(row_bytes, 1));
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t end = std::min(rows, row + step);
      block.resize(static_cast<size_t>((end - row) * row_bytes));
      RK_RETURN_IF_ERROR(source.ReadRows(tensor, row, end, dtype, block.data()));
      RK_RETURN_IF_ERROR(append(block.data(), static_cast<int64_t>(block.size())));
    }
    return absl::OkStatus();
  };
  return copy;
}

absl::Status WriteExport(const Checkpoint& source, const std::string& out,
                         const ModelConfig& config, DType dtype,
                         const std::vector<ExportTensor>& tensors, const ConvertProgress& progress,
                         int64_t* bytes) {
  std::vector<TensorSpec> specs;
  int64_t total = 0, done = 0;
  for (const ExportTensor& tensor : tensors) {
    specs.push_back(tensor.spec);
    total += SizeOfTensor(tensor.spec);
  }
  RK_ASSIGN_OR_RETURN(FolderWriter folder, FolderWriter::Create(out));
  RK_RETURN_IF_ERROR(CopyCompanions(source, folder.staging()));
  RK_RETURN_IF_ERROR(folder.WriteFile("config.json", SerializeModelConfig(config, dtype)));
  std::error_code ignored;
  if (!std::filesystem::exists(folder.staging() + "/generation_config.json", ignored)) {
    RK_RETURN_IF_ERROR(
        folder.WriteFile("generation_config.json", SerializeGenerationConfig(config)));
  }
  RK_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(folder.staging(), specs));
  for (const ExportTensor& tensor : tensors) {
    RK_RETURN_IF_ERROR(tensor.write([&](const void* data, int64_t size) {
      RK_RETURN_IF_ERROR(writer.Append(tensor.spec.name, data, size));
      done += size;
      if (progress) progress(done, total);
      return absl::OkStatus();
    }));
  }
  RK_RETURN_IF_ERROR(writer.Finish());
  if (bytes != nullptr) *bytes = total;
  return folder.Commit();
}

}  // namespace rankine
