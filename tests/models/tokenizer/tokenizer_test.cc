// Tokenizers without goldens: streaming, bounded work, files that are wrong.
#include "models/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/regex.h"
#include "models/tokenizer/sentencepiece_proto.h"
#include "tests/testing/byte_tokenizer.h"
#include "tests/testing/tokenizer_goldens.h"

namespace rankine {
namespace {

std::vector<int32_t> BytesOf(const std::string& text) {
  std::vector<int32_t> ids;
  for (char byte : text) ids.push_back(static_cast<uint8_t>(byte));
  return ids;
}

constexpr char kReplacement[] = "\xEF\xBF\xBD";

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

// A tokenizer.json with a part replaced; every part is valid by default.
struct Parts {
  std::string added = R"([{"id": 3, "content": "<s>", "special": true}])";
  std::string normalizer = "null";
  std::string pre_tokenizer = "null";
  std::string post_processor = "null";
  std::string decoder = R"({"type": "ByteLevel"})";
  std::string vocab = R"({"a": 0, "b": 1, "ab": 2})";
  std::string merges = R"(["a b"])";
  std::string model_extra = "";

  std::string Text() const {
    return R"({"version": "1.0", "added_tokens": )" + added + R"(, "normalizer": )" + normalizer +
           R"(, "pre_tokenizer": )" + pre_tokenizer + R"(, "post_processor": )" + post_processor +
           R"(, "decoder": )" + decoder + R"(, "model": {"type": "BPE", "vocab": )" + vocab +
           R"(, "merges": )" + merges + model_extra + "}}";
  }
};

absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(const std::string& json) {
  const std::string folder = testing::MakeTemporaryFolder();
  testing::WriteFileOrDie(folder + "/tokenizer.json", json);
  auto tokenizer = LoadTokenizer(folder);
  std::filesystem::remove_all(folder);
  return tokenizer;
}

void ExpectError(const std::string& json, const std::string& part_of_message) {
  const absl::Status status = Load(json).status();
  EXPECT_FALSE(status.ok()) << json.substr(0, 200);
  EXPECT_NE(std::string(status.message()).find(part_of_message), std::string::npos)
      << status << " lacks \"" << part_of_message << "\"";
}

TEST(StreamDecoder, EmitsOnlyWholeCharacters) {
  const auto tokenizer = testing::MakeByteTokenizer();
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.Append(0xF0), "");
  EXPECT_EQ(stream.Append(0x9F), "");
  EXPECT_EQ(stream.Append(0x98), "");
  EXPECT_EQ(stream.Append(testing::kByteImEnd), "");
  EXPECT_EQ(stream.Append(0x80), "\xF0\x9F\x98\x80");
  EXPECT_EQ(stream.Append(0xE2), "");
  EXPECT_EQ(stream.Append('a'), std::string(kReplacement) + "a");
  EXPECT_EQ(stream.Append(0xC3), "");
  EXPECT_EQ(stream.Flush(), kReplacement);
  EXPECT_EQ(stream.Flush(), "");
}

// The values are those of bytes(...).decode(errors="replace") in CPython.
TEST(Decode, ReplacesInvalidBytesAsPython) {
  const auto tokenizer = testing::MakeByteTokenizer();
  const auto decode = [&](const std::string& bytes) {
    return tokenizer->Decode(BytesOf(bytes), true);
  };
  EXPECT_EQ(decode("\xFF"), Repeat(kReplacement, 1));
  EXPECT_EQ(decode("\xC0\xAF"), Repeat(kReplacement, 2));
  EXPECT_EQ(decode("\xE0\x80\x80"), Repeat(kReplacement, 3));
  EXPECT_EQ(decode("\xED\xA0\x80"), Repeat(kReplacement, 3));
  EXPECT_EQ(decode("\xF4\x90\x80\x80"), Repeat(kReplacement, 4));
  EXPECT_EQ(decode("\xF0\x9F\x98"), Repeat(kReplacement, 1));
  EXPECT_EQ(decode("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                   "A"),
            Repeat(kReplacement, 4) + "A");
  EXPECT_EQ(decode("ok\x80"), std::string("ok") + kReplacement);
  EXPECT_EQ(tokenizer->Decode({-1, 'a', 1 << 20}, true), "a");
}

// A queue operation is a push or a pop. Each of n characters is in at most 3 pairs that are pushed
// (one at the start, two per merge), and each push is popped once: at most 6 n operations, however
// long the word.
TEST(Encode, WorkOnOneLongWordIsLinearInQueueOperations) {
  const testing::TokenizerGoldens goldens(RANKINE_TEST_DATA "/tokenizer");
  for (const char* name : {"gpt2", "llama3", "llama2", "metaspace"}) {
    const auto tokenizer = goldens.Load(name);
    for (const std::string& unit :
         {std::string("abcdefghij"), std::string("a"), std::string("the")}) {
      const std::string text = Repeat(unit, 100000 / static_cast<int>(unit.size()));
      EncodeStats stats;
      auto ids = tokenizer->Encode(text, {.add_special = false, .stats = &stats});
      ASSERT_TRUE(ids.ok()) << ids.status();
      // Only units whose characters merge at all show anything; "the" is in every vocabulary.
      if (unit == "the") {
        EXPECT_GT(stats.queue_operations, 100000) << name;
      }
      EXPECT_LE(stats.queue_operations, 6 * static_cast<int64_t>(text.size() + 1)) << name;
    }
  }
}

TEST(Encode, LongRunsDoNotMeetTheLimitsOfTheRegex) {
  const testing::TokenizerGoldens goldens(RANKINE_TEST_DATA "/tokenizer");
  for (const char* name : {"gpt2", "llama3", "qwen2", "behaviors"}) {
    const auto tokenizer = goldens.Load(name);
    for (const char* unit : {" ", "\n", " \n", "1", "\xCC\x81", "\xCC\x81\xCC\xA3", "\t x", "'s"}) {
      auto ids = tokenizer->Encode(Repeat(unit, 30000), {.add_special = false});
      EXPECT_TRUE(ids.ok()) << name << ids.status();
    }
  }
}

TEST(Encode, InvalidUtf8IsEncodedAsReplacementCharacter) {
  const testing::TokenizerGoldens goldens(RANKINE_TEST_DATA "/tokenizer");
  const auto tokenizer = goldens.Load("gpt2");
  const EncodeOptions options{.add_special = false};
  EXPECT_EQ(*tokenizer->Encode("a\xFF"
                               "b\xE2\x82",
                               options),
            *tokenizer->Encode(std::string("a") + kReplacement + "b" + kReplacement, options));
}

TEST(Encode, MergesNeverLeadToControlTokens) {
  Parts parts;
  parts.added = R"([{"id": 2, "content": "ab", "special": true}])";
  for (const char* extra : {"", R"(, "ignore_merges": true)"}) {
    parts.model_extra = extra;
    auto tokenizer = Load(parts.Text());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ(*(*tokenizer)->Encode("ab", {}), (std::vector<int32_t>{0, 1}));
    EXPECT_EQ(*(*tokenizer)->Encode("ab", {.parse_special = true}), (std::vector<int32_t>{2}));
  }
}

TEST(Regex, EndsAPatternThatExplodes) {
  std::vector<tokenizer::TextRange> matches;
  auto evil = tokenizer::Regex::Compile("(a|aa)+$");
  ASSERT_TRUE(evil.ok());
  EXPECT_FALSE(evil->FindAll(Repeat("a", 2000) + "!", &matches).ok());
}

TEST(LoadTokenizer, AcceptsThePartsThatTheErrorsBelowStartFrom) {
  auto tokenizer = Load(Parts().Text());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(*(*tokenizer)->Encode("abab", {}), (std::vector<int32_t>{2, 2}));
}

TEST(LoadTokenizer, NamesWhatIsNotSupported) {
  ExpectError(Parts{.normalizer = R"({"type": "Precompiled"})"}.Text(), "Precompiled");
  ExpectError(Parts{.normalizer = R"({"type": "NFC", "odd": 1})"}.Text(), "odd");
  ExpectError(Parts{.pre_tokenizer = R"({"type": "Whitespace"})"}.Text(), "Whitespace");
  ExpectError(Parts{.post_processor = R"({"type": "RobertaProcessing"})"}.Text(),
              "RobertaProcessing");
  ExpectError(Parts{.decoder = R"({"type": "CTC"})"}.Text(), "CTC");
  ExpectError(Parts{.decoder = "null"}.Text(), "decoder");
  ExpectError(Parts{.model_extra = R"(, "dropout": 0.1)"}.Text(), "dropout");
  ExpectError(Parts{.model_extra = R"(, "end_of_word_suffix": "</w>")"}.Text(),
              "end_of_word_suffix");
  ExpectError(Parts{.model_extra = R"(, "novelty": true)"}.Text(), "novelty");
  ExpectError(R"({"model": {"type": "Unigram"}, "decoder": {"type": "ByteLevel"}})", "Unigram");
  ExpectError(R"({"surprise": 1})", "surprise");
}

TEST(LoadTokenizer, NamesWhatIsWrong) {
  ExpectError(Parts{.vocab = R"({"a": 0, "b": 0, "ab": 2})"}.Text(), "same id 0");
  ExpectError(Parts{.vocab = R"({"a": 0, "b": 99999999999, "ab": 2})"}.Text(), "out of range");
  ExpectError(Parts{.vocab = R"({"a": 0, "b": -1, "ab": 2})"}.Text(), "out of range");
  ExpectError(Parts{.vocab = R"({"a": 0, "b": 18446744073709551615, "ab": 2})"}.Text(),
              "out of range");
  ExpectError(Parts{.vocab = R"({"a": "x", "b": 1})"}.Text(), "integer");
  ExpectError(Parts{.vocab = "[]"}.Text(), "model.vocab");
  ExpectError(Parts{.merges = R"(["a c"])"}.Text(), "\"c\"");
  ExpectError(Parts{.merges = R"(["ab"])"}.Text(), "merges[0]");
  ExpectError(Parts{.merges = R"([["a", "b", "c"]])"}.Text(), "merges[0]");
  ExpectError(Parts{.merges = R"([["a", 1]])"}.Text(), "merges[0]");
  ExpectError(Parts{.merges = R"(["b a"])"}.Text(), "\"ba\"");
  ExpectError(Parts{.added = R"([{"id": 1, "content": "<s>"}])"}.Text(), "same id 1");
  ExpectError(Parts{.added = R"([{"id": 4, "content": "a"}])"}.Text(), "two ids");
  ExpectError(Parts{.added = R"([{"id": 4000000000, "content": "x"}])"}.Text(), "out of range");
  ExpectError(Parts{.added = R"([{"id": 4, "content": ""}])"}.Text(), "empty");
  ExpectError(Parts{.added = R"({"id": 4})"}.Text(), "added_tokens");
  ExpectError(Parts{.model_extra = R"(, "unk_token": "?")"}.Text(), "unk_token");
  const std::string split = R"({"type": "Split", "behavior": "Isolated", "pattern": )";
  ExpectError(Parts{.pre_tokenizer = split + R"({"Regex": "(a"}})"}.Text(), "(a");
  ExpectError(Parts{.pre_tokenizer = split + R"({"Regex": "[a[b]]"}})"}.Text(), "class");
  ExpectError(Parts{.pre_tokenizer = split + R"({"Glob": "*"}})"}.Text(), "Glob");
  ExpectError(Parts{.pre_tokenizer = split + "3}"}.Text(), "pattern");
  ExpectError("{", "JSON");
  ExpectError("[]", "object");
  ExpectError("\"\xFF\"", "UTF-8");
  ExpectError(Repeat("[", 100000), "nested");
  ExpectError(Repeat("{\"a\":", 100000), "nested");
}

TEST(ByteTokenizerText, ATokenIsAByte) {
  const auto tokenizer = Load(ByteTokenizerText());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 256);
  const std::string text = "def f(x):\n\treturn  \"\xC3\xA9\xF0\x9F\x99\x82\" # \x01 \x7F  ";
  const auto ids = (*tokenizer)->Encode(text, {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, BytesOf(text));
  EXPECT_EQ((*tokenizer)->Decode(*ids, true), text);
}

TEST(LoadTokenizer, NeedsAFile) {
  const std::string folder = testing::MakeTemporaryFolder();
  EXPECT_EQ(LoadTokenizer(folder).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(LoadTokenizer(folder + "/none").ok());
  testing::WriteFileOrDie(folder + "/tokenizer.model", "not a model");
  EXPECT_EQ(LoadTokenizer(folder).status().code(), absl::StatusCode::kInvalidArgument);
  testing::WriteFileOrDie(folder + "/tokenizer.model", "");
  EXPECT_FALSE(LoadTokenizer(folder).ok());
  std::filesystem::remove_all(folder);
}

// The library finds user-defined pieces in any text; tokenizer_config.json can say that one is a
// control token all the same, which then must not come out of what a user writes.
TEST(SentencePieceModel, APieceMarkedSpecialDoesNotComeOutOfPlainText) {
  constexpr char kEnd[] = "<|im_end|>";
  const testing::TokenizerGoldens goldens(RANKINE_TEST_DATA "/tokenizer");
  for (const int32_t type : {1, 4}) {  // normal, user-defined
    for (const bool special : {false, true}) {
      GgufVocabulary vocabulary = goldens.SentencePieceVocabulary();
      const auto id = static_cast<int32_t>(vocabulary.tokens.size());
      vocabulary.tokens.push_back(kEnd);
      vocabulary.scores.push_back(0);
      vocabulary.token_types.push_back(type);
      auto model = tokenizer::SerializeSentencePieceModel(vocabulary);
      ASSERT_TRUE(model.ok()) << model.status();
      const std::string folder = testing::MakeTemporaryFolder();
      testing::WriteFileOrDie(folder + "/tokenizer.model", *model);
      testing::WriteFileOrDie(
          folder + "/tokenizer_config.json",
          absl::StrCat(R"({"added_tokens_decoder": {")", id, R"(": {"content": ")", kEnd,
                       R"(", "special": )", special ? "true" : "false", "}}}"));
      auto loaded = LoadTokenizer(folder);
      std::filesystem::remove_all(folder);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ((*loaded)->IsSpecial(id), special);
      const auto count = [&](bool parse_special) {
        const auto ids =
            (*loaded)->Encode(absl::StrCat("a", kEnd, "b"), {.parse_special = parse_special});
        EXPECT_TRUE(ids.ok()) << ids.status();
        return std::count(ids->begin(), ids->end(), id);
      };
      EXPECT_EQ(count(false), special ? 0 : 1) << "type " << type;
      EXPECT_EQ(count(true), 1) << "type " << type;
    }
  }
}

// Looking for added tokens takes the length of the longest for each byte of a text.
TEST(MakeTokenizer, RefusesAddedTokensThatAreTooLong) {
  const testing::TokenizerGoldens goldens(RANKINE_TEST_DATA "/tokenizer");
  for (GgufVocabulary vocabulary :
       {goldens.AsGguf("gpt2", "gpt-2"), goldens.SentencePieceVocabulary()}) {
    for (const int32_t type : {3, 4}) {                        // control, user-defined
      if (type == 4 && vocabulary.model == "llama") continue;  // the library's own to find
      for (const size_t bytes : {size_t{1024}, size_t{1025}}) {
        GgufVocabulary longer = vocabulary;
        longer.tokens.push_back(std::string(bytes, '#'));
        longer.token_types.push_back(type);
        longer.scores.push_back(0);
        const absl::Status status = MakeTokenizer(longer).status();
        EXPECT_EQ(status.ok(), bytes == 1024) << vocabulary.model << ": " << status;
        if (bytes == 1024) continue;
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_NE(status.message().find("over the limit of 1024"), absl::string_view::npos);
      }
    }
  }
}

TEST(MakeTokenizer, RefusesVocabulariesThatAreWrong) {
  const testing::TokenizerGoldens goldens(RANKINE_TEST_DATA "/tokenizer");
  const auto code = [](const GgufVocabulary& vocabulary) {
    return MakeTokenizer(vocabulary).status().code();
  };
  GgufVocabulary bpe = goldens.AsGguf("gpt2", "dbrx");
  EXPECT_EQ(code(bpe), absl::StatusCode::kUnimplemented);
  bpe.pre = "gpt-2";
  EXPECT_EQ(code(bpe), absl::StatusCode::kOk);
  bpe.bos_id = 1 << 20;
  EXPECT_EQ(code(bpe), absl::StatusCode::kInvalidArgument);
  bpe.bos_id = -1;
  bpe.tokens.push_back(bpe.tokens[0]);
  EXPECT_EQ(code(bpe), absl::StatusCode::kInvalidArgument);
  bpe.tokens.back() = "\xFF";
  bpe.token_types.push_back(1);
  EXPECT_EQ(code(bpe), absl::StatusCode::kInvalidArgument);

  GgufVocabulary spm = goldens.SentencePieceVocabulary();
  EXPECT_EQ(code(spm), absl::StatusCode::kOk);
  spm.scores.pop_back();
  EXPECT_EQ(code(spm), absl::StatusCode::kInvalidArgument);
  spm = goldens.SentencePieceVocabulary();
  spm.token_types[5] = 9;
  EXPECT_EQ(code(spm), absl::StatusCode::kInvalidArgument);
  spm = goldens.SentencePieceVocabulary();
  spm.token_types[0] = 1;
  EXPECT_EQ(code(spm), absl::StatusCode::kInvalidArgument);
  spm.model = "bert";
  EXPECT_EQ(code(spm), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace rankine
