// config.json of a Llama model <-> ModelConfig.
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_fields.h"
#include "models/files/json_text.h"
#include "models/llama.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

absl::StatusOr<RopeType> ReadRopeType(const JsonValue& scaling) {
  std::optional<JsonValue> type = scaling.Find("rope_type");
  if (!type) type = scaling.Find("type");
  if (!type) return RopeType::kDefault;
  RK_ASSIGN_OR_RETURN(const std::string name, type->String());
  if (name == "default") return RopeType::kDefault;
  if (name == "linear") return RopeType::kLinear;
  if (name == "llama3") return RopeType::kLlama3;
  return type->Error(absl::StrCat("RoPE scaling \"", absl::CHexEscape(name),
                                  "\" is not supported; supported: default, linear, llama3"));
}

// `scaling` is rope_scaling or rope_parameters; both use the same keys but for the theta.
absl::Status ReadRopeScaling(const JsonValue& scaling, RopeConfig* rope) {
  if (!scaling.IsObject()) return scaling.Error("must be an object");
  RK_ASSIGN_OR_RETURN(rope->type, ReadRopeType(scaling));
  RK_ASSIGN_OR_RETURN(rope->theta, NumberOr(scaling, "rope_theta", rope->theta));
  RK_ASSIGN_OR_RETURN(const double partial, NumberOr(scaling, "partial_rotary_factor", 1.0));
  if (partial != 1.0) return scaling.Error("partial_rotary_factor is not supported");
  if (rope->type == RopeType::kDefault) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const JsonValue factor, scaling.Get("factor"));
  RK_ASSIGN_OR_RETURN(rope->factor, factor.Number());
  if (rope->type == RopeType::kLinear) return absl::OkStatus();
  RK_ASSIGN_OR_RETURN(const JsonValue low, scaling.Get("low_freq_factor"));
  RK_ASSIGN_OR_RETURN(rope->low_freq_factor, low.Number());
  RK_ASSIGN_OR_RETURN(const JsonValue high, scaling.Get("high_freq_factor"));
  RK_ASSIGN_OR_RETURN(rope->high_freq_factor, high.Number());
  RK_ASSIGN_OR_RETURN(rope->original_max_position,
                      RequiredInt(scaling, "original_max_position_embeddings"));
  return absl::OkStatus();
}

absl::Status ReadRope(const JsonValue& root, RopeConfig* rope) {
  RK_ASSIGN_OR_RETURN(rope->theta, NumberOr(root, "rope_theta", 10000.0));
  RK_ASSIGN_OR_RETURN(const double partial, NumberOr(root, "partial_rotary_factor", 1.0));
  if (partial != 1.0) return root.Error("partial_rotary_factor is not supported");
  std::optional<JsonValue> scaling = root.Find("rope_parameters");
  if (!scaling) scaling = root.Find("rope_scaling");
  if (!scaling) return absl::OkStatus();
  return ReadRopeScaling(*scaling, rope);
}

absl::Status CheckRope(const RopeConfig& rope, const std::string& source) {
  const auto bad = [&](const char* key, const char* what) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", key, ": ", what));
  };
  if (!(std::isfinite(rope.theta) && rope.theta > 1.0)) return bad("rope_theta", "must be over 1");
  if (rope.type == RopeType::kDefault) return absl::OkStatus();
  if (!(std::isfinite(rope.factor) && rope.factor >= 1.0)) {
    return bad("rope factor", "must be at least 1");
  }
  if (rope.type == RopeType::kLinear) return absl::OkStatus();
  if (!(rope.low_freq_factor > 0 && std::isfinite(rope.high_freq_factor) &&
        rope.high_freq_factor > rope.low_freq_factor)) {
    return bad("low_freq_factor, high_freq_factor", "need 0 < low < high");
  }
  return CheckRange(rope.original_max_position, kMaxPosition, "original_max_position_embeddings",
                    source);
}

// transformers 4 reads rope_theta with rope_scaling, transformers 5 rope_parameters.
void WriteRope(const RopeConfig& rope, nlohmann::ordered_json* root) {
  nlohmann::ordered_json scaling;
  switch (rope.type) {
    case RopeType::kDefault:
      scaling["rope_type"] = "default";
      break;
    case RopeType::kLinear:
      scaling["rope_type"] = "linear";
      scaling["factor"] = rope.factor;
      break;
    case RopeType::kLlama3:
      scaling["rope_type"] = "llama3";
      scaling["factor"] = rope.factor;
      scaling["low_freq_factor"] = rope.low_freq_factor;
      scaling["high_freq_factor"] = rope.high_freq_factor;
      scaling["original_max_position_embeddings"] = rope.original_max_position;
      break;
  }
  (*root)["rope_theta"] = rope.theta;
  (*root)["rope_scaling"] = rope.type == RopeType::kDefault ? nlohmann::ordered_json() : scaling;
  scaling["rope_theta"] = rope.theta;
  (*root)["rope_parameters"] = scaling;
}

}  // namespace

