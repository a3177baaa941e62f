// The tokenizer of tokenizer.json: find added tokens, normalize, find added tokens again, split,
// merge (BPE) or match (WordPiece).
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/base/check.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

struct TokenInfo {
  std::string piece;
  std::string text;
  bool is_special = false;
  bool exists = false;
};

std::string ReplaceAll(std::string text, const std::string& from, const std::string& to) {
  if (from.empty()) return text;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// The byte of a piece like "<0x0A>".
std::optional<char> FallbackByte(const std::string& piece) {
  if (piece.size() != 6 || piece.compare(0, 3, "<0x") != 0 || piece[5] != '>') return std::nullopt;
  int value = 0;
  for (char c : {piece[3], piece[4]}) {
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (c >= 'A' && c <= 'F') {
      value = value * 16 + (c - 'A' + 10);
    } else if (c >= 'a' && c <= 'f') {
      value = value * 16 + (c - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return static_cast<char>(value);
}

// With a space before it unless it continues a word; what "cleanup" means is fixed by `tokenizers`.
std::string WordPieceText(const TokenTextStep& step, std::string text) {
  const bool continues = !step.from.empty() && text.compare(0, step.from.size(), step.from) == 0;
  text = continues ? text.substr(step.from.size()) : " " + text;
  if (!step.cleanup) return text;
  for (const auto& [from, to] :
       {std::pair(" .", "."), std::pair(" ?", "?"), std::pair(" !", "!"), std::pair(" ,", ","),
        std::pair(" ' ", "'"), std::pair(" n't", "n't"), std::pair(" 'm", "'m"),
        std::pair(" do not", " don't"), std::pair(" 's", "'s"), std::pair(" 've", "'ve"),
        std::pair(" 're", "'re")}) {
    text = ReplaceAll(std::move(text), from, to);
  }
  return text;
}

std::string TokenText(const std::vector<TokenTextStep>& steps, bool is_added, std::string text) {
  for (const TokenTextStep& step : steps) {
    switch (step.kind) {
      case TokenTextStep::Kind::kByteLevel:
        // Added tokens are their own text, even where all their characters stand for bytes.
        if (!is_added) text = CharactersToBytes(text).value_or(text);
        break;
      case TokenTextStep::Kind::kReplace:
        text = ReplaceAll(std::move(text), step.from, step.to);
        break;
      case TokenTextStep::Kind::kWordPiece:
        text = WordPieceText(step, std::move(text));
        break;
      case TokenTextStep::Kind::kByteFallback:
        if (const std::optional<char> byte = FallbackByte(text)) text.assign(1, *byte);
        break;
    }
  }
  return text;
}

class BpeTokenizer : public Tokenizer {
 public:
  // One of the two models.
  BpeTokenizer(BpeTokenizerSpec spec, std::optional<Bpe> bpe, std::optional<WordPiece> word_piece)
      : spec_(std::move(spec)), bpe_(std::move(bpe)), word_piece_(std::move(word_piece)) {
    special_ids_ = spec_.special_ids;
  }

  // Fills the tables; the rest of the construction, which can fail.
  absl::Status Init();

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                              const EncodeOptions& options) const override;

  int64_t vocab_size() const override { return static_cast<int64_t>(tokens_.size()); }
  std::optional<int32_t> TokenId(std::string_view piece) const override {
    const auto found = ids_.find(absl::string_view(piece.data(), piece.size()));
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }
  std::string_view Piece(int32_t id) const override {
    return Exists(id) ? std::string_view(tokens_[id].piece) : std::string_view();
  }
  bool IsSpecial(int32_t id) const override { return Exists(id) && tokens_[id].is_special; }
  std::string_view TokenBytes(int32_t id) const override {
    return Exists(id) ? std::string_view(tokens_[id].text) : std::string_view();
  }
  bool StripsLeadingSpace() const override { return spec_.strip_leading_space; }

 private:
  bool Exists(int32_t id) const {
    return id >= 0 && id < vocab_size() && tokens_[static_cast<size_t>(id)].exists;
  }
  absl::Status SetToken(int32_t id, const std::string& piece, bool is_added, bool is_special);
  absl::Status EncodePlain(std::string text, bool at_start, const EncodeOptions& options,
                           std::vector<int32_t>* ids, int64_t* queue_operations) const;

  BpeTokenizerSpec spec_;
  std::optional<Bpe> bpe_;
  std::optional<WordPiece> word_piece_;
  std::vector<TokenInfo> tokens_;  // by id
  absl::flat_hash_map<std::string, int32_t> ids_;
  AddedTokenFinder raw_finder_;         // tokens with normalized = false
  AddedTokenFinder normalized_finder_;  // the others
};

absl::Status BpeTokenizer::SetToken(int32_t id, const std::string& piece, bool is_added,
                                    bool is_special) {
  if (id < 0 || id >= kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat("token \"", piece, "\" has the id ", id, ", which is out of range"));
  }
  if (id >= vocab_size()) tokens_.resize(static_cast<size_t>(id) + 1);
  TokenInfo& token = tokens_[static_cast<size_t>(id)];
  if (token.exists && token.piece != piece) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens \"", token.piece, "\" and \"", piece, "\" have the same id ", id));
  }
  const auto [entry, is_new] = ids_.try_emplace(piece, id);
  if (!is_new && entry->second != id) {
    return absl::InvalidArgumentError(
        absl::StrCat("token \"", piece, "\" has two ids, ", entry->second, " and ", id));
  }
  token = {piece, TokenText(spec_.decoder, is_added, piece), is_special || token.is_special, true};
  return absl::OkStatus();
}

