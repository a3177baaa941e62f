#include "models/checkpoint/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/files/text_file.h"

namespace rankine {
namespace internal {

enum class JsonType : uint8_t { kNull, kBool, kInt, kFloat, kString, kArray, kObject };

struct JsonNode {
  JsonType type = JsonType::kNull;
  bool boolean = false;
  int64_t integer = 0;
  double number = 0;
  std::string string = {};
  std::vector<std::string> keys = {};   // kObject: keys[k] names children[k]
  std::vector<JsonNode> children = {};  // kArray and kObject
};

}  // namespace internal

namespace {

using internal::JsonNode;
using internal::JsonType;

// Builds nodes from the events of nlohmann's parser, which keeps its own stack on the heap: depth
// costs no recursion there, and is limited here before anything recursive (the destructor) can see
// it.
class NodeBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit NodeBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(JsonNode{}); }
  bool boolean(bool value) override {
    return Add(JsonNode{.type = JsonType::kBool, .boolean = value});
  }
  bool number_integer(number_integer_t value) override { return AddInt(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(INT64_MAX)) {
      return Add(JsonNode{.type = JsonType::kFloat, .number = static_cast<double>(value)});
    }
    return AddInt(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(JsonNode{.type = JsonType::kFloat, .number = value});
  }
  bool string(string_t& value) override {
    return Add(JsonNode{.type = JsonType::kString, .string = std::move(value)});
  }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }
  bool start_object(size_t) override { return Open(JsonType::kObject); }
  bool key(string_t& value) override {
    open_.back().keys.push_back(std::move(value));
    return true;
  }
  bool end_object() override {
    std::vector<const std::string*> sorted;
    for (const std::string& key : open_.back().keys) sorted.push_back(&key);
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return *a < *b; });
    for (size_t k = 1; k < sorted.size(); ++k) {
      if (*sorted[k] == *sorted[k - 1]) {
        return Fail(absl::StrCat("the key \"", absl::CHexEscape(*sorted[k]),
                                 "\" occurs twice in one object"));
      }
    }
    return Close();
  }
  bool start_array(size_t) override { return Open(JsonType::kArray); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ..."
    std::string what = error.what();
    const size_t end = what.find("] ");
    if (end != std::string::npos) what = what.substr(end + 2);
    if (what.size() > 300) what.resize(300);
    return Fail(absl::StrCat("not valid JSON (byte ", position, "): ", absl::CHexEscape(what)));
  }

  const std::string& error() const { return error_; }
  JsonNode TakeRoot() { return std::move(root_); }

 private:
  bool Fail(std::string what) {
    if (error_.empty()) error_ = std::move(what);
    return false;
  }
  bool AddInt(int64_t value) {
    return Add(
        JsonNode{.type = JsonType::kInt, .integer = value, .number = static_cast<double>(value)});
  }
  // One more value, before there is a node for it.
  bool Count() {
    if (++num_values_ <= limits_.max_values) return true;
    return Fail(absl::StrCat("more than ", limits_.max_values, " values"));
  }
  bool Add(JsonNode node) { return Count() && Append(std::move(node)); }
  bool Append(JsonNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      open_.back().children.push_back(std::move(node));
    }
    return true;
  }
  bool Open(JsonType type) {
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      return Fail(absl::StrCat("nested deeper than ", limits_.max_depth, " levels"));
    }
    if (!Count()) return false;
    open_.push_back(JsonNode{.type = type});
    return true;
  }
  bool Close() {
    JsonNode node = std::move(open_.back());
    open_.pop_back();
    return Append(std::move(node));
  }

  const JsonLimits limits_;
  int64_t num_values_ = 0;
  std::vector<JsonNode> open_;
  JsonNode root_;
  std::string error_;
};

const char* TypeName(JsonType type) {
  switch (type) {
    case JsonType::kNull:
      return "null";
    case JsonType::kBool:
      return "a boolean";
    case JsonType::kInt:
    case JsonType::kFloat:
      return "a number";
    case JsonType::kString:
      return "a string";
    case JsonType::kArray:
      return "an array";
    case JsonType::kObject:
      return "an object";
  }
  return "?";
}

std::string Member(const std::string& path, const std::string& key) {
  return path.empty() ? key : absl::StrCat(path, ".", key);
}

}  // namespace

