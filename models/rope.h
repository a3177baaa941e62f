// Frequencies of rotary position embeddings and their scalings.
#pragma once

#include <cstdint>
#include <vector>

#include "models/config.h"

namespace rankine {

// Inverse frequencies f32 [head_dim / 2], computed in f32 as the published checkpoints' own code
// does: theta^(-2j / head_dim); kLinear divides all by factor (arXiv 2306.15595); kLlama3 divides
// low frequencies by factor and blends between (Llama 3 model card); frequency_divisors divide
// each.
std::vector<float> RopeInverseFrequencies(const RopeConfig& rope, int64_t head_dim);

// cos and sin of position x frequency, each f32 [num_tokens, inverse_frequencies.size()].
void RopeTables(const std::vector<float>& inverse_frequencies, const int32_t* positions,
                int64_t num_tokens, float* cos, float* sin);

}  // namespace rankine
