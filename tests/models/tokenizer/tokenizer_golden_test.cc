// Equality with Hugging Face `tokenizers` and sentencepiece on 3,400 strings, for each kind of
// tokenizer.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "tests/testing/tokenizer_goldens.h"

namespace rankine {
namespace {

using testing::Digest;
using testing::DigestOfBytes;
using testing::TokenizerGoldens;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};
constexpr EncodeOptions kParsed{.add_special = true, .parse_special = true};

const TokenizerGoldens& Goldens() {
  static const auto* goldens = new TokenizerGoldens(RANKINE_TEST_DATA "/tokenizer");
  return *goldens;
}

std::vector<int32_t> Encode(const Tokenizer& tokenizer, const std::string& text,
                            const EncodeOptions& options) {
  auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<int32_t>();
}

std::string Join(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (int32_t id : ids) {
    text += std::to_string(id) + ":" + std::string(tokenizer.Piece(id)) + " ";
  }
  return text;
}

// Compares every string (but those that the generator marks as ties of a unigram model); prints the
// first few that differ.
void ExpectIds(const Tokenizer& tokenizer, const std::string& golden,
               const EncodeOptions& options) {
  const std::vector<std::string> digests = Goldens().Digests(golden);
  const std::vector<std::string>& strings = Goldens().strings();
  ASSERT_GE(strings.size(), 3000u);
  ASSERT_EQ(digests.size(), strings.size());
  int num_different = 0;
  for (size_t i = 0; i < strings.size(); ++i) {
    const std::vector<int32_t> ids = Encode(tokenizer, strings[i], options);
    if (Digest(ids) == digests[i] || digests[i] == "tied") continue;
    if (++num_different <= 5) {
      ADD_FAILURE() << golden << " differs on string " << i << " \"" << strings[i]
                    << "\": " << Join(tokenizer, ids);
    }
  }
  EXPECT_EQ(num_different, 0);
}

void ExpectDecoded(const Tokenizer& tokenizer, const std::string& golden,
                   const EncodeOptions& options) {
  const std::vector<std::string> digests = Goldens().Digests(golden);
  const std::vector<std::string>& strings = Goldens().strings();
  int num_different = 0;
  for (size_t i = 0; i < strings.size(); ++i) {
    const std::vector<int32_t> ids = Encode(tokenizer, strings[i], options);
    const std::string text = tokenizer.Decode(ids, /*skip_special=*/true);
    if (DigestOfBytes(text) != digests[i] && ++num_different <= 5) {
      ADD_FAILURE() << golden << " differs on string " << i << " \"" << strings[i] << "\": \""
                    << text << "\"";
    }
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (int32_t id : ids) streamed += stream.Append(id);
    streamed += stream.Flush();
    ASSERT_EQ(streamed, text);
  }
  EXPECT_EQ(num_different, 0);
}

void ExpectNoControlToken(const Tokenizer& tokenizer) {
  for (const std::string& text : Goldens().strings()) {
    for (int32_t id : Encode(tokenizer, text, kPlain)) {
      const bool is_unknown = tokenizer.Piece(id) == "<unk>" || tokenizer.Piece(id) == "[UNK]";
      ASSERT_TRUE(is_unknown || !tokenizer.IsSpecial(id))
          << text << " gives " << tokenizer.Piece(id);
    }
  }
}

class TokenizerJson : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerJson, EqualsHuggingFace) {
  const std::string name = GetParam();
  const std::unique_ptr<const Tokenizer> tokenizer = Goldens().Load(name);
  ExpectIds(*tokenizer, name + ".parsed", kParsed);
  ExpectIds(*tokenizer, name + ".plain", kPlain);
  ExpectDecoded(*tokenizer, name + ".decoded", kParsed);
  ExpectNoControlToken(*tokenizer);
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerJson,
                         ::testing::Values("gpt2", "llama3", "qwen2", "llama2", "metaspace",
                                           "flags", "behaviors", "wordpiece", "wordpiece_cased"),
                         [](const auto& info) { return std::string(info.param); });

