#include "tools/explore/sensitivity.h"

#include <cmath>
#include <exception>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

using Json = nlohmann::json;

const Json* ArrayOf(const Json& json) {
  if (json.is_array()) return &json;
  for (const char* name : {"linears", "entries", "sensitivity"}) {
    if (json.is_object() && json.contains(name) && json.at(name).is_array()) return &json.at(name);
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::vector<Sensitivity>> ReadSensitivityFile(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Json* array = ArrayOf(json);
  if (array == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no array of {\"linear\", \"ratio\", \"loss\"}"));
  }
  std::vector<Sensitivity> result;
  for (const Json& entry : *array) {
    try {
      result.push_back({.linear = entry.at("linear").get<std::string>(),
                        .ratio = entry.at("ratio").get<double>(),
                        .loss = entry.at("loss").get<double>()});
    } catch (const std::exception& e) {  // what the library throws for other types
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": entry ", result.size(), ": ", e.what()));
    }
  }
  if (result.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " has no entries"));
  return result;
}

}  // namespace rankine
