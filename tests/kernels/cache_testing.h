// A paged cache whose unwritten slots are poison, and sequences whose blocks lie scattered in it.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <numeric>

#include "tests/kernels/matrix_testing.h"

namespace rankine {

inline constexpr DType kCacheTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8};

// Exactly `size` bytes, 64-byte aligned, all 0xff (NaN as floats): AddressSanitizer sees any step
// beyond.
class PoisonedBuffer {
 public:
  explicit PoisonedBuffer(int64_t size)
      : size_(static_cast<size_t>(size)),
        data_(static_cast<unsigned char*>(::operator new (size_, std::align_val_t{64}))) {
    std::memset(data_.get(), 0xff, size_);
  }
  void* data() const { return data_.get(); }
  bool operator==(const PoisonedBuffer& other) const {
    return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
  }

 private:
  struct Delete {
    void operator()(unsigned char* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  size_t size_;
  std::unique_ptr<unsigned char, Delete> data_;
};

class TestCache {
 public:
  TestCache(DType dtype, int64_t num_blocks, int64_t kv_heads, int64_t head_dim)
      : layer_{.dtype = dtype,
               .num_blocks = num_blocks,
               .kv_heads = kv_heads,
               .head_dim = head_dim},
        keys_(Bytes(layer_)),
        values_(Bytes(layer_)),
        key_scales_(ScaleBytes(layer_)),
        value_scales_(ScaleBytes(layer_)) {
    layer_.keys = keys_.data();
    layer_.values = values_.data();
    if (dtype == DType::kI8) {
      layer_.key_scales = static_cast<float*>(key_scales_.data());
      layer_.value_scales = static_cast<float*>(value_scales_.data());
    }
  }
  const KvLayer& layer() const { return layer_; }
  bool operator==(const TestCache& other) const {
    return keys_ == other.keys_ && values_ == other.values_ && key_scales_ == other.key_scales_ &&
           value_scales_ == other.value_scales_;
  }

 private:
  static int64_t Bytes(const KvLayer& l) {
    return l.num_blocks * l.block_elements() * static_cast<int64_t>(SizeOf(l.dtype));
  }
  static int64_t ScaleBytes(const KvLayer& l) {
    if (l.dtype != DType::kI8) return 64;
    return l.num_blocks * l.kv_heads * kKvBlockTokens * static_cast<int64_t>(sizeof(float));
  }
  KvLayer layer_;
  PoisonedBuffer keys_, values_, key_scales_, value_scales_;
};

// Block ids in a shuffled order: consecutive blocks of a sequence do not lie side by side.
inline std::vector<int32_t> ScatteredBlocks(int64_t count, uint32_t seed) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937 rng(seed);
  std::shuffle(ids.begin(), ids.end(), rng);
  return ids;
}

inline int64_t BlocksFor(int64_t tokens) { return CeilDiv(tokens, kKvBlockTokens); }

struct Shape {
  int64_t num_heads;
  int64_t kv_heads;
  int64_t head_dim;
};

// The activations of `tokens` consecutive tokens of a sequence from position 0, and its rotation
// angles.
struct TokenStreamData {
  TokenStreamData(const Shape& shape, int64_t tokens, uint32_t seed, float query_scale = 1.0f)
      : q(DType::kF32, tokens, shape.num_heads * shape.head_dim),
        k(DType::kF32, tokens, shape.kv_heads * shape.head_dim),
        v(DType::kF32, tokens, shape.kv_heads * shape.head_dim) {
    std::mt19937 rng(seed);
    q.FillRandom(&rng, query_scale);
    k.FillRandom(&rng);
    v.FillRandom(&rng);
    const int64_t half = shape.head_dim / 2;
    for (int64_t p = 0; p < tokens; ++p) {
      for (int64_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(p) *
                             std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(half));
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
  TestMatrix q, k, v;
  std::vector<float> cos, sin;  // [tokens, head_dim / 2]
};

inline std::vector<int64_t> SlotsOf(const int32_t* block_ids, int64_t first, int64_t tokens) {
  std::vector<int64_t> slots;
  for (int64_t p = first; p < first + tokens; ++p) {
    slots.push_back(block_ids[p / kKvBlockTokens] * kKvBlockTokens + p % kKvBlockTokens);
  }
  return slots;
}

// Appends tokens [first, first + tokens) of `data` to the cache; rotates their q in place.
inline void AppendTokens(const OpTable& table, Stream stream, const Shape& shape,
                         const KvLayer& cache, const int32_t* block_ids, int64_t first,
                         int64_t tokens, TokenStreamData* data) {
  const std::vector<int64_t> slots = SlotsOf(block_ids, first, tokens);
  const int64_t half = shape.head_dim / 2;
  table.rope_append({.q = data->q.row_view(first, tokens),
                     .k = data->k.row_view(first, tokens),
                     .v = data->v.row_view(first, tokens),
                     .cos = data->cos.data() + first * half,
                     .sin = data->sin.data() + first * half,
                     .slots = slots.data(),
                     .num_heads = shape.num_heads,
                     .cache = cache},
                    stream);
}

}  // namespace rankine
