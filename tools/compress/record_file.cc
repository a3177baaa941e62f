#include "tools/compress/record_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "models/files/file.h"
#include "tools/compress/fingerprint.h"

namespace rankine {
namespace {

constexpr std::string_view kMagic = "RKRECORD1\n";
constexpr size_t kDigestChars = 32;

absl::Status SystemError(const std::string& what, const std::string& path) {
  return absl::InternalError(absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno)));
}

std::string Digest(std::string_view header, std::string_view payload) {
  Fingerprint f;
  f.Add(header);
  f.Add(payload);
  return f.Hex();
}

absl::Status WriteAll(int file, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return SystemError("write", path);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status SyncPath(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return SystemError("open", path);
  const int failed = fsync(file);
  close(file);
  return failed != 0 ? SystemError("sync", path) : absl::OkStatus();
}

}  // namespace

absl::Status WriteRecord(const std::string& path, const Record& record) {
  const std::string temporary = path + ".tmp";
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return SystemError("create", temporary);
  absl::Status status = WriteAll(file,
                                 absl::StrCat(kMagic.data(), Digest(record.header, record.payload),
                                              "\n", record.header.size(), "\n", record.header),
                                 temporary);
  if (status.ok()) status = WriteAll(file, record.payload, temporary);
  if (status.ok() && fsync(file) != 0) status = SystemError("sync", temporary);
  if (close(file) != 0 && status.ok()) status = SystemError("close", temporary);
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return SystemError("rename to", path);
  return SyncPath(std::filesystem::path(path).parent_path());
}

absl::StatusOr<Record> ReadRecord(const std::string& path) {
  auto file = ReadOnlyFile::Open(path);
  if (!file.ok()) return file.status();
  std::string bytes(static_cast<size_t>(file->size()), '\0');
  if (auto status = file->ReadAt(0, file->size(), bytes.data()); !status.ok()) return status;
  const absl::Status damaged =
      absl::DataLossError(absl::StrCat(path, " is damaged; delete it to have it made again"));
  std::string_view rest = bytes;
  if (rest.substr(0, kMagic.size()) != kMagic) return damaged;
  rest.remove_prefix(kMagic.size());
  if (rest.size() < kDigestChars + 1 || rest[kDigestChars] != '\n') return damaged;
  const std::string_view digest = rest.substr(0, kDigestChars);
  rest.remove_prefix(kDigestChars + 1);
  const size_t end = rest.find('\n');
  uint64_t header_bytes = 0;
  if (end == std::string_view::npos ||
      !absl::SimpleAtoi(absl::string_view(rest.data(), end), &header_bytes)) {
    return damaged;
  }
  rest.remove_prefix(end + 1);
  if (header_bytes > rest.size()) return damaged;
  Record record;
  record.header = rest.substr(0, header_bytes);
  record.payload = rest.substr(header_bytes);
  if (Digest(record.header, record.payload) != digest) return damaged;
  return record;
}

}  // namespace rankine
