#include "models/checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

constexpr char kArchitecture[] = "llama";

// Settings that change what the model computes and that Llama here does not have. A value that
// leaves the computation alone is fine.
struct RefusedKey {
  const char* key;
  double neutral;
};
constexpr RefusedKey kRefusedKeys[] = {
    {"expert_count", 0.0},
    {"logit_scale", 1.0},
    {"embedding_scale", 1.0},
    {"residual_scale", 1.0},
    {"attention.clamp_kqv", 0.0},
    {"rope.scaling.attn_factor", 1.0},
    {"attention.max_alibi_bias", 0.0},
};

// Reads keys below "llama." into a config and keeps the first failure.
class ConfigReader {
 public:
  explicit ConfigReader(const GgufMetadata& metadata) : metadata_(metadata) {}

  absl::StatusOr<ModelConfig> Read(const GgufVocabulary* vocabulary) {
    config_.architecture = kArchitecture;
    config_.max_position = Required("context_length");
    config_.hidden_size = Required("embedding_length");
    config_.num_layers = Required("block_count");
    config_.intermediate_size = Required("feed_forward_length");
    config_.num_heads = Required("attention.head_count");
    config_.num_kv_heads = Optional("attention.head_count_kv").value_or(config_.num_heads);
    HeadDimension();
    config_.rms_norm_eps = RequiredPositive("attention.layer_norm_rms_epsilon");
    Rope();
    Vocabulary(vocabulary);
    RefuseWhatIsNotLlama();
    if (!status_.ok()) return status_;
    return config_;
  }

 private:
  static std::string Key(const std::string& name) { return absl::StrCat(kArchitecture, ".", name); }

  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  void Invalid(const std::string& name, const std::string& what) {
    Fail(absl::InvalidArgumentError(absl::StrCat("key '", Key(name), "' ", what)));
  }
  void Unsupported(const std::string& name, const std::string& what) {
    Fail(absl::UnimplementedError(absl::StrCat("key '", Key(name), "' ", what)));
  }

  template <class T>
  T Take(absl::StatusOr<T> value) {
    if (value.ok()) return *std::move(value);
    Fail(value.status());
    return T{};
  }

  // A positive number that fits in int32; a per-layer array must have one value throughout.
  std::optional<int64_t> Optional(const std::string& name) {
    const auto values = Take(metadata_.Ints(Key(name)));
    if (!values.has_value()) return std::nullopt;
    if (values->empty()) {
      Invalid(name, "is an empty array");
      return std::nullopt;
    }
    const int64_t value = values->front();
    for (const int64_t other : *values) {
      if (other != value) {
        Unsupported(name, "differs between layers, which is not supported");
        return std::nullopt;
      }
    }
    if (value < 1 || value > std::numeric_limits<int32_t>::max()) {
      Invalid(name, absl::StrCat("is ", value, "; expected 1 to 2^31 - 1"));
      return std::nullopt;
    }
    return value;
  }

  // 1 after a failure, so that later checks do not divide by zero.
  int64_t Required(const std::string& name) {
    const std::optional<int64_t> value = Optional(name);
    if (!value.has_value()) Invalid(name, "is missing");
    return value.value_or(1);
  }

  std::optional<double> OptionalPositive(const std::string& name) {
    const auto value = Take(metadata_.Number(Key(name)));
    if (value.has_value() && !(std::isfinite(*value) && *value > 0)) {
      Invalid(name, absl::StrCat("is ", *value, "; expected a positive number"));
    }
    return value;
  }

  double RequiredPositive(const std::string& name) {
    const std::optional<double> value = OptionalPositive(name);
    if (!value.has_value()) Invalid(name, "is missing");
    return value.value_or(1.0);
  }

  void HeadDimension() {
    if (config_.num_heads % config_.num_kv_heads != 0) {
      Invalid("attention.head_count",
              absl::StrCat("is ", config_.num_heads, ", which is no multiple of the ",
                           config_.num_kv_heads, " KV heads"));
    }
    const std::optional<int64_t> key_length = Optional("attention.key_length");
    if (!key_length.has_value() && config_.hidden_size % config_.num_heads != 0) {
      Invalid("embedding_length",
              absl::StrCat("is ", config_.hidden_size, ", which is no multiple of the ",
                           config_.num_heads, " heads"));
    }
    config_.head_dim = key_length.value_or(config_.hidden_size / config_.num_heads);
    MustEqualHeadDimension("attention.value_length");
    MustEqualHeadDimension("rope.dimension_count");
    if (config_.head_dim % 2 != 0) {
      Invalid("embedding_length", absl::StrCat("gives heads of ", config_.head_dim,
                                               " values; rotary embedding needs an even number"));
    }
  }

