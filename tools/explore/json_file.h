// JSON files of an exploration's folder that know what they are of: {"key", "digest", "value"}.
// Includes a third-party header: for .cc files of this folder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// Replaces `path`: it is there whole, or as it was. The error names it.
absl::Status ReplaceFile(const std::string& path, std::string_view bytes);

absl::Status WriteKeyedJson(const std::string& path, const std::string& key,
                            const nlohmann::ordered_json& value);
// The value. kNotFound: no such file. kDataLoss: it is damaged, or another key's.
absl::StatusOr<nlohmann::ordered_json> ReadKeyedJson(const std::string& path,
                                                     const std::string& key);

}  // namespace rankine
