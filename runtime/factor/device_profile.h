// What a machine can do, as the planner prices it: a roofline (Williams et al., CACM 2009) with a
// cost per step.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rankine {

struct DeviceProfile {
  double read_bytes_per_second = 30e9;   // weights, from memory
  double f32_flops_per_second = 100e9;   // products with f32 activations
  double bf16_flops_per_second = 300e9;  // products with bf16 activations
  double step_seconds = 2e-6;            // one parallel region with its barrier

  double flops_per_second(DType compute) const {
    return compute == DType::kBF16 ? bf16_flops_per_second : f32_flops_per_second;
  }
};

// Plans are chosen with these fixed figures, so that the same model gives the same plan, and the
// same bits, on every machine; a measured profile only changes predictions.
inline constexpr DeviceProfile kPlanningProfile{};

// Token counts that plans are priced at.
inline constexpr int64_t kTokenBuckets[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

}  // namespace rankine
