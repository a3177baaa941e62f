#include "tools/explore/json_file.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "models/files/json_text.h"
#include "models/files/output_file.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"
#include "tools/compress/fingerprint.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

std::string DigestOf(const Json& value) {
  Fingerprint digest;
  digest.Add(DumpJson(value, 1) + "\n");
  return digest.Hex();
}

}  // namespace

absl::Status ReplaceFile(const std::string& path, std::string_view bytes) {
  const std::string temporary = absl::StrCat(path, ".partial-", getpid());
  std::error_code error;
  std::filesystem::remove(temporary, error);
  RK_RETURN_IF_ERROR(WriteNewFile(temporary, bytes));
  std::filesystem::rename(temporary, path, error);
  if (!error) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
}

absl::Status WriteKeyedJson(const std::string& path, const std::string& key, const Json& value) {
  return ReplaceFile(
      path, DumpJson({{"key", key}, {"digest", DigestOf(value)}, {"value", value}}, 1) + "\n");
}

absl::StatusOr<Json> ReadKeyedJson(const std::string& path, const std::string& key) {
  RK_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("value") || json.value("key", Json()) != key ||
      json.value("digest", Json()) != DigestOf(json["value"])) {
    return absl::DataLossError(absl::StrCat(path, " is damaged, or of something else"));
  }
  return std::move(json["value"]);
}

}  // namespace rankine
