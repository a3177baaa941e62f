// Texts to vectors, by an encoder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/model.h"
#include "tools/compress/progress.h"
#include "tools/eval/embedding_config.h"

namespace rankine {

struct Embeddings {
  int64_t count = 0;
  int64_t dim = 0;
  std::vector<float> values;    // [count, dim]
  std::vector<int64_t> tokens;  // [count]: that each text took
  int64_t truncated = 0;        // texts that were cut

  const float* Row(int64_t i) const { return values.data() + i * dim; }
};

// Owns the activations of a pass. One thread; model and tokenizer outlive it.
class Embedder {
 public:
  // kInvalidArgument: the model is no encoder; max_tokens below 3 or beyond its positions.
  static absl::StatusOr<Embedder> Create(const Model& model, const Tokenizer& tokenizer,
                                         const EmbeddingConfig& config);

  // A text's vector depends on the text alone, not on its neighbours. kInvalidArgument names the
  // text: a token outside the vocabulary, no tokens. kDataLoss: values that are not finite.
  absl::StatusOr<Embeddings> Embed(absl::Span<const std::string> texts,
                                   const ProgressFn& progress = {});

 private:
  Embedder() = default;
  absl::StatusOr<std::vector<int32_t>> Tokens(const std::string& text, int64_t index,
                                              Embeddings* embeddings) const;
  absl::Status RunPass(Embeddings* embeddings);
  void Pool(const AttentionSequence& sequence, float* out) const;

  const Model* model_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  EmbeddingConfig config_;
  std::optional<int32_t> suffix_;  // the token that ends every text ([SEP])
  std::unique_ptr<Workspace> workspace_;
  int64_t pass_tokens_ = 0;
  BatchInput batch_;
};

}  // namespace rankine
