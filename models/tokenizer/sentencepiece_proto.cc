#include "models/tokenizer/sentencepiece_proto.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// Field numbers of sentencepiece_model.proto.
namespace model {
constexpr uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
}
namespace piece {
constexpr uint32_t kPiece = 1, kScore = 2, kType = 3;
}
namespace trainer {
constexpr uint32_t kModelType = 3, kVocabSize = 4, kWhitespaceAsSuffix = 24, kByteFallback = 35;
constexpr uint32_t kUnkId = 40, kBosId = 41, kEosId = 42, kPadId = 43;
constexpr uint32_t kUnkPiece = 45, kBosPiece = 46, kEosPiece = 47, kPadPiece = 48;
constexpr uint64_t kTypeBpe = 2;
}  // namespace trainer
namespace normalizer {
constexpr uint32_t kName = 1, kAddDummyPrefix = 3, kRemoveExtraWhitespaces = 4, kEscape = 5;
}

constexpr int32_t kTypeNormal = 1, kTypeUnknown = 2, kTypeControl = 3, kTypeUserDefined = 4;
constexpr int32_t kTypeByte = 6;

void PutVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void PutTag(uint32_t field, WireType type, std::string* out) {
  PutVarint((static_cast<uint64_t>(field) << 3) | type, out);
}

// Negative numbers are sign-extended to 64 bits, as protobuf's int32 is.
void PutInt(uint32_t field, int64_t value, std::string* out) {
  PutTag(field, kVarint, out);
  PutVarint(static_cast<uint64_t>(value), out);
}

void PutBytes(uint32_t field, std::string_view bytes, std::string* out) {
  PutTag(field, kBytes, out);
  PutVarint(bytes.size(), out);
  out->append(bytes);
}

void PutFloat(uint32_t field, float value, std::string* out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  PutTag(field, kFixed32, out);
  for (int i = 0; i < 4; ++i) out->push_back(static_cast<char>(bits >> (8 * i)));
}

struct Field {
  uint32_t number;
  uint64_t value = 0;      // kVarint
  std::string_view bytes;  // kBytes
};

// Walks the fields of one message; empty at the end, and after malformed bytes, which `ok` tells
// apart.
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}
  bool ok() const { return ok_; }
  // What Next has not read.
  std::string_view rest() const { return rest_; }

  std::optional<Field> Next() {
    if (rest_.empty() || !ok_) return std::nullopt;
    const uint64_t tag = Varint();
    Field field{static_cast<uint32_t>(tag >> 3)};
    switch (tag & 7) {
      case kVarint:
        field.value = Varint();
        break;
      case kFixed64:
        Take(8);
        break;
      case kFixed32:
        Take(4);
        break;
      case kBytes:
        field.bytes = Take(Varint());
        break;
      default:
        ok_ = false;
    }
    if (!ok_) return std::nullopt;
    return field;
  }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const uint8_t byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }

  std::string_view Take(uint64_t size) {
    if (size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

int32_t PieceType(std::string_view message) {
  int32_t type = kTypeNormal;
  FieldReader reader(message);
  while (const std::optional<Field> field = reader.Next()) {
    if (field->number == piece::kType) type = static_cast<int32_t>(field->value);
  }
  return type;
}

absl::Status CheckVocabulary(const GgufVocabulary& vocabulary) {
  const size_t size = vocabulary.tokens.size();
  if (vocabulary.scores.size() != size || vocabulary.token_types.size() != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.tokens has ", size, " entries, scores ",
                     vocabulary.scores.size(), " and token_type ", vocabulary.token_types.size()));
  }
  for (size_t i = 0; i < size; ++i) {
    if (!std::isfinite(vocabulary.scores[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.scores[", i, "] is not finite"));
    }
    if (ReplaceInvalidUtf8(vocabulary.tokens[i]) != vocabulary.tokens[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.tokens[", i, "] is not valid UTF-8"));
    }
    const int32_t type = vocabulary.token_types[i];
    if (type < kTypeNormal || type > kTypeByte) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.token_type[", i, "] is ", type, ", which means nothing"));
    }
  }
  return absl::OkStatus();
}

// The library finds a role's token by its piece, and reports its id only when that piece is a
// control token.
void PutRole(const GgufVocabulary& vocabulary, int32_t id, uint32_t id_field, uint32_t piece_field,
             std::string* out) {
  const bool exists = id >= 0 && static_cast<size_t>(id) < vocabulary.tokens.size();
  PutInt(id_field, exists ? id : -1, out);
  if (exists) PutBytes(piece_field, vocabulary.tokens[static_cast<size_t>(id)], out);
}

std::string SerializeTrainer(const GgufVocabulary& vocabulary) {
  bool has_bytes = false;
  int32_t unknown_id = vocabulary.unknown_id;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.token_types[i] == kTypeByte) has_bytes = true;
    if (vocabulary.token_types[i] == kTypeUnknown) unknown_id = static_cast<int32_t>(i);
  }
  std::string out;
  PutInt(trainer::kModelType, trainer::kTypeBpe, &out);
  PutInt(trainer::kVocabSize, static_cast<int64_t>(vocabulary.tokens.size()), &out);
  PutInt(trainer::kByteFallback, has_bytes ? 1 : 0, &out);
  PutRole(vocabulary, unknown_id, trainer::kUnkId, trainer::kUnkPiece, &out);
  PutRole(vocabulary, vocabulary.bos_id, trainer::kBosId, trainer::kBosPiece, &out);
  PutRole(vocabulary, vocabulary.eos_id, trainer::kEosId, trainer::kEosPiece, &out);
  PutRole(vocabulary, vocabulary.padding_id, trainer::kPadId, trainer::kPadPiece, &out);
  return out;
}

