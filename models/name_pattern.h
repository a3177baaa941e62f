// Regular expressions over the names of tensors, as users and files give them.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace re2 {
class RE2;
}

namespace rankine {

// RE2's syntax, that of Perl without look-around and back references: what an expression from a
// stranger's file can cost is linear in the name. Copies share the compiled expression.
class NamePattern {
 public:
  // kInvalidArgument: "'EXPRESSION' is not a regular expression: WHY"; callers say where it stood.
  static absl::StatusOr<NamePattern> Compile(const std::string& expression);

  bool IsIn(const std::string& name) const;     // anywhere in it
  bool Matches(const std::string& name) const;  // all of it

 private:
  explicit NamePattern(std::shared_ptr<const re2::RE2> regex) : regex_(std::move(regex)) {}

  std::shared_ptr<const re2::RE2> regex_;
};

}  // namespace rankine
