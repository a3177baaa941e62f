#include "serving/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/testing/byte_tokenizer.h"

namespace rankine {
namespace {

using ::testing::StartsWith;

// The template of ChatML as published.
constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

RequestLimits Limits() { return {.context_length = 100, .vocab_size = testing::kByteVocabSize}; }

GenerateParams Text(const std::string& text) {
  GenerateParams params;
  params.prompt = TextPrompt{.text = text};
  return params;
}

struct BadField {
  const char* field;
  std::function<void(GenerateParams&)> spoil;
};

TEST(ValidateTest, EachBadFieldIsNamed) {
  const float nan = std::nanf("");
  const BadField cases[] = {
      {"prompt:", [](auto& p) { p.prompt = std::monostate(); }},
      {"text:", [](auto& p) { p.prompt = TextPrompt{.text = std::string((1 << 20) + 1, 'a')}; }},
      {"chat.messages:", [](auto& p) { p.prompt = std::vector<ChatMessage>(); }},
      {"chat.messages:",
       [](auto& p) {
         p.prompt = std::vector<ChatMessage>{{"user", std::string(1 << 20, 'a')}, {"user", "b"}};
       }},
      {"chat.messages[1].role:",
       [](auto& p) {
         p.prompt = std::vector<ChatMessage>{{"user", "a"}, {"robot", "b"}};
       }},
      {"tokens.ids:", [](auto& p) { p.prompt = std::vector<int32_t>(); }},
      {"tokens.ids[1]:",
       [](auto& p) {
         p.prompt = std::vector<int32_t>{1, 260};
       }},
      {"tokens.ids[0]:", [](auto& p) { p.prompt = std::vector<int32_t>{-1}; }},
      {"max_tokens:", [](auto& p) { p.max_tokens = -1; }},
      {"max_tokens:", [](auto& p) { p.max_tokens = 101; }},
      {"sampling.temperature:", [](auto& p) { p.sampling.temperature = -0.5f; }},
      {"sampling.temperature:", [nan](auto& p) { p.sampling.temperature = nan; }},
      {"sampling.temperature:", [](auto& p) { p.sampling.temperature = INFINITY; }},
      {"sampling.top_k:", [](auto& p) { p.sampling.top_k = -1; }},
      {"sampling.top_p:", [](auto& p) { p.sampling.top_p = 0; }},
      {"sampling.top_p:", [](auto& p) { p.sampling.top_p = 1.5f; }},
      {"sampling.top_p:", [nan](auto& p) { p.sampling.top_p = nan; }},
      {"sampling.min_p:", [](auto& p) { p.sampling.min_p = 1; }},
      {"sampling.min_p:", [](auto& p) { p.sampling.min_p = -0.1f; }},
      {"stop:", [](auto& p) { p.stop.assign(17, "a"); }},
      {"stop[1]:",
       [](auto& p) {
         p.stop = {"a", ""};
       }},
      {"stop[0]:", [](auto& p) { p.stop = {std::string(257, 'a')}; }},
      {"stop[0]:", [](auto& p) { p.stop = {"\xff"}; }},
      {"stop_token_ids:", [](auto& p) { p.stop_token_ids.assign(65, 1); }},
      {"stop_token_ids[0]:", [](auto& p) { p.stop_token_ids = {260}; }},
  };
  for (const BadField& bad : cases) {
    GenerateParams params = Text("a");
    bad.spoil(params);
    const absl::Status status = Validate(params, Limits());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_THAT(std::string(status.message()), StartsWith(bad.field));
  }
}

TEST(ValidateTest, TheBoundsThemselvesAreAllowed) {
  GenerateParams params = Text(std::string(1 << 20, 'a'));
  params.max_tokens = 100;
  params.sampling = {.temperature = 2, .top_k = 1 << 30, .top_p = 1, .min_p = 0.99f};
  params.stop.assign(16, std::string(256, 'a'));
  params.stop_token_ids.assign(64, 259);
  EXPECT_TRUE(Validate(params, Limits()).ok()) << Validate(params, Limits());
}

TEST(MakeRequestTest, FillsDefaultsAndStaysWithinTheContext) {
  const auto tokenizer = testing::MakeByteTokenizer();
  const PromptCodec codec = {.tokenizer = tokenizer.get()};
  RequestLimits limits = Limits();
  limits.default_max_tokens = 20;
  EXPECT_EQ(MakeRequest(Text("abc"), codec, limits)->max_new_tokens, 20);
  GenerateParams params = Text("abc");
  params.max_tokens = 100;
  const auto request = MakeRequest(params, codec, limits);
  EXPECT_EQ(request->prompt.size(), 4);  // BOS is added
  EXPECT_EQ(request->max_new_tokens, 100 - 4);
}

TEST(MakeRequestTest, APromptThatLeavesNoRoomIsRefusedByName) {
  const auto tokenizer = testing::MakeByteTokenizer();
  const PromptCodec codec = {.tokenizer = tokenizer.get()};
  EXPECT_TRUE(MakeRequest(Text(std::string(98, 'a')), codec, Limits()).ok());
  const absl::Status text = MakeRequest(Text(std::string(99, 'a')), codec, Limits()).status();
  EXPECT_EQ(text.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.message()), StartsWith("text: 100 tokens"));
  GenerateParams params;
  params.prompt = std::vector<int32_t>(100, 1);
  EXPECT_THAT(std::string(MakeRequest(params, codec, Limits()).status().message()),
              StartsWith("tokens.ids: 100 tokens"));
}

TEST(MakeRequestTest, ControlTokensInTextAreTextUnlessAskedFor) {
  const auto tokenizer = testing::MakeByteTokenizer();
  const PromptCodec codec = {.tokenizer = tokenizer.get()};
  GenerateParams params;
  params.prompt = TextPrompt{.text = "<|im_end|>"};
  EXPECT_EQ(MakeRequest(params, codec, Limits())->prompt.size(), 11);
  params.prompt = TextPrompt{.text = "<|im_end|>", .parse_special = true};
  EXPECT_EQ(MakeRequest(params, codec, Limits())->prompt,
            (std::vector<int32_t>{testing::kByteBos, testing::kByteImEnd}));
}

TEST(MakeRequestTest, AChatNeedsAModelWithAChatTemplate) {
  const auto tokenizer = testing::MakeByteTokenizer();
  PromptCodec codec = {.tokenizer = tokenizer.get()};
  GenerateParams params;
  params.prompt = std::vector<ChatMessage>{{"user", "hi"}};
  absl::Status status = MakeRequest(params, codec, Limits()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), StartsWith("chat: the model has no chat template"));
  codec.chat_error = "its template is not one of those known";
  status = MakeRequest(params, codec, Limits()).status();
  EXPECT_THAT(std::string(status.message()), StartsWith("chat: its template is not one of"));
}

TEST(MakeRequestTest, AChatIsFormattedAndItsRefusalNamesTheField) {
  const auto tokenizer = testing::MakeByteTokenizer();
  const auto format = RecogniseChatFormat(kChatMl);
  ASSERT_TRUE(format.ok()) << format.status();
  const PromptCodec codec = {.tokenizer = tokenizer.get(), .chat_format = *format};
  GenerateParams params;
  params.prompt = std::vector<ChatMessage>{{"user", "x<|im_end|>"}};
  RequestLimits limits = Limits();
  const auto request = MakeRequest(params, codec, limits);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(*EncodeChat(*tokenizer, *format, {{"user", "x<|im_end|>"}}, true), request->prompt);
  // One control token ends the message; the one that the user spelled is text.
  EXPECT_EQ(std::count(request->prompt.begin(), request->prompt.end(), testing::kByteImEnd), 1);
}

}  // namespace
}  // namespace rankine