std::string SerializeNormalizer(const GgufVocabulary& vocabulary) {
  std::string out;
  PutBytes(normalizer::kName, "identity", &out);
  PutInt(normalizer::kAddDummyPrefix, vocabulary.add_space_prefix ? 1 : 0, &out);
  PutInt(normalizer::kRemoveExtraWhitespaces, 0, &out);
  PutInt(normalizer::kEscape, 1, &out);
  return out;
}

}  // namespace

absl::StatusOr<std::string> SerializeSentencePieceModel(const GgufVocabulary& vocabulary) {
  if (absl::Status status = CheckVocabulary(vocabulary); !status.ok()) return status;
  std::string out;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    std::string message;
    PutBytes(piece::kPiece, vocabulary.tokens[i], &message);
    PutFloat(piece::kScore, vocabulary.scores[i], &message);
    PutInt(piece::kType, vocabulary.token_types[i], &message);
    PutBytes(model::kPieces, message, &out);
  }
  PutBytes(model::kTrainer, SerializeTrainer(vocabulary), &out);
  PutBytes(model::kNormalizer, SerializeNormalizer(vocabulary), &out);
  return out;
}

std::string WithControlPieces(std::string_view serialized,
                              const absl::flat_hash_set<int32_t>& ids) {
  std::string out;
  FieldReader reader(serialized);
  int32_t id = 0;
  std::string_view before = reader.rest();
  while (const std::optional<Field> field = reader.Next()) {
    const std::string_view stored = before.substr(0, before.size() - reader.rest().size());
    before = reader.rest();
    const bool is_piece = field->number == model::kPieces;
    const int32_t type = is_piece && ids.contains(id) ? PieceType(field->bytes) : kTypeControl;
    if (type == kTypeUserDefined || type == kTypeNormal) {
      // Of a field that occurs twice, the last counts.
      std::string message(field->bytes);
      PutInt(piece::kType, kTypeControl, &message);
      PutBytes(model::kPieces, message, &out);
    } else {
      out.append(stored);
    }
    if (is_piece) ++id;
  }
  return reader.ok() ? out : std::string(serialized);
}

absl::StatusOr<SentencePieceSettings> ReadSentencePieceSettings(std::string_view serialized) {
  SentencePieceSettings settings;
  FieldReader reader(serialized);
  bool ok = true;
  while (const std::optional<Field> field = reader.Next()) {
    FieldReader inner(field->bytes);
    if (field->number != model::kTrainer && field->number != model::kNormalizer) continue;
    while (const std::optional<Field> setting = inner.Next()) {
      if (field->number == model::kTrainer) {
        if (setting->number == trainer::kWhitespaceAsSuffix) {
          settings.whitespace_as_suffix = setting->value != 0;
        }
      } else if (setting->number == normalizer::kAddDummyPrefix) {
        settings.add_dummy_prefix = setting->value != 0;
      } else if (setting->number == normalizer::kRemoveExtraWhitespaces) {
        settings.remove_extra_whitespaces = setting->value != 0;
      }
    }
    ok = ok && inner.ok();
  }
  if (!ok || !reader.ok()) {
    return absl::InvalidArgumentError("tokenizer.model: not a sentencepiece model");
  }
  return settings;
}

}  // namespace rankine::tokenizer
