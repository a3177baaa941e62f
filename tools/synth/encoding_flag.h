// The names of encodings on the command line of `rankine synth`.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"

namespace rankine {

// "f32", "f16", "bf16"; "int4:g64", "int4:g32:offset", "int8:row", with 2, 3, 4, 5, 6 or 8 bits and
// groups g16, g32, g64, g128 or row (g64 when left out); "nf4:g64"; "e8p". `flag` begins the error.
absl::StatusOr<Encoding> ParseEncodingFlag(const std::string& flag, const std::string& text);

// The text that ParseEncodingFlag reads as this.
std::string EncodingFlagText(const Encoding& encoding);

}  // namespace rankine
