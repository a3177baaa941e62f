// Whole small files.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace rankine {

// The largest published tokenizer.json has about 35 MB.
inline constexpr int64_t kMaxTextFileBytes = int64_t{256} << 20;

// The bytes of a file of at most `max_bytes`. Every error names the path: kNotFound when there is
// no such file, kInvalidArgument when it is larger or no regular file.
absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         int64_t max_bytes = kMaxTextFileBytes);

}  // namespace rankine
