// The entry points of tokenizer.h: which files or vocabulary make which kind of tokenizer.
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "models/files/output_file.h"
#include "models/files/text_file.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/sentencepiece_proto.h"
#include "models/tokenizer/sentencepiece_tokenizer.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"
#include "models/tokenizer/wordpiece_vocabulary.h"

namespace rankine {
namespace {

using tokenizer::AddedToken;
using tokenizer::BpeTokenizerSpec;
using tokenizer::TokenizerConfig;

absl::Status InFile(const absl::Status& status, const std::string& folder) {
  return absl::Status(status.code(), absl::StrCat(folder, ": ", std::string(status.message())));
}

SpecialTokenIds FindRoles(const TokenizerConfig& config, const BpeTokenizerSpec& spec) {
  absl::flat_hash_map<std::string, int32_t> ids;
  for (const auto& [piece, id] : spec.model.vocabulary) ids.emplace(piece, id);
  for (const AddedToken& token : spec.added_tokens) ids.emplace(token.content, token.id);
  const auto find = [&](const std::string& piece) -> std::optional<int32_t> {
    const auto found = ids.find(piece);
    if (piece.empty() || found == ids.end()) return std::nullopt;
    return found->second;
  };
  // What begins and ends a text in BERT.
  const std::string& bos = config.bos_token.empty() ? config.cls_token : config.bos_token;
  const std::string& eos = config.eos_token.empty() ? config.sep_token : config.eos_token;
  return {find(bos), find(eos), find(config.unknown_token), find(config.padding_token)};
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadBpe(const std::string& json,
                                                         const TokenizerConfig& config) {
  absl::StatusOr<BpeTokenizerSpec> spec = tokenizer::ReadBpeSpec(json);
  if (!spec.ok()) return spec.status();
  spec->special_ids = FindRoles(config, *spec);
  return tokenizer::MakeBpeTokenizer(*std::move(spec));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadWordPiece(std::string_view vocabulary,
                                                               const TokenizerConfig& config) {
  absl::StatusOr<BpeTokenizerSpec> spec = tokenizer::SpecFromVocabularyText(vocabulary, config);
  if (!spec.ok()) return spec.status();
  return tokenizer::MakeBpeTokenizer(*std::move(spec));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadSentencePiece(const std::string& serialized,
                                                                   TokenizerConfig config) {
  tokenizer::SentencePieceOptions options;
  // transformers' defaults for this file, which is Llama's.
  options.add_bos = config.add_bos.value_or(true);
  options.add_eos = config.add_eos.value_or(false);
  options.added_tokens = std::move(config.added_tokens);
  return tokenizer::MakeSentencePieceTokenizer(serialized, std::move(options));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const std::string& folder) {
  absl::StatusOr<TokenizerConfig> config = tokenizer::ReadTokenizerConfig(folder);
  if (!config.ok()) return InFile(config.status(), folder);
  absl::StatusOr<std::unique_ptr<const Tokenizer>> loaded = absl::NotFoundError(
      "no tokenizer.json, no tokenizer.model and no vocab.txt; the folder needs one of them");
  absl::StatusOr<std::string> json = ReadTextFile(folder + "/tokenizer.json");
  if (json.ok()) {
    loaded = LoadBpe(*json, *config);
  } else if (!absl::IsNotFound(json.status())) {
    return json.status();
  } else {
    absl::StatusOr<std::string> model = ReadTextFile(folder + "/tokenizer.model");
    if (model.ok()) {
      loaded = LoadSentencePiece(*model, *std::move(config));
    } else if (!absl::IsNotFound(model.status())) {
      return model.status();
    } else if (auto text = ReadTextFile(folder + "/vocab.txt"); text.ok()) {
      loaded = LoadWordPiece(*text, *config);
    } else if (!absl::IsNotFound(text.status())) {
      return text.status();
    }
  }
  if (!loaded.ok()) return InFile(loaded.status(), folder);
  return loaded;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(const GgufVocabulary& vocabulary) {
  if (vocabulary.model == "gpt2") {
    absl::StatusOr<BpeTokenizerSpec> spec = tokenizer::BpeSpecFromGguf(vocabulary);
    if (!spec.ok()) return spec.status();
    return tokenizer::MakeBpeTokenizer(*std::move(spec));
  }
  if (vocabulary.model == "llama") {
    absl::StatusOr<std::string> serialized = tokenizer::SerializeSentencePieceModel(vocabulary);
    if (!serialized.ok()) return serialized.status();
    tokenizer::SentencePieceOptions options;
    options.add_bos = vocabulary.add_bos;
    options.add_eos = vocabulary.add_eos;
    return tokenizer::MakeSentencePieceTokenizer(*serialized, std::move(options));
  }
  return absl::UnimplementedError(absl::StrCat("tokenizer.ggml.model \"", vocabulary.model,
                                               "\" is not supported (known: gpt2, llama)"));
}

absl::Status WriteTokenizer(const GgufVocabulary& vocabulary, const std::string& folder) {
  // A vocabulary that makes no tokenizer must not become files that make none.
  if (absl::Status status = MakeTokenizer(vocabulary).status(); !status.ok()) return status;
  absl::Status status;
  if (vocabulary.model == "gpt2") {
    absl::StatusOr<BpeTokenizerSpec> spec = tokenizer::BpeSpecFromGguf(vocabulary);
    if (!spec.ok()) return spec.status();
    status = WriteNewFile(folder + "/tokenizer.json", tokenizer::WriteBpeSpec(*spec));
  } else {
    absl::StatusOr<std::string> serialized = tokenizer::SerializeSentencePieceModel(vocabulary);
    if (!serialized.ok()) return serialized.status();
    status = WriteNewFile(folder + "/tokenizer.model", *serialized);
  }
  if (!status.ok()) return status;
  return WriteNewFile(folder + "/tokenizer_config.json",
                      tokenizer::TokenizerConfigText(vocabulary));
}

std::string ByteTokenizerText() {
  BpeTokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    const auto character = static_cast<char>(byte);
    spec.model.vocabulary.emplace_back(tokenizer::BytesToCharacters({&character, 1}), byte);
  }
  spec.pre_tokenizer.push_back({.kind = tokenizer::PreTokenizerStep::Kind::kByteLevel});
  spec.decoder.push_back({.kind = tokenizer::TokenTextStep::Kind::kByteLevel});
  return tokenizer::WriteBpeSpec(spec);
}

}  // namespace rankine
