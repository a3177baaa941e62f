#include "tools/compress/attention_heads.h"

namespace rankine {
namespace {

using Kind = AttentionRole::Kind;

struct Projection {
  std::string_view suffix;
  Kind kind;
};

// Dots in front, so that no longer name ends so.
constexpr Projection kProjections[] = {
    {".q_proj", Kind::kQuery},
    {".k_proj", Kind::kKey},
    {".v_proj", Kind::kValue},
    {".o_proj", Kind::kOutput},
    {".attention.self.query", Kind::kQuery},
    {".attention.self.key", Kind::kKey},
    {".attention.self.value", Kind::kValue},
    {".attention.output.dense", Kind::kOutput},
};

}  // namespace

std::optional<AttentionRole> RoleOf(std::string_view name) {
  for (const Projection& p : kProjections) {
    if (name.size() <= p.suffix.size()) continue;
    const std::string_view block = name.substr(0, name.size() - p.suffix.size());
    if (name.substr(block.size()) == p.suffix) return AttentionRole{p.kind, std::string(block)};
  }
  return std::nullopt;
}

std::optional<AttentionHeads> HeadsOf(const ModelConfig& config, std::string_view name, int64_t out,
                                      int64_t in) {
  const auto role = RoleOf(name);
  if (!role) return std::nullopt;
  const bool is_kv = role->kind == Kind::kKey || role->kind == Kind::kValue;
  const AttentionHeads heads{.count = is_kv ? config.num_kv_heads : config.num_heads,
                             .dim = config.head_dim,
                             .on_input = role->kind == Kind::kOutput};
  if (heads.count * heads.dim == (heads.on_input ? in : out) && heads.count > 0) return heads;
  return std::nullopt;
}

}  // namespace rankine
