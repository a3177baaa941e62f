#include "serving/session.h"

#include <gtest/gtest.h>

#include "tests/serving/serving_testing.h"

namespace rankine {
namespace {

using testing::Bytes;
using testing::TestEngine;

GenerateParams TokenParams(std::vector<int32_t> ids, int64_t max_tokens) {
  GenerateParams params;
  params.prompt = std::move(ids);
  params.max_tokens = max_tokens;
  return params;
}

std::unique_ptr<Session> Start(TestEngine& engine, const GenerateParams& params) {
  auto session = Session::Start(*engine.engine, engine.codec(), engine.limits(), params);
  RK_CHECK(session.ok());
  return *std::move(session);
}

Piece Finish(Session& session) {
  Piece whole;
  while (!session.finished()) {
    session.Wait();
    session.Poll(&whole);
  }
  return whole;
}

// A stop string that first ends at token `end` of the answer and begins one token before; the
// characters are whole in the answers that tests choose.
std::string StopOfTwoTokens(const TestEngine& engine, const std::vector<int32_t>& answer,
                            size_t end) {
  return engine.Text({answer[end - 1], answer[end]});
}

TEST(SessionTest, PiecesAddUpToTheAnswer) {
  TestEngine engine;
  const std::vector<int32_t> prompt = Bytes("abc");
  const std::vector<int32_t> expected = engine.Answer(prompt, 50);
  const Piece whole = Finish(*Start(engine, TokenParams(prompt, 50)));
  EXPECT_EQ(whole.token_ids, expected);
  EXPECT_EQ(whole.text, engine.Text(expected));
  EXPECT_EQ(whole.finish_reason, FinishReason::kLength);
  EXPECT_EQ(whole.prompt_tokens, 3);
  EXPECT_EQ(whole.completion_tokens, 50);
}

TEST(SessionTest, TextIsEncodedWithTheTokensThatTheModelAdds) {
  TestEngine engine;
  std::vector<int32_t> prompt = {testing::kByteBos};
  for (int32_t id : Bytes("hi")) prompt.push_back(id);
  GenerateParams params;
  params.prompt = TextPrompt{.text = "hi"};
  params.max_tokens = 5;
  EXPECT_EQ(Finish(*Start(engine, params)).token_ids, engine.Answer(prompt, 5));
}

TEST(SessionTest, EverythingPendingComesAsOnePiece) {
  Gate gate;
  TestEngine engine(testing::ByteModel(), testing::FakeEngineOptions(), &gate);
  const std::vector<int32_t> prompt = Bytes("abc");
  const auto session = Start(engine, TokenParams(prompt, 20));
  gate.AllowUntil(7);
  gate.WaitForPass(8);  // seven tokens are published
  Piece piece;
  ASSERT_TRUE(session->Poll(&piece));
  EXPECT_EQ(piece.token_ids, engine.Answer(prompt, 7));
  EXPECT_EQ(piece.finish_reason, FinishReason::kNone);
  EXPECT_FALSE(session->Poll(&piece));
  gate.Open();
  Finish(*session);
}

TEST(SessionTest, AStopStringFreesTheBlocksWithinOneStepAndLaterTokensAreDropped) {
  // Tokens below 97 are single characters.
  FakeModelOptions options = testing::ByteModel();
  options.vocab_size = 97;
  Gate gate;
  TestEngine engine(options, testing::FakeEngineOptions(), &gate);
  const std::vector<int32_t> prompt = Bytes("ABC");
  const std::vector<int32_t> answer = engine.Answer(prompt, 12);
  GenerateParams params = TokenParams(prompt, testing::kEndless);
  params.stop = {StopOfTwoTokens(engine, answer, 9)};
  const auto session = Start(engine, params);
  gate.AllowUntil(12);  // beyond the tenth token, which completes the stop string
  gate.WaitForPass(13);
  Piece piece;
  ASSERT_TRUE(session->Poll(&piece));
  EXPECT_EQ(piece.token_ids, std::vector<int32_t>(answer.begin(), answer.begin() + 10));
  EXPECT_EQ(piece.text, engine.Text({answer.begin(), answer.begin() + 8}));
  EXPECT_EQ(piece.finish_reason, FinishReason::kNone);
  gate.AllowUntil(13);  // the step that runs; nothing after it
  session->Wait();
  // It may have published a token before it saw the cancel.
  while (!session->finished()) {
    session->Wait();
    session->Poll(&piece);
  }
  EXPECT_EQ(piece.token_ids.size(), 10);
  EXPECT_EQ(piece.finish_reason, FinishReason::kStopString);
  EXPECT_EQ(piece.completion_tokens, 10);
  EXPECT_TRUE(engine.Empty());
}

TEST(SessionTest, TheAnswerDoesNotDependOnHowStopStringsMeetPieces) {
  FakeModelOptions options = testing::ByteModel();
  options.vocab_size = 97;
  TestEngine engine(options);
  const std::vector<int32_t> prompt = Bytes("ABC");
  const std::vector<int32_t> answer = engine.Answer(prompt, 40);
  for (size_t end = 1; end < 40; ++end) {
    GenerateParams params = TokenParams(prompt, 60);
    params.stop = {StopOfTwoTokens(engine, answer, end)};
    const std::string whole = engine.Text(answer);
    const size_t at = whole.find(params.stop[0]);
    const Piece result = Finish(*Start(engine, params));
    EXPECT_EQ(result.text, whole.substr(0, at));
    EXPECT_EQ(result.completion_tokens, at + 2);
    EXPECT_EQ(result.finish_reason, FinishReason::kStopString);
  }
  EXPECT_TRUE(engine.engine->WaitIdle(60000));
  EXPECT_TRUE(engine.Empty());
}

TEST(SessionTest, CancelInDecodeFreesTheBlocksWithinOneStep) {
  Gate gate;
  TestEngine engine(testing::ByteModel(), testing::FakeEngineOptions(), &gate);
  const auto session = Start(engine, TokenParams(Bytes("abc"), testing::kEndless));
  gate.AllowUntil(3);
  gate.WaitForPass(4);
  session->Cancel();
  gate.AllowUntil(4);
  const Piece whole = Finish(*session);
  EXPECT_EQ(whole.finish_reason, FinishReason::kCancelled);
  EXPECT_LE(whole.token_ids.size(), 4);
  EXPECT_TRUE(engine.Empty());
}

TEST(SessionTest, CancelInPrefillFreesTheBlocksWithinOneStep) {
  Gate gate;
  TestEngine engine(testing::ByteModel(), testing::FakeEngineOptions(), &gate);
  const auto session =
      Start(engine, TokenParams(std::vector<int32_t>(1000, 'a'), testing::kEndless));
  gate.AllowUntil(2);  // of the 63 that a prompt of 1000 tokens takes, 16 at a time
  gate.WaitForPass(3);
  session->Cancel();
  gate.AllowUntil(3);
  const Piece whole = Finish(*session);
  EXPECT_EQ(whole.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(whole.token_ids.empty());
  EXPECT_TRUE(engine.Empty());
}

TEST(SessionTest, CancelInTheQueueEndsItWithinOneStep) {
  Gate gate;
  EngineOptions options = testing::FakeEngineOptions();
  options.max_running = 1;
  TestEngine engine(testing::ByteModel(), options, &gate);
  const auto running = Start(engine, TokenParams(Bytes("abc"), testing::kEndless));
  gate.AllowUntil(1);
  gate.WaitForPass(2);
  const auto queued = Start(engine, TokenParams(Bytes("def"), testing::kEndless));
  EXPECT_EQ(engine.engine->stats().waiting, 1);
  queued->Cancel();
  gate.AllowUntil(2);
  const Piece whole = Finish(*queued);
  EXPECT_EQ(whole.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(whole.token_ids.empty());
  running->Cancel();
  gate.Open();
  Finish(*running);
  EXPECT_TRUE(engine.Empty());
}

TEST(SessionTest, ASessionThatIsDroppedCancelsItsRequest) {
  TestEngine engine;
  Start(engine, TokenParams(Bytes("abc"), testing::kEndless)).reset();
  EXPECT_TRUE(engine.engine->WaitIdle(60000));
  EXPECT_TRUE(engine.Empty());
}

TEST(GenerateInProcessTest, ACallbackThatReturnsFalseCancels) {
  TestEngine engine;
  int pieces = 0;
  const absl::Status status = GenerateInProcess(*engine.engine, engine.codec(), engine.limits(),
                                                TokenParams(Bytes("abc"), testing::kEndless),
                                                [&](const Piece&) { return ++pieces < 3; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(pieces, 3);
  EXPECT_TRUE(engine.Empty());
}

TEST(GenerateInProcessTest, AnEngineErrorIsInternal) {
  FakeModelOptions options = testing::ByteModel();
  options.nan_token = 'x';
  TestEngine engine(options);
  const absl::Status status =
      GenerateInProcess(*engine.engine, engine.codec(), engine.limits(),
                        TokenParams(Bytes("axb"), 5), [](const Piece&) { return true; });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_TRUE(engine.Empty());
}

}  // namespace
}  // namespace rankine
