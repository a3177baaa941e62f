// How a folder says that texts become vectors: sentence-transformers' files beside the model.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

enum class Pooling : uint8_t {
  kMean,  // of the last hidden states of all tokens, [CLS] and [SEP] included
  kCls,   // the first token's
};

struct EmbeddingConfig {
  Pooling pooling = Pooling::kMean;
  bool normalize = false;  // to length 1
  int64_t max_tokens = 0;  // of a text, [CLS] and [SEP] included; what lies beyond is cut off
};

// "mean" or "cls"; kInvalidArgument otherwise.
absl::StatusOr<Pooling> ParsePooling(const std::string& name);
std::string PoolingName(Pooling pooling);

// From modules.json, 1_Pooling/config.json and sentence_bert_config.json; without them the mean,
// unnormalised, of as many tokens as the model has positions. kUnimplemented names what they ask
// for and this engine does not have (other poolings, dense layers on top).
absl::StatusOr<EmbeddingConfig> ReadEmbeddingConfig(const Checkpoint& checkpoint);

}  // namespace rankine
