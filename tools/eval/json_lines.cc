#include "tools/eval/json_lines.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "models/files/text_file.h"

namespace rankine {

absl::StatusOr<std::vector<JsonValue>> ReadJsonLines(const std::string& path) {
  auto text = ReadTextFile(path);
  if (!text.ok()) return text.status();
  std::vector<JsonValue> objects;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    auto value = JsonValue::Parse(std::string(line), absl::StrCat(path, ":", number));
    if (!value.ok()) return value.status();
    if (!value->IsObject()) return value->Error("must be an object, one a line");
    objects.push_back(*std::move(value));
  }
  if (objects.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no lines of JSON"));
  }
  return objects;
}

}  // namespace rankine