absl::Status ValidateLlamaConfig(const ModelConfig& c, const std::string& source) {
  if (c.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": head_dim ", c.head_dim, " is odd, RoPE needs pairs"));
  }
  if (!(std::isfinite(c.rms_norm_eps) && c.rms_norm_eps > 0 && c.rms_norm_eps < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": rms_norm_eps: must be between 0 and 1"));
  }
  return CheckRope(c.rope, source);
}

absl::StatusOr<ModelConfig> ParseLlamaConfig(const JsonValue& root) {
  RK_RETURN_IF_ERROR(CheckOnly(root, "hidden_act", "activation", "silu"));
  if (root.Find("sliding_window")) return root.Error("sliding_window is not supported");
  ModelConfig c{.architecture = "llama"};
  RK_ASSIGN_OR_RETURN(c.vocab_size, RequiredInt(root, "vocab_size"));
  RK_ASSIGN_OR_RETURN(c.hidden_size, RequiredInt(root, "hidden_size"));
  RK_ASSIGN_OR_RETURN(c.intermediate_size, RequiredInt(root, "intermediate_size"));
  RK_ASSIGN_OR_RETURN(c.num_layers, RequiredInt(root, "num_hidden_layers"));
  RK_ASSIGN_OR_RETURN(c.num_heads, RequiredInt(root, "num_attention_heads"));
  RK_ASSIGN_OR_RETURN(c.num_kv_heads, IntOr(root, "num_key_value_heads", c.num_heads));
  if (const std::optional<JsonValue> head_dim = root.Find("head_dim")) {
    RK_ASSIGN_OR_RETURN(c.head_dim, head_dim->Int());
  } else if (c.num_heads > 0 && c.hidden_size % c.num_heads == 0) {
    c.head_dim = c.hidden_size / c.num_heads;
  } else {
    return root.Error(absl::StrCat("hidden_size ", c.hidden_size,
                                   " is not a multiple of num_attention_heads ", c.num_heads,
                                   ", and there is no head_dim"));
  }
  // The defaults of transformers' LlamaConfig, which leaves equal values out of some files.
  RK_ASSIGN_OR_RETURN(c.max_position, IntOr(root, "max_position_embeddings", 2048));
  RK_ASSIGN_OR_RETURN(c.rms_norm_eps, NumberOr(root, "rms_norm_eps", 1e-6));
  RK_ASSIGN_OR_RETURN(c.tie_embeddings, BoolOr(root, "tie_word_embeddings", false));
  RK_ASSIGN_OR_RETURN(c.attention_bias, BoolOr(root, "attention_bias", false));
  RK_ASSIGN_OR_RETURN(c.mlp_bias, BoolOr(root, "mlp_bias", false));
  RK_RETURN_IF_ERROR(ReadRope(root, &c.rope));
  return c;
}

std::string SerializeLlamaConfig(const ModelConfig& c, DType dtype) {
  nlohmann::ordered_json root;
  root["architectures"] = {"LlamaForCausalLM"};
  root["model_type"] = c.architecture;
  root["vocab_size"] = c.vocab_size;
  root["hidden_size"] = c.hidden_size;
  root["intermediate_size"] = c.intermediate_size;
  root["num_hidden_layers"] = c.num_layers;
  root["num_attention_heads"] = c.num_heads;
  root["num_key_value_heads"] = c.num_kv_heads;
  root["head_dim"] = c.head_dim;
  root["max_position_embeddings"] = c.max_position;
  root["hidden_act"] = "silu";
  root["rms_norm_eps"] = c.rms_norm_eps;
  WriteRope(c.rope, &root);
  root["tie_word_embeddings"] = c.tie_embeddings;
  root["attention_bias"] = c.attention_bias;
  root["mlp_bias"] = c.mlp_bias;
  WriteTokenIds(c, &root);
  root["dtype"] = ConfigDTypeName(dtype);
  root["torch_dtype"] = ConfigDTypeName(dtype);
  if (c.random_weights) root["rankine_random_weights"] = true;
  return DumpJson(root, 2) + "\n";
}

}  // namespace rankine
