// The paged KV cache of one layer as kernels see it. A block holds kKvBlockTokens tokens of one
// sequence:
//   keys    [num_blocks][kv_heads][head_dim][kKvBlockTokens]  (transposed: a block's scores form a
//   vector) values  [num_blocks][kv_heads][kKvBlockTokens][head_dim]
// For i8, one f32 scale per token and head beside each: [num_blocks][kv_heads][kKvBlockTokens];
// value = code x scale, scale = max|v| / 127.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rankine {

inline constexpr int64_t kKvBlockTokens = 32;

struct KvLayer {
  void* keys = nullptr;
  void* values = nullptr;
  float* key_scales = nullptr;    // i8 only
  float* value_scales = nullptr;  // i8 only
  DType dtype = DType::kF16;      // kF32, kF16, kBF16 or kI8
  int64_t num_blocks = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;

  // Elements of keys (or values) in one block of one head, and in one block.
  int64_t head_elements() const { return head_dim * kKvBlockTokens; }
  int64_t block_elements() const { return kv_heads * head_elements(); }
};

}  // namespace rankine
