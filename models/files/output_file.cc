#include "models/files/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// pwrite transfers at most 0x7ffff000 bytes at once on Linux.
constexpr int64_t kMaxWriteBytes = int64_t{1} << 30;

absl::Status SystemError(const std::string& path, const char* what, int error) {
  const std::string message = absl::StrCat(path, ": cannot ", what, ": ", std::strerror(error));
  switch (error) {
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

absl::StatusOr<OutputFile> OutputFile::Create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return SystemError(path, "create", errno);
  return OutputFile(descriptor, path);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

absl::Status OutputFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const char* source = static_cast<const char*>(data);
  for (int64_t done = 0; done < bytes;) {
    const ssize_t written = ::pwrite(descriptor_, source + done,
                                     static_cast<size_t>(std::min(bytes - done, kMaxWriteBytes)),
                                     static_cast<off_t>(offset + done));
    if (written < 0) {
      if (errno == EINTR) continue;
      return SystemError(path_, "write", errno);
    }
    done += written;
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Sync() {
  if (::fsync(descriptor_) != 0) return SystemError(path_, "sync", errno);
  return absl::OkStatus();
}

absl::Status WriteNewFile(const std::string& path, std::string_view bytes) {
  RK_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  RK_RETURN_IF_ERROR(file.WriteAt(0, bytes.data(), static_cast<int64_t>(bytes.size())));
  return file.Sync();
}

absl::Status SyncFolder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(path, "open", errno);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (result != 0) return SystemError(path, "sync", error);
  return absl::OkStatus();
}

}  // namespace rankine
