#include "models/tokenizer/wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "models/tokenizer/bert_unicode.h"
#include "models/tokenizer/tokenizer.h"
#include "tests/testing/tokenizer_goldens.h"

namespace rankine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tokenizer::BertNormalize;
using tokenizer::BertSplit;
using tokenizer::BpeSpec;
using tokenizer::WordPiece;

BpeSpec SomeWords() {
  return {.vocabulary = {{"[UNK]", 0},
                         {"un", 1},
                         {"##aff", 2},
                         {"##able", 3},
                         {"##a", 4},
                         {"##\u00e9", 5},
                         {"una", 6}},
          .unknown_token = "[UNK]"};
}

std::vector<int32_t> Encode(const WordPiece& model, const std::string& word) {
  std::vector<int32_t> ids;
  model.Encode(word, &ids);
  return ids;
}

// The longest token first, without going back; a word that does not work out is one unknown token.
TEST(WordPiece, MatchesGreedily) {
  auto model = WordPiece::Create(SomeWords(), {.max_characters = 6}, {});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(Encode(*model, "una"), ElementsAre(6));
  EXPECT_THAT(Encode(*model, "un\u00e9a"), ElementsAre(1, 5, 4));
  EXPECT_THAT(Encode(*model, "unaff"), ElementsAre(0)) << "una, then nothing fits";
  EXPECT_THAT(Encode(*model, "unaaaa"), ElementsAre(6, 4, 4, 4));
  EXPECT_THAT(Encode(*model, "unaaaaa"), ElementsAre(0)) << "seven characters";
  EXPECT_THAT(Encode(*model, "\u00e9"), ElementsAre(0)) << "only inside words";
  EXPECT_THAT(Encode(*model, ""), ElementsAre());
}

TEST(WordPiece, HiddenTokensNeverComeOut) {
  auto model = WordPiece::Create(SomeWords(), {}, {6});
  ASSERT_TRUE(model.ok());
  EXPECT_THAT(Encode(*model, "una"), ElementsAre(1, 4));
}

TEST(WordPiece, NeedsItsUnknownToken) {
  BpeSpec spec = SomeWords();
  spec.unknown_token = "<oov>";
  EXPECT_THAT(std::string(WordPiece::Create(spec, {}, {}).status().message()),
              HasSubstr("\"<oov>\""));
}

TEST(BertNormalizer, DoesWhatItsOptionsSay) {
  EXPECT_EQ(BertNormalize("H\u00e9llo\tW\x01\u200b\u00f6rld", {}), "hello world");
  EXPECT_EQ(BertNormalize("H\u00e9llo", {.strip_accents = false}), "h\u00e9llo");
  EXPECT_EQ(BertNormalize("H\u00e9llo", {.lowercase = false}), "H\u00e9llo");
  EXPECT_EQ(BertNormalize("H\u00e9llo", {.strip_accents = true, .lowercase = false}), "Hello");
  EXPECT_EQ(BertNormalize("a\u4e2d\u6587b", {}), "a \u4e2d  \u6587 b");
  EXPECT_EQ(BertNormalize("a\u4e2db", {.space_around_chinese = false}), "a\u4e2db");
  EXPECT_EQ(BertNormalize("a\x01\n", {.clean_text = false}), "a\x01\n");
}

TEST(BertPreTokenizer, SetsPunctuationApart) {
  EXPECT_THAT(BertSplit(" don't  $5.00\u2026ok "),
              ElementsAre("don", "'", "t", "$", "5", ".", "00", "\u2026", "ok"));
  EXPECT_THAT(BertSplit(" \t "), ElementsAre());
}

// Number of points of a class, and a digest of them, as tests/testing/generators/bert_unicode.py
// has them from `tokenizers`.
std::pair<int, uint64_t> AllOf(bool (*is)(char32_t), char32_t first) {
  int count = 0;
  uint64_t hash = 0xCBF29CE484222325;
  for (char32_t c = first; c < 0x110000; ++c) {
    if ((c >= 0xD800 && c < 0xE000) || !is(c)) continue;
    ++count;
    hash = (hash ^ c) * 0x100000001B3;
  }
  return {count, hash};
}

TEST(BertUnicode, EveryCharacterIsOfTheClassOfHuggingFace) {
  EXPECT_EQ(AllOf(tokenizer::IsBertControl, 0), std::pair(137680, uint64_t{0xa0e232b4d7bd8ec3}));
  EXPECT_EQ(AllOf(tokenizer::IsBertMark, 0), std::pair(1567, uint64_t{0x8a6f9eed3ef95933}));
  EXPECT_EQ(AllOf(tokenizer::IsBertPunctuation, 0x80),
            std::pair(694, uint64_t{0xb70ad0ab72fea9de}));
}

std::string LoadError(const std::string& file, const std::string& text) {
  const std::string folder = testing::MakeTemporaryFolder();
  testing::WriteFileOrDie(folder + "/" + file, text);
  const std::string message(LoadTokenizer(folder).status().message());
  std::filesystem::remove_all(folder);
  return message;
}

TEST(WordPieceFiles, BadOnesAreRefused) {
  EXPECT_THAT(LoadError("vocab.txt", "[UNK]\n[CLS]\na\n"), HasSubstr("no line is [SEP]"));
  EXPECT_THAT(LoadError("vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\na\n"),
              HasSubstr("line 5: the token \"a\" occurs twice"));
  const auto json = [](const std::string& model) {
    return absl::StrCat(R"({"model":{"type":"WordPiece",)", model,
                        R"(},"decoder":{"type":"WordPiece"}})");
  };
  EXPECT_EQ(LoadError("tokenizer.json", json(R"("vocab":{"[UNK]":0})")), "");
  EXPECT_THAT(LoadError("tokenizer.json", json(R"("vocab":{"a":0})")), HasSubstr("[UNK]"));
  EXPECT_THAT(LoadError("tokenizer.json", json(R"("vocab":[1])")), HasSubstr("model.vocab"));
  EXPECT_THAT(LoadError("tokenizer.json",
                        json(R"("max_input_chars_per_word":99999999,"vocab":{"[UNK]":0})")),
              HasSubstr("max_input_chars_per_word"));
  EXPECT_THAT(LoadError("tokenizer.json", json(R"("merges":[],"vocab":{"[UNK]":0})")),
              HasSubstr("merges"));
}

// Of BERT's configuration beside vocab.txt.
TEST(WordPieceFiles, ConfigurationIsFollowed) {
  const std::string folder = testing::MakeTemporaryFolder();
  testing::WriteFileOrDie(folder + "/vocab.txt", "<u>\r\n<c>\r\n<s>\r\nH\u00e9\r\nhe");
  testing::WriteFileOrDie(folder + "/tokenizer_config.json",
                          R"({"do_lower_case":false,"unk_token":"<u>","cls_token":"<c>",)"
                          R"("sep_token":"<s>"})");
  auto loaded = LoadTokenizer(folder);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(*(*loaded)->Encode("H\u00e9 he HE", {}), ElementsAre(1, 3, 4, 0, 2));
  EXPECT_EQ((*loaded)->special_ids().bos, 1);
  EXPECT_EQ((*loaded)->special_ids().eos, 2);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace rankine
