// Rotary position embedding with append to the paged KV cache, and grouped-query attention over it,
// causal or over whole sequences.
#pragma once

#include <cstdint>

#include "kernels/api/kv_cache.h"
#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"

namespace rankine {

// Largest head_dim that the kernels take: their buffers on the stack are sized by it.
inline constexpr int64_t kMaxHeadDim = 256;

// Rotates q in place and writes rotated k, and v, into the cache.
// Halves convention (Su et al., arXiv 2104.09864, as in Hugging Face): with h = head_dim / 2,
//   out[j] = a[j] cos[j] - a[j + h] sin[j],  out[j + h] = a[j + h] cos[j] + a[j] sin[j].
struct RopeAppendArgs {
  MatrixView q;                    // f32 [t, num_heads x head_dim]
  MatrixView k;                    // f32 [t, kv_heads x head_dim]
  MatrixView v;                    // f32 [t, kv_heads x head_dim]
  const float* cos = nullptr;      // [t, head_dim / 2]; null = nothing is rotated
  const float* sin = nullptr;      // [t, head_dim / 2]; null with cos
  const int64_t* slots = nullptr;  // [t]: block id x kKvBlockTokens + offset in the block
  int64_t num_heads = 0;
  KvLayer cache;
};

// A run of consecutive new tokens of one sequence in the batch; their keys and values are already
// in the cache.
struct AttentionSequence {
  const int32_t* block_ids = nullptr;  // [CeilDiv(first_position + num_tokens, kKvBlockTokens)]
  int64_t first_row = 0;               // row in the batch of its first new token
  int64_t num_tokens = 0;              // new tokens
  int64_t first_position = 0;          // tokens of the sequence that stand before them in the cache
};

// out[row, head] = softmax(scale q K^T) V over positions 0..position(row) of its sequence, or over
// all of its positions when not causal.
// The score matrix is never materialised: an online softmax (Milakov & Gimelshein, arXiv
// 1805.02867; FlashAttention, arXiv 2205.14135) over blocks in order, split at fixed spans of the
// context whose partial results are merged in order, so a row's result does not depend on the
// batch, the chunking of the prompt or the threads.
struct AttentionArgs {
  MatrixView q;    // f32 [t, num_heads x head_dim], rotated
  MatrixView out;  // f32 or bf16 [t, num_heads x head_dim]
  const AttentionSequence* sequences = nullptr;
  int64_t num_sequences = 0;
  int64_t num_heads = 0;
  float scale = 0;
  bool causal = true;  // false: an encoder
  KvLayer cache;
  // Scratch of at least AttentionWorkspaceBytes, 64-byte aligned.
  void* workspace = nullptr;
};

// Positions of the context in one span of a split decode: short, so that few KV heads still make
// work for all threads.
inline constexpr int64_t kAttentionSpan = 128;

// Enough for any batch of at most max_rows rows whose contexts are at most max_context long, on
// num_threads threads.
int64_t AttentionWorkspaceBytes(int64_t max_rows, int64_t max_context, int64_t num_heads,
                                int64_t head_dim, int num_threads);

}  // namespace rankine
