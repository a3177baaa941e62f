// What one forward pass computes: a flat batch of new tokens of several sequences, as a structure
// of arrays. Built on the host by the engine (or by evaluation), read by models; spans stay valid
// for the pass.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/api/attention.h"

namespace rankine {

struct BatchInput {
  std::vector<int32_t> token_ids;            // [t]
  std::vector<int32_t> positions;            // [t]: index of the token in its sequence
  std::vector<int64_t> slots;                // [t]: where its key and value go in the cache;
                                             // empty for an encoder
  std::vector<int32_t> token_types;          // [t], or empty: all 0 (segments of a pair, in BERT)
  std::vector<AttentionSequence> sequences;  // runs of rows; block_ids point into the owners' lists
  std::vector<int32_t> logit_rows;  // rows whose logits are wanted, in the order of the logits

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_logits() const { return static_cast<int64_t>(logit_rows.size()); }

  // Memory for passes of at most this size, so that filling a batch allocates nothing.
  void Reserve(int64_t max_tokens, int64_t max_sequences, int64_t max_logit_rows);
  // Empties all lists and keeps their memory.
  void Clear();
  // Appends a run of new tokens of one sequence whose first `first_position` tokens are in the
  // cache already. block_ids must cover first_position + count tokens and outlive the pass; null
  // without a cache.
  void AddSequence(const int32_t* tokens, int64_t count, int64_t first_position,
                   const int32_t* block_ids);
};

}  // namespace rankine
