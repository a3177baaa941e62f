// The BPE vocabulary of a GGUF file to BpeTokenizerSpec. A GGUF names its pre-tokenizer instead of
// describing it; the patterns behind the names are those that the models published in their
// tokenizer.json.
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

constexpr int32_t kTypeControl = 3;
constexpr int32_t kTypeUserDefined = 4;

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

absl::Status AddByteLevel(const char* pattern, std::vector<PreTokenizerStep>* steps) {
  PreTokenizerStep step{};
  step.kind = PreTokenizerStep::Kind::kByteLevel;
  if (pattern != nullptr) {
    absl::StatusOr<Regex> regex = Regex::Compile(pattern);
    if (!regex.ok()) return regex.status();
    step.regex = *std::move(regex);
  }
  steps->push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status AddSplit(const char* pattern, std::vector<PreTokenizerStep>* steps) {
  absl::StatusOr<Regex> regex = Regex::Compile(pattern);
  if (!regex.ok()) return regex.status();
  PreTokenizerStep step{};
  step.kind = PreTokenizerStep::Kind::kSplit;
  step.regex = *std::move(regex);
  steps->push_back(std::move(step));
  return AddByteLevel(nullptr, steps);
}

absl::Status SetPreTokenizer(const std::string& name, BpeTokenizerSpec* spec) {
  std::vector<PreTokenizerStep>* steps = &spec->pre_tokenizer;
  if (name == "gpt-2") return AddByteLevel(kGpt2Pattern, steps);
  if (name == "smollm") {
    PreTokenizerStep digits{};
    digits.kind = PreTokenizerStep::Kind::kDigits;
    digits.individual_digits = true;
    steps->push_back(std::move(digits));
    return AddByteLevel(kGpt2Pattern, steps);
  }
  if (name == "llama-bpe") {
    spec->model.ignore_merges = true;
    return AddSplit(kLlama3Pattern, steps);
  }
  if (name == "qwen2") {
    NormalizerStep nfc{};
    nfc.kind = NormalizerStep::Kind::kNfc;
    spec->normalizer.push_back(std::move(nfc));
    return AddSplit(kQwen2Pattern, steps);
  }
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.ggml.pre \"", name,
                   "\" is not supported (known: gpt-2, llama-bpe, qwen2, smollm)"));
}

absl::Status SetModel(const GgufVocabulary& vocabulary, BpeTokenizerSpec* spec) {
  const size_t size = vocabulary.tokens.size();
  if (size == 0 || size > static_cast<size_t>(kMaxVocabulary)) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens has ", size, " entries"));
  }
  if (!vocabulary.token_types.empty() && vocabulary.token_types.size() != size) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens has ", size,
                                                   " entries and token_type ",
                                                   vocabulary.token_types.size()));
  }
  for (size_t i = 0; i < size; ++i) {
    const int32_t id = static_cast<int32_t>(i);
    if (ReplaceInvalidUtf8(vocabulary.tokens[i]) != vocabulary.tokens[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.tokens[", i, "] is not valid UTF-8"));
    }
    spec->model.vocabulary.emplace_back(vocabulary.tokens[i], id);
    const int32_t type = vocabulary.token_types.empty() ? 1 : vocabulary.token_types[i];
    if (type != kTypeControl && type != kTypeUserDefined) continue;
    AddedToken token;
    token.id = id;
    token.content = vocabulary.tokens[i];
    token.special = type == kTypeControl;
    if (token.content.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens[", i, "] is empty"));
    }
    spec->added_tokens.push_back(std::move(token));
  }
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    const std::string& merge = vocabulary.merges[i];
    const size_t space = merge.find(' ');
    if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer.ggml.merges[", i, "] should be two tokens with one space between"));
    }
    spec->model.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int32_t>> Role(const GgufVocabulary& vocabulary, int32_t id,
                                            const char* name) {
  if (id < 0) return std::optional<int32_t>();
  if (static_cast<size_t>(id) >= vocabulary.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.", name, "_token_id is ", id, ", past the vocabulary"));
  }
  return std::optional<int32_t>(id);
}

absl::Status SetRoles(const GgufVocabulary& vocabulary, BpeTokenizerSpec* spec) {
  struct Entry {
    int32_t id;
    const char* name;
    std::optional<int32_t>* out;
  };
  SpecialTokenIds* ids = &spec->special_ids;
  for (const Entry& entry :
       {Entry{vocabulary.bos_id, "bos", &ids->bos}, Entry{vocabulary.eos_id, "eos", &ids->eos},
        Entry{vocabulary.unknown_id, "unknown", &ids->unknown},
        Entry{vocabulary.padding_id, "padding", &ids->padding}}) {
    absl::StatusOr<std::optional<int32_t>> id = Role(vocabulary, entry.id, entry.name);
    if (!id.ok()) return id.status();
    *entry.out = *id;
  }
  if ((vocabulary.add_bos && !ids->bos) || (vocabulary.add_eos && !ids->eos)) {
    return absl::InvalidArgumentError(
        "tokenizer.ggml: BOS or EOS is to be added, but the file names no such token");
  }
  if (vocabulary.add_bos) spec->prefix.push_back(*ids->bos);
  if (vocabulary.add_eos) spec->suffix.push_back(*ids->eos);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeTokenizerSpec> BpeSpecFromGguf(const GgufVocabulary& vocabulary) {
  BpeTokenizerSpec spec;
  if (absl::Status status = SetPreTokenizer(vocabulary.pre, &spec); !status.ok()) return status;
  if (absl::Status status = SetModel(vocabulary, &spec); !status.ok()) return status;
  if (absl::Status status = SetRoles(vocabulary, &spec); !status.ok()) return status;
  spec.decoder.push_back({TokenTextStep::Kind::kByteLevel, "", ""});
  return spec;
}

}  // namespace rankine::tokenizer
