#include "tools/compress/attention_heads.h"

#include "absl/strings/match.h"

namespace rankine {
namespace {

struct Projection {
  const char* suffix;
  bool is_kv, on_input;
};

// Dots in front, so that no longer name ends so.
constexpr Projection kProjections[] = {
    {".q_proj", false, false},
    {".k_proj", true, false},
    {".v_proj", true, false},
    {".o_proj", false, true},
    {".attention.self.query", false, false},
    {".attention.self.key", true, false},
    {".attention.self.value", true, false},
    {".attention.output.dense", false, true},
};

}  // namespace

std::optional<AttentionHeads> HeadsOf(const ModelConfig& config, std::string_view name, int64_t out,
                                      int64_t in) {
  for (const Projection& p : kProjections) {
    if (!absl::EndsWith(absl::string_view(name.data(), name.size()), p.suffix)) continue;
    const AttentionHeads heads{.count = p.is_kv ? config.num_kv_heads : config.num_heads,
                               .dim = config.head_dim,
                               .on_input = p.on_input};
    if (heads.count * heads.dim == (p.on_input ? in : out) && heads.count > 0) return heads;
  }
  return std::nullopt;
}

}  // namespace rankine
