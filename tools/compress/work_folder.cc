#include "tools/compress/work_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/compress/record_file.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

constexpr char kArgumentsFile[] = "/arguments.record";

absl::StatusOr<int> Lock(const std::string& path) {
  const std::string file = path + "/lock";
  const int lock = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot create ", file, ": ", std::strerror(errno)));
  }
  if (flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
  close(lock);
  return absl::FailedPreconditionError(absl::StrCat("another run is at work in ", path));
}

std::string ToJson(const WorkArguments& arguments) {
  nlohmann::ordered_json j = nlohmann::ordered_json::object();
  for (const auto& [name, value] : arguments) j[name] = value;
  return DumpJson(j);
}

// An error that says which argument differs.
absl::Status Compare(const std::string& path, const std::string& stored,
                     const WorkArguments& arguments) {
  if (stored == ToJson(arguments)) return absl::OkStatus();
  const auto old = nlohmann::json::parse(stored, nullptr, /*allow_exceptions=*/false);
  std::string difference = "other arguments";
  if (old.is_object()) {
    for (const auto& [name, value] : arguments) {
      const auto found = old.find(name);
      if (found != old.end() && found->is_string() && *found == value) continue;
      const std::string before =
          found != old.end() && found->is_string() ? found->get<std::string>() : "absent";
      difference = absl::StrCat("another ", name, " ('", before, "', now '", value, "')");
      break;
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat(path, " holds an interrupted run with ", difference,
                   ": repeat that run, or delete the folder to start anew"));
}

}  // namespace

std::string WorkFolder::PathOf(const std::string& out) {
  std::string target = out;
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  return target + ".factorize";
}

absl::StatusOr<WorkFolder> WorkFolder::Open(const std::string& out,
                                            const WorkArguments& arguments) {
  const std::string path = PathOf(out);
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("cannot create ", path, ": ", error.message()));
  }
  RK_ASSIGN_OR_RETURN(const int lock, Lock(path));
  WorkFolder folder(path, lock);
  const auto stored = ReadRecord(path + kArgumentsFile);
  if (stored.ok()) {
    RK_RETURN_IF_ERROR(Compare(path, stored->header, arguments));
  } else if (absl::IsNotFound(stored.status())) {
    RK_RETURN_IF_ERROR(WriteRecord(path + kArgumentsFile, {.header = ToJson(arguments)}));
  } else {
    return stored.status();
  }
  return folder;
}

WorkFolder::WorkFolder(WorkFolder&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

WorkFolder& WorkFolder::operator=(WorkFolder&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(lock_, other.lock_);
  return *this;
}

WorkFolder::~WorkFolder() {
  if (lock_ >= 0) close(lock_);
}

void RemoveStaleStaging(const std::string& out) {
  const fs::path target(WorkFolder::PathOf(out));  // "OUT.factorize"
  const std::string prefix = absl::StrCat(target.stem().string(), ".partial-");
  const fs::path parent = target.has_parent_path() ? target.parent_path() : fs::path(".");
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename();
    if (!absl::StartsWith(name, prefix)) continue;
    const std::string pid =
        name.substr(prefix.size(), name.find('-', prefix.size()) - prefix.size());
    int process = 0;
    if (!absl::SimpleAtoi(pid, &process) || process <= 0) continue;
    if (kill(process, 0) == 0 || errno != ESRCH) continue;
    fs::remove_all(entry.path(), ignored);
  }
}

std::string WorkFolder::PartPath(int64_t layer) const {
  return absl::StrFormat("%s/layer_%05d.part", path_, layer);
}

absl::Status WorkFolder::Remove() {
  std::error_code error;
  fs::remove_all(path_, error);
  if (error) {
    return absl::InternalError(absl::StrCat("cannot remove ", path_, ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace rankine
