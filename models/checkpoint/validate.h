// Does a FactoredMatrix make sense, and are its tensors there? Everything that factorization.json
// can say is checked here, whether this version can execute it or not.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "models/checkpoint/checkpoint.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

// Null when there is no tensor of that name.
using TensorLookup = std::function<const TensorInfo*(const std::string&)>;

// Checks of the network: the legs of each term (each outer leg on exactly one core, bonds on at
// least two, one extent per leg), the products of the outer legs, ranks of at least 1 and of no use
// above what the legs beside them allow, ranges inside their core, leading identities, the sorted
// leg, transforms and provenance. Checks of storage: each role that an encoding needs is there,
// with exactly the shape and dtype that encoding and legs ask for. The message (kInvalidArgument)
// names the matrix, the core and the leg or tensor.
absl::Status ValidateMatrix(const FactoredMatrix& matrix, const TensorLookup& lookup);

// The part of ValidateMatrix that needs no tensors.
absl::Status ValidateNetwork(const FactoredMatrix& matrix);

}  // namespace rankine
