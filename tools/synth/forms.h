// One linear layer of random numbers in a factored form.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/llama_layout.h"
#include "tools/synth/random_core.h"

namespace rankine {

enum class SynthForm : uint8_t { kDense, kSvd, kTucker, kMpo, kQlr };

struct FormOptions {
  SynthForm form = SynthForm::kDense;
  // How large: a share of the dense parameters in (0, 1) (kSvd, kTucker, kMpo), or a rank (kSvd,
  // kTucker, kQlr), or a bond dimension (kMpo). 0 = not given; exactly one where the form has one.
  double keep = 0;
  int64_t rank = 0;
  int64_t bond = 0;
  int sites = 0;                                             // kMpo: 2 to 4; 0 = 2
  Encoding encoding = Encoding::Float(DType::kBF16);         // of W and Q
  Encoding factor_encoding = Encoding::Float(DType::kBF16);  // of all other cores; S is f32
};

// kInvalidArgument names the flag that is missing, out of range or of another form.
absl::Status CheckFormOptions(const FormOptions& options);

struct RandomMatrix {
  FactoredMatrix matrix;
  std::vector<RandomTensor> tensors;
};

// With the outputs about as large as the inputs: the variance of W is 1 / in_features. Requires
// checked options. kInvalidArgument names the linear, and what it has no room for.
absl::StatusOr<RandomMatrix> MakeRandomMatrix(const LinearSpec& linear, const FormOptions& options,
                                              uint64_t seed);

// `value` as a product of `count` factors of at least 2, as even as possible (smallest sum),
// largest first; empty when it has fewer prime factors.
std::vector<int64_t> EvenFactors(int64_t value, int count);

}  // namespace rankine
