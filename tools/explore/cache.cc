#include "tools/explore/cache.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/explore/json_file.h"
#include "tools/explore/point_json.h"

namespace rankine {

absl::StatusOr<PointCache> PointCache::Open(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot create ", folder, ": ", error.message()));
  }
  return PointCache(folder);
}

absl::StatusOr<PointResult> PointCache::Read(const std::string& key) const {
  RK_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, ReadKeyedJson(PathOf(key), key));
  auto point = PointFromJson(json);
  if (point.ok()) return point;
  return absl::DataLossError(absl::StrCat(PathOf(key), ": ", point.status().message()));
}

absl::Status PointCache::Write(const std::string& key, const PointResult& point) const {
  return WriteKeyedJson(PathOf(key), key, PointToJson(point));
}

absl::Status PointCache::Remove(const std::string& key) const {
  std::error_code error;
  std::filesystem::remove(PathOf(key), error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(PathOf(key), ": ", error.message()));
}

}  // namespace rankine
