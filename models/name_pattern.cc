#include "models/name_pattern.h"

#include <re2/re2.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace rankine {

absl::StatusOr<NamePattern> NamePattern::Compile(const std::string& expression) {
  RE2::Options options;
  options.set_log_errors(false);
  auto regex = std::make_shared<const RE2>(expression, options);
  if (!regex->ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", absl::CHexEscape(expression),
                     "' is not a regular expression: ", absl::CHexEscape(regex->error())));
  }
  return NamePattern(std::move(regex));
}

bool NamePattern::IsIn(const std::string& name) const { return RE2::PartialMatch(name, *regex_); }

bool NamePattern::Matches(const std::string& name) const { return RE2::FullMatch(name, *regex_); }

}  // namespace rankine
