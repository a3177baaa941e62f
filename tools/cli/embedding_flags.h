// Flags of commands that embed texts, and the embedding itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cli/model_flags.h"
#include "tools/compress/progress.h"
#include "tools/eval/embedder.h"

namespace CLI {
class App;
}

namespace rankine {

struct EmbeddingFlags {
  std::string pooling;     // mean, cls; empty = as the model's folder says
  std::string normalize;   // on, off; empty = as the model's folder says
  int64_t max_tokens = 0;  // 0 = as the model's folder says

  void AddTo(CLI::App& command);
};

// By the model's tokenizer and what its folder says, unless the flags say otherwise.
absl::StatusOr<EmbeddingConfig> EmbeddingConfigOf(const OpenedModel& opened,
                                                  const EmbeddingFlags& flags);
absl::StatusOr<Embeddings> EmbedTexts(const OpenedModel& opened, const EmbeddingFlags& flags,
                                      const std::vector<std::string>& texts,
                                      const ProgressFn& progress);

}  // namespace rankine
