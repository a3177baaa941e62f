// One run at a time in a folder.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace rankine {

// Holds the lock as long as it lives, and at most as long as the process does. Movable.
class FolderLock {
 public:
  // Makes the folder when it is not there. kFailedPrecondition: another run holds it.
  static absl::StatusOr<FolderLock> Take(const std::string& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock();

 private:
  explicit FolderLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_ = -1;
};

}  // namespace rankine
