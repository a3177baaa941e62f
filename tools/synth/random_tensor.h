// Tensors of random numbers, made at the speed of memory. Counter-based (the mixer of SplitMix64;
// Steele et al., OOPSLA 2014, over a counter, like Salmon et al., SC 2011): every 8 bytes are a
// pure function of key and place, so any part of a tensor is made alone, by any number of threads.
#pragma once

#include <cstdint>
#include <string_view>

#include "models/checkpoint/safetensors_writer.h"

namespace rankine {

struct RandomTensor {
  enum class Fill : uint8_t {
    kUniform,  // floats in [-amplitude, amplitude)
    kScales,   // floats of random sign, their size within a quarter of amplitude
    kFalling,  // floats from 1.5 down to 0.5 x amplitude: the S of U S V
    kOnes,     // floats 1
    kBits,     // any bytes
  };
  TensorSpec spec;
  Fill fill = Fill::kUniform;
  // Of floats. kScales: an offset of amplitude x the scale's own number; with the key of the
  // scales, offsets are a constant multiple of them.
  float amplitude = 1;
  // kBits: bits of a row in use, at its beginning; the rest of its last byte is zero. 0 = all.
  int64_t row_bits = 0;
  uint64_t key = 0;
};

// From a seed and the name of a tensor.
uint64_t RandomKey(uint64_t seed, std::string_view name);

int64_t BytesOf(const TensorSpec& spec);

// The bytes [begin, begin + bytes) of the tensor. Requires begin % 8 == 0, and bytes % 8 == 0 but
// at the end of the tensor; begin and bytes whole elements.
void FillRandom(const RandomTensor& tensor, int64_t begin, int64_t bytes, char* out);

}  // namespace rankine
