// Which encodings the matrices of a model are stored in, and how many bits a weight takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint.h"

namespace rankine {

struct EncodingUse {
  std::string encoding;  // "int4:g32:offset"
  std::string ggml;      // "Q4_1" in a GGUF file; empty elsewhere
  int64_t cores = 0;     // or matrices, where those are no cores
  int64_t numbers = 0;   // encoded in them
  int64_t bytes = 0;     // scales, offsets and all

  double bits_per_number() const {
    return numbers > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(numbers) : 0.0;
  }
};

struct EncodingSummary {
  std::vector<EncodingUse> uses;  // most bytes first
  // Of all matrices as the model sees them, out x in, and of all tensors that make them: cores,
  // S vectors and transforms.
  int64_t weights = 0;
  int64_t bytes = 0;

  double bits_per_weight() const {
    return weights > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0.0;
  }
};

EncodingSummary SummarizeEncodings(const Checkpoint& checkpoint);

// A table of a line for each encoding, and one with the whole.
std::string EncodingTable(const EncodingSummary& summary);

}  // namespace rankine
