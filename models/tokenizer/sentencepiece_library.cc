#include "models/tokenizer/sentencepiece_library.h"

#include <sentencepiece_processor.h>

namespace rankine::tokenizer {

SentencePieceLibrary::SentencePieceLibrary()
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}

SentencePieceLibrary::~SentencePieceLibrary() = default;

std::unique_ptr<const SentencePieceLibrary> SentencePieceLibrary::Load(std::string_view serialized,
                                                                       std::string* error) {
  std::unique_ptr<SentencePieceLibrary> library(new SentencePieceLibrary());
  const auto status = library->processor_->LoadFromSerializedProto(serialized);
  if (status.ok()) return library;
  *error = status.ToString();
  return nullptr;
}

bool SentencePieceLibrary::Encode(std::string_view text, std::vector<int32_t>* ids,
                                  std::string* error) const {
  std::vector<int> found;
  const auto status = processor_->Encode(text, &found);
  if (!status.ok()) {
    *error = status.ToString();
    return false;
  }
  ids->insert(ids->end(), found.begin(), found.end());
  return true;
}

int32_t SentencePieceLibrary::size() const { return processor_->GetPieceSize(); }
const std::string& SentencePieceLibrary::Piece(int32_t id) const {
  return processor_->IdToPiece(id);
}
bool SentencePieceLibrary::IsControl(int32_t id) const { return processor_->IsControl(id); }
bool SentencePieceLibrary::IsUnknown(int32_t id) const { return processor_->IsUnknown(id); }
bool SentencePieceLibrary::IsByte(int32_t id) const { return processor_->IsByte(id); }
int32_t SentencePieceLibrary::bos_id() const { return processor_->bos_id(); }
int32_t SentencePieceLibrary::eos_id() const { return processor_->eos_id(); }
int32_t SentencePieceLibrary::unknown_id() const { return processor_->unk_id(); }
int32_t SentencePieceLibrary::padding_id() const { return processor_->pad_id(); }

}  // namespace rankine::tokenizer
