#include "tests/testing/byte_tokenizer.h"

#include <string>
#include <vector>

namespace rankine::testing {
namespace {

const char* const kControl[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int byte = 0; byte < 256; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
    for (const char* control : kControl) pieces_.emplace_back(control);
    special_ids_.bos = kByteBos;
    special_ids_.eos = kByteEos;
  }

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                              const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special) ids.push_back(kByteBos);
    while (!text.empty()) {
      const int32_t control = options.parse_special ? ControlAt(text) : -1;
      ids.push_back(control >= 0 ? control : static_cast<uint8_t>(text.front()));
      text.remove_prefix(pieces_[ids.back()].size());
    }
    return ids;
  }

  int64_t vocab_size() const override { return kByteVocabSize; }
  std::optional<int32_t> TokenId(std::string_view piece) const override {
    for (int32_t id = 0; id < kByteVocabSize; ++id) {
      if (pieces_[id] == piece) return id;
    }
    return std::nullopt;
  }
  std::string_view Piece(int32_t id) const override {
    return id >= 0 && id < kByteVocabSize ? std::string_view(pieces_[id]) : std::string_view();
  }
  bool IsSpecial(int32_t id) const override { return id >= kByteBos && id < kByteVocabSize; }
  std::string_view TokenBytes(int32_t id) const override { return Piece(id); }
  bool StripsLeadingSpace() const override { return false; }

 private:
  int32_t ControlAt(std::string_view text) const {
    for (int32_t id = kByteBos; id < kByteVocabSize; ++id) {
      if (text.substr(0, pieces_[id].size()) == pieces_[id]) return id;
    }
    return -1;
  }

  std::vector<std::string> pieces_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakeByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace rankine::testing
