#include "models/checkpoint/encoding_map.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/checkpoint/json.h"
#include "models/encode/encoding_name.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

constexpr int64_t kMaxMapBytes = int64_t{1} << 20;

absl::StatusOr<std::vector<EncodingRule>> ReadJson(const std::string& text,
                                                   const std::string& path) {
  RK_ASSIGN_OR_RETURN(const JsonValue root, JsonValue::Parse(text, path));
  RK_ASSIGN_OR_RETURN(const auto members, root.Members());
  std::vector<EncodingRule> rules;
  for (const auto& [expression, value] : members) {
    RK_ASSIGN_OR_RETURN(const std::string encoding, value.String());
    RK_ASSIGN_OR_RETURN(EncodingRule rule, MakeEncodingRule(expression, encoding, path));
    rules.push_back(std::move(rule));
  }
  return rules;
}

absl::StatusOr<std::vector<EncodingRule>> ReadLines(const std::string& text,
                                                    const std::string& path) {
  std::vector<EncodingRule> rules;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    const std::string place = absl::StrCat(path, ": line ", number);
    if (words.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(place,
                       ": expected a regular expression and an encoding, such as \"mlp\\. "
                       "int4:g64\""));
    }
    RK_ASSIGN_OR_RETURN(EncodingRule rule, MakeEncodingRule(words[0], words[1], place));
    rules.push_back(std::move(rule));
  }
  return rules;
}

}  // namespace

absl::StatusOr<EncodingTarget> ParseEncodingTarget(std::string_view text) {
  if (text == "keep") return EncodingTarget{.keep = true};
  RK_ASSIGN_OR_RETURN(const Encoding encoding, ParseEncoding(text));
  return EncodingTarget{.encoding = encoding};
}

absl::StatusOr<EncodingRule> MakeEncodingRule(const std::string& expression,
                                              std::string_view encoding,
                                              const std::string& source) {
  const absl::StatusOr<EncodingTarget> target = ParseEncodingTarget(encoding);
  if (!target.ok()) {
    return absl::Status(target.status().code(),
                        absl::StrCat(source, ": ", target.status().message()));
  }
  const absl::StatusOr<NamePattern> pattern = NamePattern::Compile(expression);
  if (!pattern.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", pattern.status().message()));
  }
  return EncodingRule{.expression = expression, .target = *target, .pattern = *pattern};
}

absl::StatusOr<std::vector<EncodingRule>> ReadEncodingMap(const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxMapBytes));
  const absl::string_view content = absl::StripLeadingAsciiWhitespace(text);
  RK_ASSIGN_OR_RETURN(std::vector<EncodingRule> rules, !content.empty() && content[0] == '{'
                                                           ? ReadJson(text, path)
                                                           : ReadLines(text, path));
  if (rules.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": holds no rules"));
  return rules;
}

int FirstRule(const std::vector<EncodingRule>& rules, const std::string& linear) {
  for (size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].pattern.IsIn(linear)) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace rankine
