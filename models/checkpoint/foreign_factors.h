// Factors that other programs stored in a Hugging Face folder, told by the names of their tensors
// (docs/importing.md lists them): ABLinear pairs (ASVD, LowRankArena; Dobi-SVD has them the other
// way round), u and v projections (SVD-LLM), Q with L and R (CALDERA).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/open_options.h"
#include "models/checkpoint/validate.h"
#include "models/config.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

// The factored linears among the tensors of a folder without factorization.json, each described as
// version 1 would; empty when no name is known. Their provenance says what was seen. `source`
// begins the messages, which name the tensor: one of a pair alone, shapes that do not multiply to
// the layer, pairs of both orders in one model. Where all pairs are square and full, so that both
// orders fit, `order` must tell.
absl::StatusOr<std::vector<FactoredMatrix>> RecogniseFactors(const ModelConfig& config,
                                                             const TensorLookup& lookup,
                                                             FactorOrder order,
                                                             const std::string& source);

// What a folder holds, a line for each kind: "14 linears: ABLinear pairs, W = A B, ranks 8 to 24".
std::vector<std::string> DescribeMatrices(const std::vector<FactoredMatrix>& matrices);

}  // namespace rankine
