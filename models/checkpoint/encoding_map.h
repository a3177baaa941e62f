// Which encoding each linear gets when a model is converted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "models/name_pattern.h"

namespace rankine {

// "keep": as it is stored, GGUF blocks and block-encoded cores exactly, floats as the dtype of the
// conversion.
struct EncodingTarget {
  bool keep = false;
  Encoding encoding;
};

// "keep", or the name of an encoding that EncodeRows can make (models/encode/encoding_name.h).
absl::StatusOr<EncodingTarget> ParseEncodingTarget(std::string_view text);

struct EncodingRule {
  std::string expression;  // found anywhere in the name of a linear
  EncodingTarget target;
  NamePattern pattern;
};

// A rule from its two parts; `source` begins messages.
absl::StatusOr<EncodingRule> MakeEncodingRule(const std::string& expression,
                                              std::string_view encoding, const std::string& source);

// The file of --encode-map: a JSON object {"expression": "encoding", ...}, or lines "expression
// encoding" with blank lines and comments (#). The first rule that matches wins.
absl::StatusOr<std::vector<EncodingRule>> ReadEncodingMap(const std::string& path);

// The index of the first rule that matches; -1 = none does.
int FirstRule(const std::vector<EncodingRule>& rules, const std::string& linear);

}  // namespace rankine
