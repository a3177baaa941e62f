// A file being written, by position.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// Owns the descriptor; movable. Every error names the path.
class OutputFile {
 public:
  // Creates the file; an error when it exists.
  static absl::StatusOr<OutputFile> Create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Returns when the data is on the disk.
  absl::Status Sync();

 private:
  OutputFile(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}

  int descriptor_ = -1;
  std::string path_;
};

// Creates `path` with these bytes and syncs it.
absl::Status WriteNewFile(const std::string& path, std::string_view bytes);

// Syncs a folder, so that the names in it survive a crash.
absl::Status SyncFolder(const std::string& path);

}  // namespace rankine
