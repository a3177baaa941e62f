// Reading of text arguments and printing of results, the same way in every command.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// The whole of a file; "-" is standard input. The error names the path.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes to stdout at once; false when that failed, and PrintStatus says why.
bool PrintNow(const std::string& text);

// Of all that was printed. kCancelled: the reader went away (| head), which is no fault; kDataLoss:
// standard output could not be written.
absl::Status PrintStatus();

// "error: ..." on stderr, one line whatever the message holds: scripts read it.
void PrintError(std::string message);

// "270.3 MB"; decimal units.
std::string FormatBytes(double bytes);

}  // namespace rankine
