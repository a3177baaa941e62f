#include "models/files/text_file.h"

#include "absl/strings/str_cat.h"
#include "models/files/file.h"
#include "models/status_macros.h"

namespace rankine {

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes) {
  RK_ASSIGN_OR_RETURN(const ReadOnlyFile file, ReadOnlyFile::Open(path));
  if (file.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file.size(), " bytes, over the limit of ", max_bytes));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  RK_RETURN_IF_ERROR(file.ReadAt(0, file.size(), text.data()));
  return text;
}

}  // namespace rankine
