// Options that belong to one method: the table of methods declares them, the command line offers
// each as a flag, and the method asks for them by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/encoding.h"

namespace rankine {

struct MethodOption {
  enum class Kind : uint8_t { kNumber, kInteger, kEncoding, kWord };
  std::string_view name;  // of the flag, without "--": "alpha"
  Kind kind = Kind::kNumber;
  std::string_view default_value;
  std::string_view help;
  double min = 0, max = 0;      // of numbers, inclusive
  std::string_view words = {};  // of kWord: those allowed, with spaces between; empty = any
};

// Options as given, by name.
using OptionValues = std::map<std::string, std::string>;

// Checked: every option of a method has a value of its kind.
class MethodSettings {
 public:
  MethodSettings() = default;
  // kInvalidArgument: an option that `method` does not have, or a bad value; the message names the
  // flag.
  static absl::StatusOr<MethodSettings> Create(std::string_view method,
                                               absl::Span<const MethodOption> options,
                                               const OptionValues& values);

  // Require an option of that name and kind.
  double Number(std::string_view name) const;
  int64_t Integer(std::string_view name) const;
  Encoding EncodingOf(std::string_view name) const;
  const std::string& Word(std::string_view name) const;

  // Every option with its value, in the table's order: what decides the bytes of a result.
  const std::vector<std::pair<std::string, std::string>>& values() const { return values_; }

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};

}  // namespace rankine
