// The goldens of tests/data/tokenizer (made by tests/testing/generators/tokenizer_goldens.py).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tokenizer/gguf_vocabulary.h"
#include "models/tokenizer/tokenizer.h"

namespace rankine::testing {

class TokenizerGoldens {
 public:
  // `folder` holds the golden files.
  explicit TokenizerGoldens(std::string folder);

  const std::vector<std::string>& strings() const { return strings_; }
  // One digest per string; `name` as in digests.json.
  std::vector<std::string> Digests(const std::string& name) const;
  // Ids of each string, from smollm2.ids.
  std::vector<std::vector<int32_t>> SmolIds() const;

  // The tokenizer of <name>.json or <name>.spm, through LoadTokenizer of a temporary folder.
  std::unique_ptr<const Tokenizer> Load(const std::string& name) const;
  // The vocabulary of <name>.json as a GGUF with pre-tokenizer `pre` would carry it.
  GgufVocabulary AsGguf(const std::string& name, const std::string& pre) const;
  GgufVocabulary SentencePieceVocabulary() const;

  std::string Read(const std::string& file) const;

 private:
  std::string folder_;
  std::vector<std::string> strings_;
};

// As the generator makes them: 16 bits of FNV-1a over the decimal numbers.
std::string Digest(const std::vector<int32_t>& ids);
std::string DigestOfBytes(std::string_view text);

// A fresh folder that nothing else uses.
std::string MakeTemporaryFolder();
void WriteFileOrDie(const std::string& path, std::string_view text);

// The vocabulary of the demo model; an error when RANKINE_TEST_GGUF does not name it.
absl::StatusOr<GgufVocabulary> DemoModelVocabulary();

}  // namespace rankine::testing