absl::Status BpeTokenizer::Init() {
  for (const auto& [piece, id] : spec_.model.vocabulary) {
    if (absl::Status status = SetToken(id, piece, false, false); !status.ok()) return status;
  }
  for (const AddedToken& token : spec_.added_tokens) {
    absl::Status status = SetToken(token.id, token.content, true, token.special);
    if (status.ok()) status = CheckAddedTokenLength(token, token.content);
    if (!status.ok()) return status;
    if (!token.normalized) {
      raw_finder_.Add(&token, token.content);
      continue;
    }
    std::string content = token.content;
    bool start_removed = false;
    status = Normalize(spec_.normalizer, &content, &start_removed);
    if (status.ok()) status = CheckAddedTokenLength(token, content);
    if (!status.ok()) return status;
    normalized_finder_.Add(&token, content);
  }
  for (const std::vector<int32_t>* ids : {&spec_.prefix, &spec_.suffix}) {
    for (int32_t id : *ids) {
      if (!Exists(id)) {
        return absl::InvalidArgumentError(
            absl::StrCat("post_processor adds the token ", id, ", which does not exist"));
      }
    }
  }
  // The vocabulary lives in tokens_ and in bpe_ from here on.
  spec_.model = {};
  return absl::OkStatus();
}

absl::Status BpeTokenizer::EncodePlain(std::string text, bool at_start,
                                       const EncodeOptions& options, std::vector<int32_t>* ids,
                                       int64_t* queue_operations) const {
  bool start_removed = false;
  absl::Status status = Normalize(spec_.normalizer, &text, &start_removed);
  if (!status.ok()) return status;
  at_start = at_start && !start_removed;
  for (const AddedTokenSection& section : normalized_finder_.Find(text, options.parse_special)) {
    if (section.token != nullptr) {
      ids->push_back(section.token->id);
      continue;
    }
    std::vector<TextPiece> pieces;
    pieces.push_back(
        {text.substr(section.begin, section.end - section.begin), at_start && section.begin == 0});
    if (status = PreTokenize(spec_.pre_tokenizer, &pieces); !status.ok()) return status;
    for (const TextPiece& piece : pieces) {
      bpe_ ? bpe_->Encode(piece.text, ids, queue_operations) : word_piece_->Encode(piece.text, ids);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> BpeTokenizer::Encode(std::string_view text,
                                                          const EncodeOptions& options) const {
  const std::string valid = ReplaceInvalidUtf8(text);
  std::vector<int32_t> ids;
  int64_t queue_operations = 0;
  if (options.add_special) ids = spec_.prefix;
  for (const AddedTokenSection& section : raw_finder_.Find(valid, options.parse_special)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
      continue;
    }
    absl::Status status = EncodePlain(valid.substr(section.begin, section.end - section.begin),
                                      section.begin == 0, options, &ids, &queue_operations);
    if (!status.ok()) return status;
  }
  if (options.add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
  if (options.stats != nullptr) options.stats->queue_operations += queue_operations;
  return ids;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeBpeTokenizer(BpeTokenizerSpec spec) {
  std::vector<int32_t> control_ids;
  for (const AddedToken& token : spec.added_tokens) {
    // The unknown token stands for text that the vocabulary cannot spell, so it may come out of a
    // text.
    if (token.special && token.content != spec.model.unknown_token) control_ids.push_back(token.id);
  }
  std::optional<Bpe> bpe;
  std::optional<WordPiece> word_piece;
  if (spec.word_piece) {
    auto made = WordPiece::Create(spec.model, *spec.word_piece, control_ids);
    if (!made.ok()) return made.status();
    word_piece = *std::move(made);
  } else {
    auto made = Bpe::Create(spec.model, control_ids);
    if (!made.ok()) return made.status();
    bpe = *std::move(made);
  }
  auto tokenizer =
      std::make_unique<BpeTokenizer>(std::move(spec), std::move(bpe), std::move(word_piece));
  if (absl::Status status = tokenizer->Init(); !status.ok()) return status;
  return tokenizer;
}

}  // namespace rankine::tokenizer