  void MustEqualHeadDimension(const std::string& name) {
    const int64_t value = Optional(name).value_or(config_.head_dim);
    if (value == config_.head_dim) return;
    Unsupported(name, absl::StrCat("is ", value, "; only the head dimension ", config_.head_dim,
                                   " is supported"));
  }

  void Rope() {
    config_.rope.theta = OptionalPositive("rope.freq_base").value_or(10000.0);
    // Before "rope.scaling.factor" there was "rope.scale_linear".
    std::optional<double> factor = OptionalPositive("rope.scaling.factor");
    if (!factor.has_value()) factor = OptionalPositive("rope.scale_linear");
    const auto type = Take(metadata_.String(Key("rope.scaling.type")));
    if (type.has_value() && *type != "none" && *type != "linear") {
      Unsupported("rope.scaling.type",
                  absl::StrCat("is ", QuoteName(*type), "; only none and linear are supported"));
    }
    if (type == "none") return;
    if (type == "linear" && !factor.has_value())
      Invalid("rope.scaling.factor", "is missing for linear scaling");
    if (!factor.has_value() || *factor == 1.0) return;
    config_.rope.type = RopeType::kLinear;
    config_.rope.factor = *factor;
  }

  void Vocabulary(const GgufVocabulary* vocabulary) {
    if (vocabulary == nullptr) {
      config_.vocab_size = Required("vocab_size");
      return;
    }
    config_.vocab_size = static_cast<int64_t>(vocabulary->tokens.size());
    config_.bos_id = vocabulary->bos_id;
    if (vocabulary->eos_id >= 0) config_.eos_ids.push_back(vocabulary->eos_id);
    constexpr char kTurnKey[] = "tokenizer.ggml.eot_token_id";
    const int64_t turn_id = Take(metadata_.Int(kTurnKey)).value_or(-1);
    if (turn_id < 0 || turn_id == vocabulary->eos_id ||
        turn_id == std::numeric_limits<uint32_t>::max())
      return;
    if (turn_id >= config_.vocab_size) {
      Fail(absl::InvalidArgumentError(absl::StrCat(
          "key '", kTurnKey, "' is ", turn_id, ", but there are ", config_.vocab_size, " tokens")));
    }
    config_.eos_ids.push_back(static_cast<int32_t>(turn_id));
  }

  void RefuseWhatIsNotLlama() {
    for (const RefusedKey& refused : kRefusedKeys) {
      const auto value = Take(metadata_.Number(Key(refused.key)));
      // Writers leave 0 where they mean "not used".
      if (value.has_value() && *value != refused.neutral && *value != 0.0) {
        Unsupported(refused.key, absl::StrCat("is ", *value, ", which is not supported"));
      }
    }
    const auto causal = Take(metadata_.Bool(Key("attention.causal")));
    if (!causal.value_or(true)) Unsupported("attention.causal", "is false, which is not supported");
    const auto window = Take(metadata_.Int(Key("attention.sliding_window")));
    if (window.has_value() && *window > 0 && *window < config_.max_position) {
      Unsupported("attention.sliding_window",
                  absl::StrCat("is ", *window, "; sliding windows are not supported"));
    }
  }

  const GgufMetadata& metadata_;
  ModelConfig config_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufMetadata& metadata,
                                           const GgufVocabulary* vocabulary) {
  const auto architecture = metadata.String("general.architecture");
  if (!architecture.ok()) return architecture.status();
  if (!architecture->has_value()) {
    return absl::InvalidArgumentError("key 'general.architecture' is missing");
  }
  if (**architecture != kArchitecture) {
    return absl::UnimplementedError(absl::StrCat("architecture ", QuoteName(**architecture),
                                                 " is not supported; only 'llama' is"));
  }
  return ConfigReader(metadata).Read(vocabulary);
}

}  // namespace rankine
