// Whole small files, with errors that name them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine::tokenizer {

// kNotFound when there is no such file; kInvalidArgument when it is larger than any tokenizer.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);
absl::Status WriteTextFile(const std::string& path, std::string_view text);

}  // namespace rankine::tokenizer
