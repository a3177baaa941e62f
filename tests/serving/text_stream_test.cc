#include "serving/text_stream.h"

#include <gtest/gtest.h>

#include "tests/testing/byte_tokenizer.h"

namespace rankine {
namespace {

TEST(TextStreamTest, EmitsWholeCharactersOnly) {
  const auto tokenizer = testing::MakeByteTokenizer();
  TextStream stream(*tokenizer, {});
  std::vector<std::string> pieces;
  for (const char byte : std::string("h\u00e9\U0001F600")) {
    std::string piece;
    EXPECT_FALSE(stream.Append(static_cast<uint8_t>(byte), &piece));
    pieces.push_back(piece);
  }
  EXPECT_EQ(pieces, (std::vector<std::string>{"h", "", "\u00e9", "", "", "", "\U0001F600"}));
}

TEST(TextStreamTest, AnIncompleteCharacterAtTheEndIsReplaced) {
  const auto tokenizer = testing::MakeByteTokenizer();
  TextStream stream(*tokenizer, {});
  std::string text;
  stream.Append(0xe2, &text);
  stream.Append(0x82, &text);
  EXPECT_EQ(text, "");
  EXPECT_FALSE(stream.Finish(&text));
  EXPECT_EQ(text, "\ufffd");
}

TEST(TextStreamTest, AStopStringMayBeginInsideAToken) {
  const auto tokenizer = testing::MakeByteTokenizer();
  TextStream stream(*tokenizer, {"\u20ac!"});
  std::string text;
  for (const char byte : std::string("5 \u20ac")) {
    EXPECT_FALSE(stream.Append(static_cast<uint8_t>(byte), &text));
  }
  EXPECT_EQ(text, "5 ");
  EXPECT_TRUE(stream.Append('!', &text));
  EXPECT_EQ(text, "5 ");
}

TEST(TextStreamTest, AReplacedCharacterAtTheEndCanCompleteAStopString) {
  const auto tokenizer = testing::MakeByteTokenizer();
  TextStream stream(*tokenizer, {"a\ufffd"});
  std::string text;
  EXPECT_FALSE(stream.Append('a', &text));
  EXPECT_FALSE(stream.Append(0xe2, &text));
  EXPECT_TRUE(stream.Finish(&text));
  EXPECT_EQ(text, "");
}

TEST(TextStreamTest, ControlTokensHaveNoText) {
  const auto tokenizer = testing::MakeByteTokenizer();
  TextStream stream(*tokenizer, {});
  std::string text;
  stream.Append('a', &text);
  stream.Append(testing::kByteEos, &text);
  EXPECT_FALSE(stream.Finish(&text));
  EXPECT_EQ(text, "a");
}

}  // namespace
}  // namespace rankine
