// The little of sentencepiece's ModelProto that is read or written here, in protobuf wire format by
// hand: generated types belong to serving alone, and the library keeps its own to itself.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "models/tokenizer/gguf_vocabulary.h"

namespace rankine::tokenizer {

// A ModelProto (BPE with byte fallback, as Llama's) with the pieces, scores and types of a GGUF
// vocabulary of model "llama". kInvalidArgument when scores or types are missing or out of range.
absl::StatusOr<std::string> SerializeSentencePieceModel(const GgufVocabulary& vocabulary);

// `serialized` with the normal and user-defined pieces of these ids made control pieces: the
// library finds those in any text, and control pieces in none. Bytes that are no ModelProto come
// back as they are.
std::string WithControlPieces(std::string_view serialized, const absl::flat_hash_set<int32_t>& ids);

struct SentencePieceSettings {
  bool add_dummy_prefix = true;          // a space goes before the text
  bool remove_extra_whitespaces = true;  // runs of spaces become one
  bool whitespace_as_suffix = false;     // the space belongs to the word before it
};

absl::StatusOr<SentencePieceSettings> ReadSentencePieceSettings(std::string_view serialized);

}  // namespace rankine::tokenizer
