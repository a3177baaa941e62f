#include "models/tokenizer/json_value.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace rankine::tokenizer {
namespace {

constexpr int kMaxDepth = 64;

// Nesting is bounded before the parser sees the text, so that no recursion follows the file.
bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& name) {
  if (IsTooDeep(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": nested deeper than ", kMaxDepth, " levels"));
  }
  nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not valid JSON in UTF-8"));
  }
  return value;
}

void JsonValue::Fail(std::string_view message) const {
  if (!status_->ok()) return;
  *status_ = absl::InvalidArgumentError(absl::StrCat(path_, ": ", std::string(message)));
}

void JsonValue::NotSupported(std::string_view what) const {
  if (!status_->ok()) return;
  *status_ =
      absl::UnimplementedError(absl::StrCat(path_, ": ", std::string(what), " is not supported"));
}

JsonValue JsonValue::operator[](const char* key) const {
  const std::string path = path_.empty() ? std::string(key) : absl::StrCat(path_, ".", key);
  if (value_ == nullptr || !value_->is_object()) {
    Fail("should be an object");
    return JsonValue(nullptr, path, status_);
  }
  const auto found = value_->find(key);
  return JsonValue(found == value_->end() ? nullptr : &*found, path, status_);
}

std::vector<JsonValue> JsonValue::Elements() const {
  std::vector<JsonValue> elements;
  if (!IsArray()) {
    Fail("should be an array");
    return elements;
  }
  elements.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    elements.emplace_back(&(*value_)[i], absl::StrCat(path_, "[", i, "]"), status_);
  }
  return elements;
}

std::string JsonValue::String() const {
  if (!IsString()) {
    Fail("should be a string");
    return std::string();
  }
  return value_->get_ref<const std::string&>();
}

std::string JsonValue::String(const std::string& if_missing) const {
  return IsNull() ? if_missing : String();
}

bool JsonValue::Bool(bool if_missing) const {
  if (IsNull()) return if_missing;
  if (!value_->is_boolean()) {
    Fail("should be true or false");
    return if_missing;
  }
  return value_->get<bool>();
}

int64_t JsonValue::Int() const {
  // An unsigned number past int64 would wrap.
  const bool fits = value_ != nullptr && value_->is_number_integer() &&
                    (!value_->is_number_unsigned() || value_->get<uint64_t>() <= INT64_MAX);
  if (!fits) {
    Fail("should be an integer");
    return 0;
  }
  return value_->get<int64_t>();
}

void JsonValue::AllowKeys(std::initializer_list<const char*> keys) const {
  if (!IsObject()) {
    Fail("should be an object");
    return;
  }
  for (const auto& [key, unused] : value_->items()) {
    const bool known = std::any_of(keys.begin(), keys.end(), [&key = key](const char* allowed) {
      return std::strcmp(allowed, key.c_str()) == 0;
    });
    if (!known) NotSupported(absl::StrCat("the key \"", key, "\""));
  }
}

}  // namespace rankine::tokenizer
