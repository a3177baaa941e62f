#include "tools/compress/methods/settings.h"

#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/encode/encoding_name.h"

namespace rankine {
namespace {

absl::Status CheckValue(const MethodOption& option, const std::string& value) {
  const std::string flag = absl::StrCat("--", std::string(option.name));
  if (option.kind == MethodOption::Kind::kWord) {
    const std::string words = absl::StrCat(" ", std::string(option.words), " ");
    const bool allowed = value.find(' ') == std::string::npos &&
                         words.find(absl::StrCat(" ", value, " ")) != std::string::npos;
    if (option.words.empty() || allowed) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", value, " is not one of:", words.substr(0, words.size() - 1), " (",
                     std::string(option.help), ")"));
  }
  if (option.kind == MethodOption::Kind::kEncoding) {
    const auto encoding = ParseEncoding(value);
    if (encoding.ok()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", encoding.status().message()));
  }
  double number = 0;
  const bool parsed = absl::SimpleAtod(value, &number) && number >= option.min &&
                      number <= option.max &&
                      (option.kind == MethodOption::Kind::kNumber || number == std::floor(number));
  if (parsed) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " ", value, " is not ",
                   option.kind == MethodOption::Kind::kInteger ? "a whole number" : "a number",
                   " from ", option.min, " to ", option.max));
}

}  // namespace

absl::StatusOr<MethodSettings> MethodSettings::Create(std::string_view method,
                                                      absl::Span<const MethodOption> options,
                                                      const OptionValues& values) {
  MethodSettings settings;
  size_t used = 0;
  for (const MethodOption& option : options) {
    const auto given = values.find(std::string(option.name));
    const std::string value =
        given == values.end() ? std::string(option.default_value) : given->second;
    used += given != values.end();
    if (auto status = CheckValue(option, value); !status.ok()) return status;
    settings.values_.emplace_back(option.name, value);
  }
  if (used == values.size()) return settings;
  for (const auto& [name, value] : values) {
    bool known = false;
    for (const MethodOption& option : options) known = known || option.name == name;
    if (known) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("method ", std::string(method), " has no option --", name));
  }
  return settings;
}

const std::string& MethodSettings::Word(std::string_view name) const {
  for (const auto& [key, value] : values_) {
    if (key == name) return value;
  }
  RK_CHECK(!"an option that the method does not declare");
  return values_[0].second;
}

double MethodSettings::Number(std::string_view name) const {
  double number = 0;
  RK_CHECK(absl::SimpleAtod(Word(name), &number));
  return number;
}

int64_t MethodSettings::Integer(std::string_view name) const {
  return static_cast<int64_t>(Number(name));
}

Encoding MethodSettings::EncodingOf(std::string_view name) const {
  const auto encoding = ParseEncoding(Word(name));
  RK_CHECK(encoding.ok());
  return *encoding;
}

}  // namespace rankine
