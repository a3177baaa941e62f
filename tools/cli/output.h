// Reading of text arguments and printing of results, the same way in every command.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace rankine {

// The whole of a file; "-" is standard input. The error names the path.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes to stdout at once; false when the reader went away.
bool PrintNow(const std::string& text);

// "270.3 MB"; decimal units.
std::string FormatBytes(double bytes);

}  // namespace rankine
