// The BERT architecture (Devlin et al., arXiv 1810.04805): an encoder. Post-norm blocks of
// bidirectional attention with learned positions and a GELU MLP, biases everywhere.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/json.h"
#include "models/layout.h"
#include "models/loader.h"

namespace rankine {

absl::StatusOr<ModelConfig> ParseBertConfig(const JsonValue& root);
absl::Status ValidateBertConfig(const ModelConfig& config, const std::string& source);
std::string SerializeBertConfig(const ModelConfig& config, DType dtype);

ModelLayout BertLayout(const ModelConfig& config);
// Without "bert." in front, which models with a training head have; LayerNorm.gamma and .beta, as
// TensorFlow called them, become weight and bias. Empty for the heads and for position_ids.
std::string CanonicalBertName(const std::string& stored);

// Its hidden states after the last layer are transformers' last_hidden_state. Sequences start at
// position 0. The pooler of next-sentence prediction is carried along in files, but not run.
absl::StatusOr<std::unique_ptr<FactoredModel>> LoadBert(const Checkpoint& checkpoint,
                                                        Device& device, const LoadOptions& options);

}  // namespace rankine
