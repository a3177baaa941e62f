// The numbers of a Tucker form, from a decomposition: in closed form, or fitted, under the second
// moments of the inputs.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"
#include "tools/compress/methods/method.h"
#include "tools/compress/tensor64.h"
#include "tools/compress/tucker_decomposition.h"

namespace rankine {

// The factors of all modes; those of full rank are identities and not stored.
struct TuckerForm {
  std::vector<Matrix64> outputs;  // [extent, rank]
  std::vector<Matrix64> inputs;   // [rank, extent]
  Tensor64 core;
};

// With the input as the last mode, alone: A, B from the decomposition, then the rest in closed form
// under `h` (null: the Frobenius norm). weight [m, n].
absl::StatusOr<TuckerForm> ClosedForm(const Matrix64& weight, const Matrix64* h, Tucker tucker);

// With the input as heads x dim behind one mode of outputs: what holds the output leg is fitted
// under `h`, where it is not null.
absl::StatusOr<TuckerForm> FittedForm(const Matrix64& weight, const Matrix64* h, Tucker tucker);

// --weighting full.
bool IsWeighted(const MethodInput& input);
// kInvalidArgument: numbers that are not finite, or no calibration where it is weighted.
absl::Status CheckTuckerInput(const MethodInput& input);

}  // namespace rankine
