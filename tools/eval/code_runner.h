// Runs Python programs that a model wrote, confined as far as the kernel lets an ordinary user: a
// process of its own with limits on time, memory, files and processes, no network, no writes
// outside a folder that is removed. That keeps accidents in; against code that means harm use a
// virtual machine.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace rankine {

struct CodeLimits {
  std::string python = "/usr/bin/python3";  // a path, or a name on the PATH
  double seconds = 10;                      // of wall clock; CPU time is held to the next second
  int64_t memory_bytes = int64_t{1} << 30;  // address space
  int64_t file_bytes = int64_t{1} << 20;    // of any file it writes
};

// What this machine's kernel grants to RunPython.
struct Confinement {
  bool no_network = false;       // a network namespace without interfaces
  bool writes_confined = false;  // Landlock: files change in the program's own folder alone
};
Confinement ProbeConfinement();

enum class CodeOutcome : uint8_t { kPassed, kFailed, kTimedOut };

// kPassed when the program runs to its last line; leaving early with exit code 0 is kFailed. The
// program sees an empty environment, no input, and nobody reads what it prints. kNotFound without
// Python; kInternal when the process cannot be started.
absl::StatusOr<CodeOutcome> RunPython(const std::string& program, const CodeLimits& limits);

}  // namespace rankine
