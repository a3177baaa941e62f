#include "models/tokenizer/sentencepiece_tokenizer.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/sentencepiece_library.h"
#include "models/tokenizer/sentencepiece_proto.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

constexpr char kSpaceMark[] = "\xE2\x96\x81";      // U+2581
constexpr char kUnknownText[] = " \xE2\x81\x87 ";  // what sentencepiece decodes an unknown token to

std::string TextOf(const SentencePieceLibrary& library, int32_t id) {
  const std::string& piece = library.Piece(id);
  if (library.IsUnknown(id)) return kUnknownText;
  if (library.IsByte(id)) {
    return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
  }
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.compare(at, sizeof(kSpaceMark) - 1, kSpaceMark) == 0) {
      text.push_back(' ');
      at += sizeof(kSpaceMark) - 1;
    } else {
      text.push_back(piece[at++]);
    }
  }
  return text;
}

std::optional<int32_t> IdOrNone(int32_t id) {
  if (id < 0) return std::nullopt;
  return id;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::unique_ptr<const SentencePieceLibrary> library,
                         SentencePieceOptions options, bool strips_leading_space)
      : library_(std::move(library)),
        options_(std::move(options)),
        strips_leading_space_(strips_leading_space) {
    special_ids_ = {IdOrNone(library_->bos_id()), IdOrNone(library_->eos_id()),
                    IdOrNone(library_->unknown_id()), IdOrNone(library_->padding_id())};
  }

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
  bool StripsLeadingSpace() const override { return strips_leading_space_; }

 private:
  struct TokenInfo {
    std::string piece;
    std::string text;
    bool is_special = false;
  };
  bool Exists(int32_t id) const { return id >= 0 && id < vocab_size(); }
  absl::Status Add(const AddedToken& token);

  std::unique_ptr<const SentencePieceLibrary> library_;
  SentencePieceOptions options_;
  bool strips_leading_space_;
  std::vector<TokenInfo> tokens_;  // by id
  absl::flat_hash_map<std::string, int32_t> ids_;
  AddedTokenFinder finder_;
};

absl::Status SentencePieceTokenizer::Add(const AddedToken& token) {
  if (auto status = CheckAddedTokenLength(token, token.content); !status.ok()) return status;
  if (token.id < 0 || token.id >= kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat("added token \"", token.content, "\" has the id ", token.id));
  }
  if (!Exists(token.id)) tokens_.resize(static_cast<size_t>(token.id) + 1);
  TokenInfo& info = tokens_[static_cast<size_t>(token.id)];
  if (!info.piece.empty() && info.piece != token.content) {
    return absl::InvalidArgumentError(absl::StrCat(
        "added token \"", token.content, "\" has the id ", token.id, " of \"", info.piece, "\""));
  }
  if (info.piece.empty()) info = {token.content, token.content, token.special};
  info.is_special = info.is_special || token.special;
  const auto [entry, is_new] = ids_.try_emplace(token.content, token.id);
  if (!is_new && entry->second != token.id) {
    return absl::InvalidArgumentError(absl::StrCat(
        "added token \"", token.content, "\" has two ids, ", entry->second, " and ", token.id));
  }
  return absl::OkStatus();
}

absl::Status SentencePieceTokenizer::Init() {
  // Control tokens of the model itself are found like added ones.
  for (int32_t id = 0; id < library_->size(); ++id) {
    const bool is_control = library_->IsControl(id);
    tokens_.push_back({library_->Piece(id), TextOf(*library_, id), is_control});
    ids_.emplace(library_->Piece(id), id);
    if (!is_control) continue;
    AddedToken token;
    token.id = id;
    token.content = library_->Piece(id);
    token.special = true;
    options_.added_tokens.push_back(std::move(token));
  }
  for (const AddedToken& token : options_.added_tokens) {
    if (absl::Status status = Add(token); !status.ok()) return status;
    finder_.Add(&token, token.content);
  }
  const bool has_bos = special_ids_.bos.has_value();
  const bool has_eos = special_ids_.eos.has_value();
  if ((options_.add_bos && !has_bos) || (options_.add_eos && !has_eos)) {
    return absl::InvalidArgumentError(
        "the tokenizer should add BOS or EOS, but its vocabulary has no such token");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> SentencePieceTokenizer::Encode(
    std::string_view text, const EncodeOptions& options) const {
  const std::string valid = ReplaceInvalidUtf8(text);
  std::vector<int32_t> ids;
  if (options.add_special && options_.add_bos) ids.push_back(*special_ids_.bos);
  for (const AddedTokenSection& section : finder_.Find(valid, options.parse_special)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
      continue;
    }
    const std::string_view plain =
        std::string_view(valid).substr(section.begin, section.end - section.begin);
    std::string error;
    if (!library_->Encode(plain, &ids, &error)) {
      return absl::InternalError(absl::StrCat("sentencepiece: ", error));
    }
  }
  if (options.add_special && options_.add_eos) ids.push_back(*special_ids_.eos);
  return ids;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeSentencePieceTokenizer(
    const std::string& serialized, SentencePieceOptions options) {
  absl::StatusOr<SentencePieceSettings> settings = ReadSentencePieceSettings(serialized);
  if (!settings.ok()) return settings.status();
  if (settings->whitespace_as_suffix) {
    return absl::UnimplementedError("tokenizer.model: treat_whitespace_as_suffix is not supported");
  }
  absl::flat_hash_set<int32_t> special_ids;
  for (const AddedToken& token : options.added_tokens) {
    if (token.special) special_ids.insert(token.id);
  }
  std::string error;
  std::unique_ptr<const SentencePieceLibrary> library =
      SentencePieceLibrary::Load(WithControlPieces(serialized, special_ids), &error);
  if (library == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.model: not a valid sentencepiece model: ", error));
  }
  const bool strips = settings->add_dummy_prefix || settings->remove_extra_whitespaces;
  auto tokenizer =
      std::make_unique<SentencePieceTokenizer>(std::move(library), std::move(options), strips);
  if (absl::Status status = tokenizer->Init(); !status.ok()) return status;
  return tokenizer;
}

}  // namespace rankine::tokenizer
