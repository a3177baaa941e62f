// Results as JSON: of the cache, and of explore.json. Includes a third-party header: for .cc files
// of this folder.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tools/explore/point.h"

namespace rankine {

std::string_view KindName(PointKind kind);  // "dense", "baseline", "encode", "factorize"

nlohmann::ordered_json PointToJson(const PointResult& point);
// kDataLoss: a field is missing or has another type.
absl::StatusOr<PointResult> PointFromJson(const nlohmann::ordered_json& json);

}  // namespace rankine
