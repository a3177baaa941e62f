// Lines of flags, as a shell would split them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace rankine {

// Between white space; what stands in '..' or ".." is kept together, without escapes.
// kInvalidArgument: a quote that does not end.
absl::StatusOr<std::vector<std::string>> SplitWords(std::string_view line);

// A line that splits into these words, in a shell as well.
std::string JoinWords(absl::Span<const std::string> words);

}  // namespace rankine
