#include "models/checkpoint/folder_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/files/output_file.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"
#include "models/tokenizer/tokenizer.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

absl::Status Exists(const std::string& out) {
  return absl::AlreadyExistsError(
      absl::StrCat(out, " exists already: remove it or choose another name"));
}

std::string ParentOf(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

absl::Status CopyIfThere(const std::string& from, const std::string& to) {
  std::error_code ignored;
  if (!fs::exists(from, ignored)) return absl::OkStatus();
  fs::create_directories(ParentOf(to), ignored);  // writing says what failed
  RK_ASSIGN_OR_RETURN(const std::string bytes, ReadTextFile(from));
  return WriteNewFile(to, bytes);
}

}  // namespace

absl::StatusOr<FolderWriter> FolderWriter::Create(const std::string& out) {
  std::string target = out;
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  if (target.empty() || target == "/" || target == "." || target == "..") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", out, "\" cannot be the name of a new folder"));
  }
  std::error_code error;
  if (fs::exists(fs::symlink_status(target, error))) return Exists(target);
  fs::create_directories(ParentOf(target), error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat(ParentOf(target), ": cannot create: ", error.message()));
  }
  std::string staging = absl::StrCat(target, ".partial-", ::getpid(), "-XXXXXX");
  if (::mkdtemp(staging.data()) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(staging, ": cannot create: ", std::strerror(errno)));
  }
  // mkdtemp makes it private; a model folder is as open as the user's umask lets it be.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::chmod(staging.c_str(), 0777 & ~mask);
  return FolderWriter(target, staging);
}

FolderWriter::FolderWriter(FolderWriter&& other) noexcept
    : out_(std::move(other.out_)), staging_(std::exchange(other.staging_, "")) {}

FolderWriter& FolderWriter::operator=(FolderWriter&& other) noexcept {
  std::swap(out_, other.out_);
  std::swap(staging_, other.staging_);
  return *this;
}

FolderWriter::~FolderWriter() {
  if (staging_.empty()) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

absl::Status FolderWriter::WriteFile(const std::string& name, std::string_view bytes) {
  return WriteNewFile(absl::StrCat(staging_, "/", name), bytes);
}

absl::Status FolderWriter::Commit() {
  RK_RETURN_IF_ERROR(SyncFolder(staging_));
  // Not plain rename, which would replace an empty folder that appeared meanwhile.
  if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, out_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) return Exists(out_);
    // Some file systems (NFS, FUSE) know no flags.
    if (errno != EINVAL || fs::exists(out_) || ::rename(staging_.c_str(), out_.c_str()) != 0) {
      return absl::InternalError(
          absl::StrCat(out_, ": cannot rename ", staging_, " to it: ", std::strerror(errno)));
    }
  }
  staging_.clear();
  return SyncFolder(ParentOf(out_));
}

absl::Status CopyCompanions(const Checkpoint& source, const std::string& staging) {
  static constexpr const char* kNames[] = {
      "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "USE_POLICY.md", "tokenizer.json",
      "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt",
      "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
      "generation_config.json",
      // of sentence-transformers
      "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
      "1_Pooling/config.json"};
  if (source.gguf_vocabulary() != nullptr) {
    return WriteTokenizer(*source.gguf_vocabulary(), staging);
  }
  if (source.folder().empty()) return absl::OkStatus();
  for (const char* name : kNames) {
    RK_RETURN_IF_ERROR(
        CopyIfThere(absl::StrCat(source.folder(), "/", name), absl::StrCat(staging, "/", name)));
  }
  return absl::OkStatus();
}

}  // namespace rankine