// A folder with vocab.txt alone is the uncased BERT that its tokenizer.json would be.
TEST(WordPieceVocabulary, EqualsHuggingFace) {
  const std::string folder = testing::MakeTemporaryFolder();
  testing::WriteFileOrDie(folder + "/vocab.txt", Goldens().Read("wordpiece_vocab.txt"));
  auto tokenizer = LoadTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectIds(**tokenizer, "wordpiece.parsed", kParsed);
  ExpectIds(**tokenizer, "wordpiece.plain", kPlain);
  ExpectDecoded(**tokenizer, "wordpiece.decoded", kParsed);
  std::filesystem::remove_all(folder);
}

TEST(GgufBpe, EqualsHuggingFace) {
  struct Case {
    const char* name;
    const char* pre;
  };
  for (const Case& c :
       {Case{"gpt2", "gpt-2"}, Case{"llama3", "llama-bpe"}, Case{"qwen2", "qwen2"}}) {
    const GgufVocabulary vocabulary = Goldens().AsGguf(c.name, c.pre);
    auto tokenizer = MakeTokenizer(vocabulary);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ExpectIds(**tokenizer, std::string(c.name) + ".parsed", kParsed);
    ExpectIds(**tokenizer, std::string(c.name) + ".plain", kPlain);
  }
}

TEST(GgufBpe, WrittenTokenizerIsTheSame) {
  const std::string folder = testing::MakeTemporaryFolder();
  ASSERT_TRUE(WriteTokenizer(Goldens().AsGguf("llama3", "llama-bpe"), folder).ok());
  auto tokenizer = LoadTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectIds(**tokenizer, "llama3.parsed", kParsed);
  ExpectIds(**tokenizer, "llama3.plain", kPlain);
  EXPECT_EQ((*tokenizer)->special_ids().bos, (*tokenizer)->TokenId("<|begin_of_text|>"));
  std::filesystem::remove_all(folder);
}

TEST(SmolLm2, EqualsHuggingFace) {
  auto vocabulary = testing::DemoModelVocabulary();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  auto tokenizer = MakeTokenizer(*vocabulary);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<std::vector<int32_t>> expected = Goldens().SmolIds();
  const std::vector<std::string>& strings = Goldens().strings();
  ASSERT_EQ(expected.size(), strings.size());
  for (size_t i = 0; i < strings.size(); ++i) {
    ASSERT_EQ(Encode(**tokenizer, strings[i], kParsed), expected[i]) << "\"" << strings[i] << "\"";
    // Nothing is normalized, so decoding gives the text back.
    ASSERT_EQ((*tokenizer)->Decode(expected[i], /*skip_special=*/false), strings[i]);
  }
  ExpectIds(**tokenizer, "smollm2", kPlain);
  ExpectNoControlToken(**tokenizer);
  EXPECT_EQ(Encode(**tokenizer, "def fibonacci(n):", kParsed),
            (std::vector<int32_t>{1604, 3987, 46477, 24, 94, 727}));
  EXPECT_EQ((*tokenizer)->vocab_size(), 49152);
  EXPECT_EQ((*tokenizer)->special_ids().eos, 2);
}

TEST(SentencePieceModel, EqualsSentencePiece) {
  for (const std::string name : {"spm_bpe", "spm_unigram"}) {
    const std::unique_ptr<const Tokenizer> tokenizer = Goldens().Load(name);
    ExpectIds(*tokenizer, name + ".plain", kPlain);
    ExpectDecoded(*tokenizer, name + ".decoded", kPlain);
    ExpectNoControlToken(*tokenizer);
  }
}

TEST(SentencePieceModel, FromGgufEqualsSentencePiece) {
  auto tokenizer = MakeTokenizer(Goldens().SentencePieceVocabulary());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectIds(**tokenizer, "spm_bpe.plain", kPlain);
  ExpectDecoded(**tokenizer, "spm_bpe.decoded", kPlain);
  EXPECT_EQ((*tokenizer)->special_ids().bos, 1);
}

TEST(SentencePieceModel, WrittenTokenizerIsTheSame) {
  const std::string folder = testing::MakeTemporaryFolder();
  ASSERT_TRUE(WriteTokenizer(Goldens().SentencePieceVocabulary(), folder).ok());
  auto tokenizer = LoadTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectIds(**tokenizer, "spm_bpe.plain", kPlain);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace rankine
