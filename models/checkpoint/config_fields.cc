#include "models/checkpoint/config_fields.h"

#include <algorithm>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {

absl::StatusOr<int64_t> IntOr(const JsonValue& object, const std::string& key, int64_t fallback) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return fallback;
  return value->Int();
}

absl::StatusOr<double> NumberOr(const JsonValue& object, const std::string& key, double fallback) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return fallback;
  return value->Number();
}

absl::StatusOr<bool> BoolOr(const JsonValue& object, const std::string& key, bool fallback) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return fallback;
  return value->Bool();
}

absl::StatusOr<int64_t> RequiredInt(const JsonValue& object, const std::string& key) {
  RK_ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  return value.Int();
}

absl::StatusOr<std::string> StringOr(const JsonValue& object, const std::string& key,
                                     const std::string& fallback) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return fallback;
  return value->String();
}

absl::Status AddTokenIds(const JsonValue& object, const std::string& key, int64_t vocab_size,
                         std::vector<int32_t>* ids) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return absl::OkStatus();
  std::vector<JsonValue> elements = {*value};
  if (value->IsArray()) {
    RK_ASSIGN_OR_RETURN(elements, value->Elements());
  }
  for (const JsonValue& element : elements) {
    RK_ASSIGN_OR_RETURN(const int64_t id, element.Int());
    if (id == -1) continue;  // some writers' way to say none
    if (id < 0 || id >= vocab_size) {
      return element.Error(
          absl::StrCat("token id ", id, " is outside the vocabulary of ", vocab_size));
    }
    if (std::find(ids->begin(), ids->end(), id) == ids->end()) {
      ids->push_back(static_cast<int32_t>(id));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRange(int64_t value, int64_t max, const char* key, const std::string& source) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": ", key, ": ", value, " is not between 1 and ", max));
}

absl::Status CheckOnly(const JsonValue& root, const std::string& key, const char* what,
                       const char* supported) {
  const std::optional<JsonValue> value = root.Find(key);
  if (!value) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const std::string name, value->String());
  if (name == supported) return absl::OkStatus();
  return value->Error(absl::StrCat(what, " \"", absl::CHexEscape(name),
                                   "\" is not supported; supported: ", supported));
}

const char* ConfigDTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    default:
      return "float32";
  }
}

void WriteTokenIds(const ModelConfig& config, nlohmann::ordered_json* root) {
  (*root)["bos_token_id"] =
      config.bos_id < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(config.bos_id);
  if (config.eos_ids.size() == 1) {
    (*root)["eos_token_id"] = config.eos_ids[0];
  } else {
    (*root)["eos_token_id"] =
        config.eos_ids.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(config.eos_ids);
  }
}

}  // namespace rankine
