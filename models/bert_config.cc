// config.json, tensors and their names of a BERT model.
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "models/bert.h"
#include "models/checkpoint/config_fields.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

absl::Status CheckSupported(const JsonValue& root) {
  RK_RETURN_IF_ERROR(CheckOnly(root, "hidden_act", "activation", "gelu"));
  RK_RETURN_IF_ERROR(
      CheckOnly(root, "position_embedding_type", "the position embedding", "absolute"));
  for (const char* key : {"is_decoder", "add_cross_attention"}) {
    RK_ASSIGN_OR_RETURN(const bool set, BoolOr(root, key, false));
    if (set) return root.Error(absl::StrCat(key, ": a BERT that decodes is not supported"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseBertConfig(const JsonValue& root) {
  RK_RETURN_IF_ERROR(CheckSupported(root));
  ModelConfig c{.architecture = "bert"};
  RK_ASSIGN_OR_RETURN(c.vocab_size, RequiredInt(root, "vocab_size"));
  RK_ASSIGN_OR_RETURN(c.hidden_size, RequiredInt(root, "hidden_size"));
  RK_ASSIGN_OR_RETURN(c.intermediate_size, RequiredInt(root, "intermediate_size"));
  RK_ASSIGN_OR_RETURN(c.num_layers, RequiredInt(root, "num_hidden_layers"));
  RK_ASSIGN_OR_RETURN(c.num_heads, RequiredInt(root, "num_attention_heads"));
  c.num_kv_heads = c.num_heads;
  if (c.num_heads < 1 || c.hidden_size % c.num_heads != 0) {
    return root.Error(absl::StrCat("hidden_size ", c.hidden_size,
                                   " is not a multiple of num_attention_heads ", c.num_heads));
  }
  c.head_dim = c.hidden_size / c.num_heads;
  // The defaults of transformers' BertConfig.
  RK_ASSIGN_OR_RETURN(c.max_position, IntOr(root, "max_position_embeddings", 512));
  RK_ASSIGN_OR_RETURN(c.type_vocab_size, IntOr(root, "type_vocab_size", 2));
  RK_ASSIGN_OR_RETURN(c.layer_norm_eps, NumberOr(root, "layer_norm_eps", 1e-12));
  c.attention_bias = c.mlp_bias = true;
  return c;
}

absl::Status ValidateBertConfig(const ModelConfig& c, const std::string& source) {
  // A table of as many rows as the kernels' ids can name, like the tokens'.
  RK_RETURN_IF_ERROR(CheckRange(c.type_vocab_size, kMaxVocab, "type_vocab_size", source));
  RK_RETURN_IF_ERROR(CheckRange(c.max_position, kMaxVocab, "max_position_embeddings", source));
  if (!(std::isfinite(c.layer_norm_eps) && c.layer_norm_eps > 0 && c.layer_norm_eps < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": layer_norm_eps: must be between 0 and 1"));
  }
  return absl::OkStatus();
}

std::string SerializeBertConfig(const ModelConfig& c, DType dtype) {
  nlohmann::ordered_json root;
  root["architectures"] = {"BertModel"};
  root["model_type"] = c.architecture;
  root["vocab_size"] = c.vocab_size;
  root["hidden_size"] = c.hidden_size;
  root["intermediate_size"] = c.intermediate_size;
  root["num_hidden_layers"] = c.num_layers;
  root["num_attention_heads"] = c.num_heads;
  root["max_position_embeddings"] = c.max_position;
  root["type_vocab_size"] = c.type_vocab_size;
  root["layer_norm_eps"] = c.layer_norm_eps;
  root["hidden_act"] = "gelu";
  root["position_embedding_type"] = "absolute";
  root["dtype"] = ConfigDTypeName(dtype);
  root["torch_dtype"] = ConfigDTypeName(dtype);
  if (c.random_weights) root["rankine_random_weights"] = true;
  return DumpJson(root, 2) + "\n";
}

ModelLayout BertLayout(const ModelConfig& c) {
  const int64_t n = c.hidden_size;
  ModelLayout layout{.embeddings = {{"embeddings.word_embeddings", c.vocab_size, n},
                                    {"embeddings.position_embeddings", c.max_position, n},
                                    {"embeddings.token_type_embeddings", c.type_vocab_size, n}}};
  const auto add_norm = [&](const std::string& name) {
    layout.vectors.push_back({name + ".weight", n});
    layout.vectors.push_back({name + ".bias", n});
  };
  add_norm("embeddings.LayerNorm");
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const std::string layer = absl::StrCat("encoder.layer.", l, ".");
    for (const char* part : {"self.query", "self.key", "self.value", "output.dense"})
      layout.linears.push_back({absl::StrCat(layer, "attention.", part), n, n, true});
    layout.linears.push_back({layer + "intermediate.dense", c.intermediate_size, n, true});
    layout.linears.push_back({layer + "output.dense", n, c.intermediate_size, true});
    add_norm(layer + "attention.output.LayerNorm");
    add_norm(layer + "output.LayerNorm");
  }
  layout.linears.push_back({"pooler.dense", n, n, true, /*optional=*/true});
  return layout;
}

std::string CanonicalBertName(const std::string& stored) {
  absl::string_view name = stored;
  absl::ConsumePrefix(&name, "bert.");
  for (const char* head : {"cls.", "classifier.", "qa_outputs."}) {
    if (absl::StartsWith(name, head)) return "";
  }
  if (name == "embeddings.position_ids") return "";
  if (absl::ConsumeSuffix(&name, "LayerNorm.gamma")) return absl::StrCat(name, "LayerNorm.weight");
  if (absl::ConsumeSuffix(&name, "LayerNorm.beta")) return absl::StrCat(name, "LayerNorm.bias");
  return std::string(name);
}

}  // namespace rankine
