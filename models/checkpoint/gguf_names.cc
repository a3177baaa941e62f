#include "models/checkpoint/gguf_names.h"

#include <charconv>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

enum class Group : uint8_t { kNorm, kEmbedding, kAttention, kMlp };

// One line of the map: names without ".weight" and ".bias".
struct Stem {
  std::string_view gguf;
  std::string_view hf;
  Group group;
  GgufExtent rows;
  GgufExtent cols;
  bool interleaved_heads = false;
};

constexpr Stem kModelStems[] = {
    {"token_embd", "model.embed_tokens", Group::kEmbedding, GgufExtent::kVocabulary,
     GgufExtent::kHidden},
    {"output", "lm_head", Group::kEmbedding, GgufExtent::kVocabulary, GgufExtent::kHidden},
    {"output_norm", "model.norm", Group::kNorm, GgufExtent::kHidden, GgufExtent::kNone},
};

constexpr Stem kLayerStems[] = {
    {"attn_norm", "input_layernorm", Group::kNorm, GgufExtent::kHidden, GgufExtent::kNone},
    {"attn_q", "self_attn.q_proj", Group::kAttention, GgufExtent::kQuery, GgufExtent::kHidden,
     true},
    {"attn_k", "self_attn.k_proj", Group::kAttention, GgufExtent::kKeyValue, GgufExtent::kHidden,
     true},
    {"attn_v", "self_attn.v_proj", Group::kAttention, GgufExtent::kKeyValue, GgufExtent::kHidden},
    {"attn_output", "self_attn.o_proj", Group::kAttention, GgufExtent::kHidden, GgufExtent::kQuery},
    {"ffn_norm", "post_attention_layernorm", Group::kNorm, GgufExtent::kHidden, GgufExtent::kNone},
    {"ffn_gate", "mlp.gate_proj", Group::kMlp, GgufExtent::kIntermediate, GgufExtent::kHidden},
    {"ffn_up", "mlp.up_proj", Group::kMlp, GgufExtent::kIntermediate, GgufExtent::kHidden},
    {"ffn_down", "mlp.down_proj", Group::kMlp, GgufExtent::kHidden, GgufExtent::kIntermediate},
};

constexpr std::string_view kLayerPrefix = "blk.";

template <size_t N>
const Stem* FindStem(const Stem (&stems)[N], std::string_view name) {
  for (const Stem& stem : stems) {
    if (stem.gguf == name) return &stem;
  }
  return nullptr;
}

// Takes "blk.12." off the front of *name; -1 when it is not there. Numbers with leading zeros are
// not names.
int64_t TakeLayer(std::string_view* name) {
  if (!name->starts_with(kLayerPrefix)) return -1;
  const std::string_view rest = name->substr(kLayerPrefix.size());
  const size_t dot = rest.find('.');
  if (dot == 0 || dot == std::string_view::npos || (rest[0] == '0' && dot > 1)) return -1;
  int32_t layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + dot, layer);
  if (error != std::errc() || end != rest.data() + dot || layer < 0) return -1;
  *name = rest.substr(dot + 1);
  return layer;
}

int64_t ExtentOf(GgufExtent extent, const ModelConfig& config) {
  switch (extent) {
    case GgufExtent::kNone:
      return 0;
    case GgufExtent::kHidden:
      return config.hidden_size;
    case GgufExtent::kVocabulary:
      return config.vocab_size;
    case GgufExtent::kIntermediate:
      return config.intermediate_size;
    case GgufExtent::kQuery:
      return config.num_heads * config.head_dim;
    case GgufExtent::kKeyValue:
      return config.num_kv_heads * config.head_dim;
  }
  return 0;
}

std::string Join(std::string_view a, std::string_view b) { return std::string(a).append(b); }

}  // namespace

std::optional<GgufTensorRole> FindGgufRole(std::string_view gguf_name) {
  std::string_view name = gguf_name;
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view suffix = name.substr(dot);
  const bool is_bias = suffix == ".bias";
  if (!is_bias && suffix != ".weight") return std::nullopt;
  name = name.substr(0, dot);
  const int64_t layer = TakeLayer(&name);
  const Stem* stem = layer >= 0 ? FindStem(kLayerStems, name) : FindStem(kModelStems, name);
  if (stem == nullptr) return std::nullopt;
  const bool has_bias = stem->group == Group::kAttention || stem->group == Group::kMlp;
  if (is_bias && !has_bias) return std::nullopt;
  return GgufTensorRole{
      .hf_name = layer >= 0
                     ? Join(absl::StrCat("model.layers.", layer, "."), Join(stem->hf, suffix))
                     : Join(stem->hf, suffix),
      .layer = layer,
      .interleaved_heads = stem->interleaved_heads,
      .rows = stem->rows,
      .cols = is_bias ? GgufExtent::kNone : stem->cols,
      .is_attention_bias = is_bias && stem->group == Group::kAttention,
      .is_mlp_bias = is_bias && stem->group == Group::kMlp,
  };
}

std::vector<int64_t> ExpectedShape(const GgufTensorRole& role, const ModelConfig& config) {
  std::vector<int64_t> shape = {ExtentOf(role.rows, config)};
  if (role.cols != GgufExtent::kNone) shape.push_back(ExtentOf(role.cols, config));
  return shape;
}

std::vector<std::string> RequiredGgufNames(const ModelConfig& config) {
  std::vector<std::string> names = {"token_embd.weight", "output_norm.weight"};
  if (!config.tie_embeddings) names.push_back("output.weight");
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = Join(kLayerPrefix, absl::StrCat(layer, "."));
    for (const Stem& stem : kLayerStems) {
      names.push_back(Join(Join(prefix, stem.gguf), ".weight"));
      if ((stem.group == Group::kAttention && config.attention_bias) ||
          (stem.group == Group::kMlp && config.mlp_bias)) {
        names.push_back(Join(Join(prefix, stem.gguf), ".bias"));
      }
    }
  }
  return names;
}

}  // namespace rankine
