// Which side of a linear the attention heads lie on: what lets a method see a weight as a tensor
// heads x head_dim x features.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "models/config.h"

namespace rankine {

struct AttentionHeads {
  int64_t count = 0;  // KV heads of k and v
  int64_t dim = 0;
  bool on_input = false;  // of the projection behind attention; else the outputs are heads x dim
};

// What an attention projection is in its block. Of one block are those of equal `block`.
struct AttentionRole {
  enum class Kind : uint8_t { kQuery, kKey, kValue, kOutput };
  Kind kind = Kind::kQuery;
  std::string block;  // "model.layers.3.self_attn"
};
// Absent for linears that are no attention projection by their names (those of HeadsOf).
std::optional<AttentionRole> RoleOf(std::string_view name);

// Of a linear of that name with W [out, in]. Absent for linears that are no attention projection by
// their names (q_proj, k_proj, v_proj, o_proj; BERT's query, key, value and
// attention.output.dense), and where the config's heads do not multiply to its extent.
std::optional<AttentionHeads> HeadsOf(const ModelConfig& config, std::string_view name, int64_t out,
                                      int64_t in);

}  // namespace rankine
