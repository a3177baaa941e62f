#include <filesystem>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/checkpoint.h"
#include "models/files/file.h"
#include "models/status_macros.h"

namespace rankine {

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path,
                                                           const OpenOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return OpenFolder(path, options);
  RK_ASSIGN_OR_RETURN(const ReadOnlyFile file, ReadOnlyFile::Open(path));
  char magic[4] = {};
  if (file.size() >= 4) RK_RETURN_IF_ERROR(file.ReadAt(0, 4, magic));
  if (std::string(magic, 4) != "GGUF") {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": not a model: expected a folder with config.json and safetensors, or a GGUF file"));
  }
  return OpenGguf(path);
}

}  // namespace rankine
