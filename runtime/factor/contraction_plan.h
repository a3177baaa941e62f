// The steps by which a LinearGroup is computed: plain values, made once, the same for every token
// count. Running them allocates nothing and branches on no format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

enum class Slot : uint8_t { kInput, kIntermediate, kOutput };

// y[:, y_column...] = (x[:, x_column...] core^T) * scale + bias; columns of the slots of the group.
struct PlanProduct {
  int core = -1;   // index into the group's packed cores
  int scale = -1;  // index into the group's vectors; -1 = none
  int bias = -1;
  Slot x = Slot::kInput;
  int64_t x_column = 0;
  Slot y = Slot::kOutput;
  int64_t y_column = 0;
  int64_t n = 0;             // columns of y that it writes
  int64_t k = 0;             // columns of x that it reads
  int64_t weight_bytes = 0;  // for predictions
};

// Products that run in one parallel region and end in one barrier.
struct PlanStep {
  std::vector<PlanProduct> products;
};

struct PlanPrediction {
  int64_t bytes = 0;  // weights and activations
  int64_t flops = 0;
  double microseconds = 0;
};

struct ContractionPlan {
  DType compute = DType::kF32;  // of the input and of intermediates: kF32 or kBF16
  std::vector<PlanStep> steps;
  int64_t input_columns = 0;
  int64_t intermediate_columns = 0;      // padded to 16 a matrix
  int64_t output_columns = 0;            // padded to 16 a matrix
  std::vector<std::string> expressions;  // of each matrix: "((x V) S) U"

  int64_t weight_bytes() const;
  int64_t workspace_bytes(int64_t num_tokens) const {
    return num_tokens * intermediate_columns * static_cast<int64_t>(SizeOf(compute));
  }
  PlanPrediction Predict(int64_t num_tokens, const DeviceProfile& profile) const;
};

}  // namespace rankine
