// JSON that comes from outside, parsed with limits and read with errors that name the file and the
// key: "config.json: rope_scaling.factor: is a string, expected a number".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

struct JsonLimits {
  int64_t max_bytes = int64_t{64} << 20;
  int max_depth = 32;
  // A value of two bytes of text takes over a hundred in memory: half a gigabyte at most.
  int64_t max_values = int64_t{4} << 20;
};

namespace internal {
struct JsonNode;
}

// One value of a parsed document. Immutable and cheap to copy: it shares the document, and stays
// valid after the JsonValue that it came from is gone.
class JsonValue {
 public:
  // Refuses, with the place named: text over the limits, anything after the value, a key that
  // occurs twice in one object, bytes that are not UTF-8. `source` (a file name) begins every
  // message.
  static absl::StatusOr<JsonValue> Parse(const std::string& text, const std::string& source,
                                         const JsonLimits& limits = {});
  // The same for the file at `path`.
  static absl::StatusOr<JsonValue> ParseFile(const std::string& path,
                                             const JsonLimits& limits = {});

  bool IsNull() const;
  bool IsObject() const;
  bool IsArray() const;
  bool IsString() const;
  bool IsBool() const;
  bool IsNumber() const;

  // kInvalidArgument when the value is of another type. Int also refuses fractions and what exceeds
  // int64.
  absl::StatusOr<std::string> String() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<int64_t> Int() const;
  absl::StatusOr<double> Number() const;
  absl::StatusOr<std::vector<JsonValue>> Elements() const;
  // In the order of the file.
  absl::StatusOr<std::vector<std::pair<std::string, JsonValue>>> Members() const;

  // The member `key` of an object; an error when it is missing. Null is a value like any other.
  absl::StatusOr<JsonValue> Get(const std::string& key) const;
  // The member `key` unless it is missing or null, or this is no object.
  std::optional<JsonValue> Find(const std::string& key) const;

  // What Parse was given.
  const std::string& source() const;
  // kInvalidArgument "source: key.path: what".
  absl::Status Error(const std::string& what) const;

 private:
  struct Document;
  JsonValue(std::shared_ptr<const Document> document, const internal::JsonNode* node,
            std::string path)
      : document_(std::move(document)), node_(node), path_(std::move(path)) {}
  absl::Status WrongType(const char* expected) const;

  std::shared_ptr<const Document> document_;
  const internal::JsonNode* node_;
  std::string path_;  // "terms[0].cores[2].legs"; empty for the whole document
};

}  // namespace rankine
