// Reading JSON that comes from outside: every access is checked, and an error names the place
// ("model.merges[3]"). For .cc files only: it brings in the JSON library.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine::tokenizer {

// A value and its place. Getters on a missing key return the default where they take one. The first
// error is kept in a status that all values of a document share, so that a reader checks once at
// its end.
class JsonValue {
 public:
  JsonValue(const nlohmann::json* value, std::string path, absl::Status* status)
      : value_(value), path_(std::move(path)), status_(status) {}

  bool IsNull() const { return value_ == nullptr || value_->is_null(); }
  bool IsObject() const { return value_ != nullptr && value_->is_object(); }
  bool IsArray() const { return value_ != nullptr && value_->is_array(); }
  bool IsString() const { return value_ != nullptr && value_->is_string(); }
  const std::string& path() const { return path_; }
  // Null when the key is missing.
  const nlohmann::json* raw() const { return value_; }

  // Missing keys and values that are no objects give a null value (the latter is an error).
  JsonValue operator[](const char* key) const;
  // Elements of an array; none, and an error, when this is not an array.
  std::vector<JsonValue> Elements() const;

  std::string String() const;
  std::string String(const std::string& if_missing) const;
  bool Bool(bool if_missing) const;
  int64_t Int() const;

  // An error that names each key that is not in the list: what is not understood must not be
  // ignored.
  void AllowKeys(std::initializer_list<const char*> keys) const;

  void Fail(std::string_view message) const;
  void NotSupported(std::string_view what) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
  absl::Status* status_;
};

// Refuses text that is not JSON or not UTF-8, and nesting deeper than 64. `name` is the file, for
// messages.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& name);

}  // namespace rankine::tokenizer
