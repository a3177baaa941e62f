// One core of random numbers in any encoding: its description and its tensors. Block encodings get
// random codes and sane scales, so no quantiser is needed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/factor/factored_matrix.h"
#include "tools/synth/random_tensor.h"

namespace rankine {

struct RandomCore {
  Core core;
  std::vector<RandomTensor> tensors;
};

struct RandomCoreArgs {
  std::string matrix;  // tensors are called `matrix`.`name`, with .codes, .scales, .offsets
  std::string name;
  std::vector<LegRange> legs;
  Encoding encoding;
  float stddev = 1;  // of the values; their mean is 0
  uint64_t seed = 0;
};

// kInvalidArgument: rows that are not whole codewords (e8p).
absl::StatusOr<RandomCore> MakeRandomCore(const RandomCoreArgs& args);

}  // namespace rankine
