// The folder OUT.factorize of a run that is under way: the arguments it belongs to, and one part
// for each finished layer. Locked while a run uses it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// Arguments by name, in a fixed order: what decides the bytes of the result.
using WorkArguments = std::vector<std::pair<std::string, std::string>>;

// Owns the lock; movable.
class WorkFolder {
 public:
  static std::string PathOf(const std::string& out);

  // Creates the folder, or goes on in one that an earlier run with the same arguments left.
  // kFailedPrecondition: it belongs to other arguments (the first that differs is named), or
  // another run is at work in it.
  static absl::StatusOr<WorkFolder> Open(const std::string& out, const WorkArguments& arguments);
  WorkFolder(WorkFolder&& other) noexcept;
  WorkFolder& operator=(WorkFolder&& other) noexcept;
  ~WorkFolder();

  std::string PartPath(int64_t layer) const;
  // Deletes the folder: the run is complete.
  absl::Status Remove();

 private:
  WorkFolder(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::string path_;
  int lock_ = -1;
};

// Deletes what runs that were killed while they wrote `out` have left beside it: staging folders
// (models/checkpoint/folder_writer.h) of processes that are gone.
void RemoveStaleStaging(const std::string& out);

}  // namespace rankine
