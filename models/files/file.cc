#include "models/files/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// pread transfers at most 0x7ffff000 bytes at once on Linux; 1 GiB steps stay below that.
constexpr int64_t kMaxReadBytes = int64_t{1} << 30;

std::string Range(int64_t offset, int64_t size) {
  return absl::StrCat(size, " bytes at offset ", offset);
}

}  // namespace

absl::StatusOr<ReadOnlyFile> ReadOnlyFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a named pipe must fail below, not wait for a writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int error = errno;
    const std::string message = absl::StrCat(path, ": cannot open: ", std::strerror(error));
    if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
    if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
    return absl::InvalidArgumentError(message);
  }
  struct stat info;
  if (::fstat(descriptor, &info) != 0) {
    const int error = errno;
    ::close(descriptor);
    return absl::InternalError(absl::StrCat(path, ": cannot stat: ", std::strerror(error)));
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  return ReadOnlyFile(descriptor, static_cast<int64_t>(info.st_size), path);
}

ReadOnlyFile::ReadOnlyFile(ReadOnlyFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

ReadOnlyFile& ReadOnlyFile::operator=(ReadOnlyFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

ReadOnlyFile::~ReadOnlyFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

absl::Status ReadOnlyFile::ReadAt(int64_t offset, int64_t size, void* out) const {
  if (offset < 0 || size < 0 || offset > size_ || size > size_ - offset) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": cannot read ", Range(offset, size),
                                              ": the file has ", size_, " bytes"));
  }
  char* destination = static_cast<char*>(out);
  for (int64_t done = 0; done < size;) {
    const ssize_t got = ::pread(descriptor_, destination + done,
                                static_cast<size_t>(std::min(size - done, kMaxReadBytes)),
                                static_cast<off_t>(offset + done));
    if (got < 0) {
      if (errno == EINTR) continue;
      return absl::InternalError(
          absl::StrCat(path_, ": cannot read ", Range(offset, size), ": ", std::strerror(errno)));
    }
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": cannot read ", Range(offset, size),
                                              ": the file has shrunk to ", offset + done,
                                              " bytes since it was opened"));
    }
    done += got;
  }
  return absl::OkStatus();
}

}  // namespace rankine
