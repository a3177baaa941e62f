#include "tools/cli/embedding_flags.h"

#include <CLI/CLI.hpp>

#include "models/text.h"

namespace rankine {

void EmbeddingFlags::AddTo(CLI::App& command) {
  command.add_option("--pooling", pooling,
                     "mean or cls (default: as the folder's 1_Pooling/config.json says, or mean)");
  command
      .add_option("--normalize", normalize,
                  "on or off: length 1 (default: as the folder's modules.json says, or off)")
      ->check(CLI::IsMember({"on", "off"}));
  command
      .add_option("--max-tokens", max_tokens,
                  "Of a text; what lies beyond is cut off (default: as the folder's "
                  "sentence_bert_config.json says, or the model's positions)")
      ->check(CLI::PositiveNumber);
}

absl::StatusOr<EmbeddingConfig> EmbeddingConfigOf(const OpenedModel& opened,
                                                  const EmbeddingFlags& flags) {
  auto config = ReadEmbeddingConfig(*opened.checkpoint);
  if (!config.ok()) return config.status();
  if (!flags.pooling.empty()) {
    auto pooling = ParsePooling(flags.pooling);
    if (!pooling.ok()) return pooling.status();
    config->pooling = *pooling;
  }
  if (!flags.normalize.empty()) config->normalize = flags.normalize == "on";
  if (flags.max_tokens > 0) config->max_tokens = flags.max_tokens;
  return config;
}

absl::StatusOr<Embeddings> EmbedTexts(const OpenedModel& opened, const EmbeddingFlags& flags,
                                      const std::vector<std::string>& texts,
                                      const ProgressFn& progress) {
  auto config = EmbeddingConfigOf(opened, flags);
  if (!config.ok()) return config.status();
  auto tokenizer = TokenizerOf(*opened.checkpoint);
  if (!tokenizer.ok()) return tokenizer.status();
  auto embedder = Embedder::Create(*opened.model, **tokenizer, *config);
  if (!embedder.ok()) return embedder.status();
  return embedder->Embed(texts, progress);
}

}  // namespace rankine
