// Logits of a checkpoint in float32, and golden ones, for tests of what comes from files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint.h"

namespace rankine::testing {

// Of all positions [tokens, vocab]; weights, activations and cache f32. Aborts when the model does
// not load.
std::vector<float> F32Logits(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens);

// tokens.json and logits.bin of a folder of tests/data.
std::vector<int32_t> GoldenTokens(const std::string& folder);
std::vector<float> GoldenLogits(const std::string& folder);

// ||a - b|| / ||b||; aborts when the sizes differ.
double RelativeDistance(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace rankine::testing
