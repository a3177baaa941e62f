// The sentencepiece library behind a plain interface. Its header declares an absl::string_view of
// its own, so no file can include both it and Abseil; this header includes neither.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace rankine::tokenizer {

// Immutable and thread-safe after Load.
class SentencePieceLibrary {
 public:
  // `serialized` is a ModelProto (the bytes of a tokenizer.model). Null, and a message, when it is
  // not valid.
  static std::unique_ptr<const SentencePieceLibrary> Load(std::string_view serialized,
                                                          std::string* error);
  ~SentencePieceLibrary();

  // Appends the ids; false, and a message, on failure.
  bool Encode(std::string_view text, std::vector<int32_t>* ids, std::string* error) const;

  int32_t size() const;
  const std::string& Piece(int32_t id) const;
  bool IsControl(int32_t id) const;
  bool IsUnknown(int32_t id) const;
  bool IsByte(int32_t id) const;
  // -1 where the model has none.
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t unknown_id() const;
  int32_t padding_id() const;

 private:
  SentencePieceLibrary();
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace rankine::tokenizer
