// What a machine can do, as the planner prices it: a roofline (Williams et al., CACM 2009) with the
// levels of the memory hierarchy and a cost per step.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/dtype.h"

namespace rankine {

struct DeviceProfile {
  double read_bytes_per_second = 30e9;   // from memory
  double f32_flops_per_second = 100e9;   // products with f32 activations
  double bf16_flops_per_second = 300e9;  // products with bf16 activations
  double int8_flops_per_second = 600e9;  // products with quantised activations
  // The same of at most kFewRows rows, which AMX's tiles are not for.
  double few_int8_flops_per_second = 600e9;
  double step_seconds = 2e-6;  // one parallel region with its barrier
  // Start, epilogue and store of 16 outputs of one row of a product, all threads together.
  double store_seconds = 2e-9;
  // All threads together, from data that fits into the caches of the threads, or into the shared
  // one.
  double l2_bytes_per_second = 120e9;
  double l3_bytes_per_second = 60e9;
  int64_t l2_bytes = int64_t{2} << 20;
  int64_t l3_bytes = int64_t{16} << 20;

  static constexpr int64_t kFewRows = 16;

  // Of a product with that many rows.
  double flops_per_second(DType compute, int64_t rows) const {
    switch (compute) {
      case DType::kI8:
        return rows <= kFewRows ? few_int8_flops_per_second : int8_flops_per_second;
      case DType::kBF16:
        return bf16_flops_per_second;
      default:
        return f32_flops_per_second;
    }
  }
  // Bandwidth of data of that size which was used a moment ago.
  double cached_bytes_per_second(int64_t bytes) const {
    return bytes <= l2_bytes   ? l2_bytes_per_second
           : bytes <= l3_bytes ? l3_bytes_per_second
                               : read_bytes_per_second;
  }
};

// What a step moves and computes.
struct StepCost {
  int64_t weight_bytes = 0;      // read from memory: a pass over a model leaves none in the caches
  int64_t activation_bytes = 0;  // written by the step before, or for the next: cached
  double compute_seconds = 0;

  double Seconds(const DeviceProfile& profile) const {
    const double moved =
        static_cast<double>(weight_bytes) / profile.read_bytes_per_second +
        static_cast<double>(activation_bytes) / profile.cached_bytes_per_second(activation_bytes);
    return profile.step_seconds + std::max(moved, compute_seconds);
  }
};

// Plans are chosen with these fixed figures, so that the same model gives the same plan, and the
// same bits, on every machine; a measured profile only changes predictions.
inline constexpr DeviceProfile kPlanningProfile{};

// Token counts that plans are priced at.
inline constexpr int64_t kTokenBuckets[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

}  // namespace rankine