struct JsonValue::Document {
  std::string source;
  JsonNode root;
};

absl::StatusOr<JsonValue> JsonValue::Parse(const std::string& text, const std::string& source,
                                           const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": ", text.size(), " bytes of JSON, over the limit of ", limits.max_bytes));
  }
  NodeBuilder builder(limits);
  if (!nlohmann::json::sax_parse(text, &builder)) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", builder.error()));
  }
  auto document =
      std::make_shared<Document>(Document{.source = source, .root = builder.TakeRoot()});
  const JsonNode* root = &document->root;
  return JsonValue(std::move(document), root, "");
}

absl::StatusOr<JsonValue> JsonValue::ParseFile(const std::string& path, const JsonLimits& limits) {
  absl::StatusOr<std::string> text = ReadTextFile(path, limits.max_bytes);
  if (!text.ok()) return text.status();
  return Parse(*text, path, limits);
}

bool JsonValue::IsNull() const { return node_->type == JsonType::kNull; }
bool JsonValue::IsObject() const { return node_->type == JsonType::kObject; }
bool JsonValue::IsArray() const { return node_->type == JsonType::kArray; }
bool JsonValue::IsString() const { return node_->type == JsonType::kString; }
bool JsonValue::IsBool() const { return node_->type == JsonType::kBool; }
bool JsonValue::IsNumber() const {
  return node_->type == JsonType::kInt || node_->type == JsonType::kFloat;
}

absl::StatusOr<std::string> JsonValue::String() const {
  if (!IsString()) return WrongType("a string");
  return node_->string;
}

absl::StatusOr<bool> JsonValue::Bool() const {
  if (!IsBool()) return WrongType("true or false");
  return node_->boolean;
}

absl::StatusOr<int64_t> JsonValue::Int() const {
  if (node_->type == JsonType::kFloat) return Error("is not a whole number that fits in 64 bits");
  if (node_->type != JsonType::kInt) return WrongType("a whole number");
  return node_->integer;
}

absl::StatusOr<double> JsonValue::Number() const {
  if (!IsNumber()) return WrongType("a number");
  return node_->number;
}

absl::StatusOr<std::vector<JsonValue>> JsonValue::Elements() const {
  if (!IsArray()) return WrongType("an array");
  std::vector<JsonValue> elements;
  for (size_t k = 0; k < node_->children.size(); ++k) {
    elements.push_back(JsonValue(document_, &node_->children[k], absl::StrCat(path_, "[", k, "]")));
  }
  return elements;
}

absl::StatusOr<std::vector<std::pair<std::string, JsonValue>>> JsonValue::Members() const {
  if (!IsObject()) return WrongType("an object");
  std::vector<std::pair<std::string, JsonValue>> members;
  for (size_t k = 0; k < node_->children.size(); ++k) {
    const std::string& key = node_->keys[k];
    members.emplace_back(key, JsonValue(document_, &node_->children[k], Member(path_, key)));
  }
  return members;
}

absl::StatusOr<JsonValue> JsonValue::Get(const std::string& key) const {
  if (!IsObject()) return WrongType("an object");
  const auto found = std::find(node_->keys.begin(), node_->keys.end(), key);
  if (found == node_->keys.end()) return Error(absl::StrCat("\"", key, "\" is missing"));
  return JsonValue(document_, &node_->children[found - node_->keys.begin()], Member(path_, key));
}

std::optional<JsonValue> JsonValue::Find(const std::string& key) const {
  if (!IsObject()) return std::nullopt;
  const auto found = std::find(node_->keys.begin(), node_->keys.end(), key);
  if (found == node_->keys.end()) return std::nullopt;
  JsonValue value(document_, &node_->children[found - node_->keys.begin()], Member(path_, key));
  if (value.IsNull()) return std::nullopt;
  return value;
}

const std::string& JsonValue::source() const { return document_->source; }

absl::Status JsonValue::Error(const std::string& what) const {
  const std::string place = path_.empty() ? "" : absl::StrCat(absl::CHexEscape(path_), ": ");
  return absl::InvalidArgumentError(absl::StrCat(document_->source, ": ", place, what));
}

absl::Status JsonValue::WrongType(const char* expected) const {
  return Error(absl::StrCat("is ", TypeName(node_->type), ", expected ", expected));
}

}  // namespace rankine
