// From the numbers of a method to cores and tensors, in any encoding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/compress/linalg.h"
#include "tools/compress/methods/method.h"

namespace rankine {

struct CoreArgs {
  std::string matrix;          // tensors are called `matrix`.`name` (.codes, .scales, ..)
  std::string name;            // of the core: "U"
  std::vector<LegRange> legs;  // slowest first
  Encoding encoding;           // cores with one leg are stored in f32 whatever it says
  absl::Span<const double> values;
};

// Adds the core to the term and its tensors to `tensors`, encoded by least squares where the
// encoding is a block one. kInvalidArgument: values that do not fit, rows that the encoding cannot
// have.
absl::Status AddCore(const CoreArgs& args, Term* term, std::vector<StoredTensor>* tensors);

// Block-encoded rows that a method has made itself (LDLQ); encoding and columns are the buffer's,
// which must be those of the legs.
absl::Status AddBlockCore(const CoreArgs& args, const BlockRowsBuffer& rows, Term* term,
                          std::vector<StoredTensor>* tensors);

// A matrix with its names, extents and legs "o" and "i" filled in, without terms: MethodInput's
// linear, with its old bias.
FactoredMatrix MatrixOf(const MethodInput& input);

// U, S, V of `factors` as one term with the sorted leg "r": U and V in input.encoding, S in f32.
absl::StatusOr<Factorization> StoreSvd(const MethodInput& input, const SvdFactors& factors);

// The best W' of the budget's rank in the norm ||(W - W') H^1/2||_F, stored as StoreSvd does; no
// terms where the linear is better left dense.
absl::StatusOr<Factorization> FactorizeWeighted(const MethodInput& input, const Matrix64& h);

// Zero but for its diagonal.
Matrix64 DiagonalMatrix(const std::vector<double>& diagonal);

// Gives the matrix a bias of its own, `NAME.bias`, in f32.
absl::Status AddBias(const std::vector<double>& bias, Factorization* factorization);

}  // namespace rankine
