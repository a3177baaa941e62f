// factorization.json, format version 1 <-> FactoredMatrix. docs/factorization.md describes the
// format.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

inline constexpr int kManifestFormatVersion = 1;

// Reads the whole language of version 1; `source` (the file) begins every message, and the message
// names the matrix and the key. Refused by name: another version, unknown keys (but "comment" and
// those that begin with "x-"), reserved keys, unknown encodings, roles and transforms. What the
// values mean together is checked by ValidateMatrix.
absl::StatusOr<std::vector<FactoredMatrix>> ParseManifest(const std::string& text,
                                                          const std::string& source);

// The same matrices give the same text.
std::string SerializeManifest(std::span<const FactoredMatrix> matrices);

}  // namespace rankine
