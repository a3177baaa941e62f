// Points that earlier runs measured, a JSON file each in a folder.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/explore/point.h"

namespace rankine {

class PointCache {
 public:
  // Makes the folder when it is not there.
  static absl::StatusOr<PointCache> Open(const std::string& folder);

  // The point of a key (hexadecimal digits: of all that decides its figures). kNotFound: none.
  // kDataLoss: the file is damaged, or another key's that was renamed; it may be written again.
  absl::StatusOr<PointResult> Read(const std::string& key) const;
  // Appears whole or not at all.
  absl::Status Write(const std::string& key, const PointResult& point) const;
  absl::Status Remove(const std::string& key) const;

  const std::string& folder() const { return folder_; }

 private:
  explicit PointCache(std::string folder) : folder_(std::move(folder)) {}
  std::string PathOf(const std::string& key) const { return folder_ + "/" + key + ".json"; }

  std::string folder_;
};

}  // namespace rankine
