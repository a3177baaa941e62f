// Short names of encodings, as people type and read them: "bf16", "int4:g64", "int4:g32:offset",
// "int3:g64:f32", "int4:g32:k:offset", "nf4:g64". docs/factorization.md has the grammar.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"

namespace rankine {

inline constexpr int32_t kDefaultGroup = 64;

// kInvalidArgument says what is wrong and what would be right.
absl::StatusOr<Encoding> ParseEncoding(std::string_view name);

// The full name: the group always, other options where they are not the default. Parses back to
// the same encoding.
std::string EncodingName(const Encoding& encoding);

}  // namespace rankine
