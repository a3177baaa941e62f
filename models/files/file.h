// A regular file opened once for reading and read by position.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// Owns the descriptor; movable. Thread-safe: ReadAt is pread and shares no file position. Nothing
// is mapped, so a file that shrinks while it is open makes a read fail instead of killing the
// process.
class ReadOnlyFile {
 public:
  // kNotFound when there is no such file, kInvalidArgument when it is not a regular file; both name
  // the path.
  static absl::StatusOr<ReadOnlyFile> Open(const std::string& path);

  ReadOnlyFile(ReadOnlyFile&& other) noexcept;
  ReadOnlyFile& operator=(ReadOnlyFile&& other) noexcept;
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;
  ~ReadOnlyFile();

  // In bytes, when the file was opened.
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  // Fills out[0, size) from `offset`: all bytes, or an error that names the file, the offset and
  // the size (kOutOfRange for a range outside the file, kDataLoss when the file has shrunk,
  // kInternal for an I/O error).
  absl::Status ReadAt(int64_t offset, int64_t size, void* out) const;

 private:
  ReadOnlyFile(int descriptor, int64_t size, std::string path)
      : descriptor_(descriptor), size_(size), path_(std::move(path)) {}

  int descriptor_ = -1;
  int64_t size_ = 0;
  std::string path_;
};

}  // namespace rankine
