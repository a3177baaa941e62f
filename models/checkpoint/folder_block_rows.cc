#include "models/checkpoint/folder_block_rows.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// The entry that holds a role, when it has whole rows of that role.
absl::StatusOr<const SafetensorsEntry*> FindRole(const SafetensorsSet& files, const Core& core,
                                                 const BlockRole& role, int64_t row_end) {
  const std::string& name = core.TensorOf(role.role);
  const SafetensorsEntry* entry = files.Find(name);
  if (entry == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("core ", core.name, ": role ", role.role,
                                                   ": no tensor ", absl::CHexEscape(name)));
  }
  if (entry->dtype != SafetensorsDTypeName(role.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", absl::CHexEscape(name), " is ",
                                                   entry->dtype, ", expected ",
                                                   SafetensorsDTypeName(role.dtype)));
  }
  const bool per_matrix = role.row_values == 0;
  const int64_t last = entry->shape.empty() ? 0 : entry->shape.back();
  if (last != (per_matrix ? 1 : role.row_values)) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", absl::CHexEscape(name),
                                                   " has rows of ", last, " values, expected ",
                                                   per_matrix ? 1 : role.row_values));
  }
  const int64_t rows = per_matrix ? row_end : entry->bytes / role.row_bytes();
  if (row_end > rows) {
    return absl::OutOfRangeError(absl::StrCat("tensor ", absl::CHexEscape(name), " has ", rows,
                                              " rows; rows up to ", row_end, " were asked for"));
  }
  return entry;
}

absl::Status ReadRoles(const SafetensorsSet& files, const Core& core, int64_t row_begin,
                       BlockRowsBuffer* out) {
  std::vector<uint8_t> stored;
  for (const BlockRole& role : BlockRoles(out->encoding, out->cols)) {
    RK_ASSIGN_OR_RETURN(const SafetensorsEntry* entry,
                        FindRole(files, core, role, row_begin + out->rows));
    const bool per_matrix = role.row_values == 0;
    const int64_t size = per_matrix ? entry->bytes : out->rows * role.row_bytes();
    stored.resize(static_cast<size_t>(size));
    RK_RETURN_IF_ERROR(
        files.Read(*entry, per_matrix ? 0 : row_begin * role.row_bytes(), size, stored.data()));
    const absl::Status status = LoadRole(stored.data(), role, row_begin, out);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("tensor ", absl::CHexEscape(entry->name),
                                                      ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadFolderBlockRows(const SafetensorsSet& files, const std::string& source,
                                 const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                                 BlockRowsBuffer* out) {
  absl::Status status;
  if (core.encoding.IsFloat()) {
    status = absl::InvalidArgumentError(
        absl::StrCat("core ", core.name, " is float, not block-encoded"));
  } else if (row_begin < 0 || row_begin > row_end || cols < 1) {
    status = absl::OutOfRangeError(
        absl::StrCat("core ", core.name, ": rows ", row_begin, " to ", row_end, " of ", cols));
  } else {
    ResizeBlockRows(core.encoding, row_end - row_begin, cols, out);
    status = ReadRoles(files, core, row_begin, out);
  }
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(source, ": ", status.message()));
}

}  // namespace rankine
