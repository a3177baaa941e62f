#include "runtime/batch_input.h"

namespace rankine {

void BatchInput::Reserve(int64_t max_tokens, int64_t max_sequences, int64_t max_logit_rows) {
  token_ids.reserve(max_tokens);
  positions.reserve(max_tokens);
  slots.reserve(max_tokens);
  sequences.reserve(max_sequences);
  logit_rows.reserve(max_logit_rows);
}

void BatchInput::Clear() {
  token_ids.clear();
  positions.clear();
  slots.clear();
  token_types.clear();
  sequences.clear();
  logit_rows.clear();
}

void BatchInput::AddSequence(const int32_t* tokens, int64_t count, int64_t first_position,
                             const int32_t* block_ids) {
  sequences.push_back({.block_ids = block_ids,
                       .first_row = num_tokens(),
                       .num_tokens = count,
                       .first_position = first_position});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = first_position + i;
    token_ids.push_back(tokens[i]);
    positions.push_back(static_cast<int32_t>(position));
    if (block_ids == nullptr) continue;
    slots.push_back(block_ids[position / kKvBlockTokens] * kKvBlockTokens +
                    position % kKvBlockTokens);
  }
}

}  // namespace rankine
