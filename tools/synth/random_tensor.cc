#include "tools/synth/random_tensor.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "models/checkpoint/float_convert.h"

namespace rankine {
namespace {

// Words of 64 bits made at a time: they stay in the L1 cache.
constexpr int64_t kWords = 512;
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

void FillWords(uint64_t key, int64_t first, int64_t count, uint64_t* out) {
  const uint64_t state = key + static_cast<uint64_t>(first) * kGolden;
  for (int64_t k = 0; k < count; ++k) out[k] = Mix(state + static_cast<uint64_t>(k) * kGolden);
}

// Floats from 16 random bits each.
void ToFloats(RandomTensor::Fill fill, float amplitude, const int16_t* bits, int64_t count,
              float* out) {
  if (fill == RandomTensor::Fill::kUniform) {
    const float unit = amplitude / 32768.0f;
    for (int64_t k = 0; k < count; ++k) out[k] = static_cast<float>(bits[k]) * unit;
    return;
  }
  // [-1, 1) -> +-[0.75, 1.25): the distance from 0 stands for the size.
  for (int64_t k = 0; k < count; ++k) {
    const float u = static_cast<float>(bits[k]) * (0.5f / 32768.0f);
    out[k] = amplitude * (bits[k] < 0 ? u - 0.75f : u + 0.75f);
  }
}

// Elements [first, first + count) of a tensor that has no random numbers.
void FixedFloats(const RandomTensor& tensor, int64_t first, int64_t count, float* out) {
  if (tensor.fill == RandomTensor::Fill::kOnes) {
    std::fill(out, out + count, 1.0f);
    return;
  }
  const auto total = static_cast<float>(tensor.spec.shape.back());
  for (int64_t k = 0; k < count; ++k) {
    out[k] = tensor.amplitude * (1.5f - static_cast<float>(first + k) / total);
  }
}

// A float takes 16 random bits whatever its size: word w makes the elements 4 w .. 4 w + 3.
void FillFloats(const RandomTensor& tensor, int64_t begin, int64_t bytes, char* out) {
  const auto size = static_cast<int64_t>(SizeOf(tensor.spec.dtype));
  const bool fixed =
      tensor.fill == RandomTensor::Fill::kOnes || tensor.fill == RandomTensor::Fill::kFalling;
  uint64_t words[kWords];
  int16_t bits[kWords * 4];
  float values[kWords * 4];
  const int64_t end = (begin + bytes) / size;
  for (int64_t first = begin / size; first < end;) {
    const int64_t skip = first % 4;
    const int64_t count = std::min(kWords * 4 - skip, end - first);
    if (fixed) {
      FixedFloats(tensor, first, count, values);
    } else {
      const int64_t num_words = (skip + count + 3) / 4;
      FillWords(tensor.key, first / 4, num_words, words);
      std::memcpy(bits, words, static_cast<size_t>(num_words * 8));
      ToFloats(tensor.fill, tensor.amplitude, bits + skip, count, values);
    }
    RK_CHECK(ConvertFloats(DType::kF32, values, tensor.spec.dtype, out, count) < 0);
    out += count * size;
    first += count;
  }
}

// Clears what the last byte of each row does not use.
void ClearRowEnds(const RandomTensor& tensor, int64_t begin, int64_t bytes, char* out) {
  const int64_t row_bytes = tensor.spec.shape.back();
  const int64_t used = tensor.row_bits % 8;
  if (tensor.row_bits == 0 || used == 0) return;
  const auto mask = static_cast<char>((1 << used) - 1);
  const int64_t first = (begin + row_bytes) / row_bytes * row_bytes - 1;
  for (int64_t at = first; at < begin + bytes; at += row_bytes) out[at - begin] &= mask;
}

void FillBits(const RandomTensor& tensor, int64_t begin, int64_t bytes, char* out) {
  uint64_t words[kWords];
  for (int64_t done = 0; done < bytes; done += kWords * 8) {
    const int64_t now = std::min(kWords * 8, bytes - done);
    FillWords(tensor.key, (begin + done) / 8, (now + 7) / 8, words);
    std::memcpy(out + done, words, static_cast<size_t>(now));
  }
  ClearRowEnds(tensor, begin, bytes, out);
}

}  // namespace

uint64_t RandomKey(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return Mix(hash + Mix(seed + kGolden));
}

int64_t BytesOf(const TensorSpec& spec) {
  auto bytes = static_cast<int64_t>(SizeOf(spec.dtype));
  for (const int64_t extent : spec.shape) bytes *= extent;
  return bytes;
}

void FillRandom(const RandomTensor& tensor, int64_t begin, int64_t bytes, char* out) {
  RK_CHECK(begin % 8 == 0);
  if (tensor.fill == RandomTensor::Fill::kBits) {
    FillBits(tensor, begin, bytes, out);
  } else {
    FillFloats(tensor, begin, bytes, out);
  }
}

}  // namespace rankine
