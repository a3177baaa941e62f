#include "serving/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <future>

#include "serving/client.h"
#include "tests/serving/serving_testing.h"

namespace rankine {
namespace {

using testing::Answer;
using testing::Bytes;
using testing::Eventually;
using ::testing::HasSubstr;
using testing::kEndless;
using ::testing::StartsWith;
using testing::TestEngine;
using testing::TestServer;
using testing::TextRequest;
using testing::TokenRequest;

TEST(ServerTest, StreamsTheAnswer) {
  TestEngine engine;
  TestServer server(engine);
  const std::vector<int32_t> prompt = Bytes("abc");
  const std::vector<int32_t> expected = engine.Answer(prompt, 300);
  const Answer answer = server.Generate(TokenRequest(prompt, 300));
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.token_ids, expected);
  EXPECT_EQ(answer.text, engine.Text(expected));
  EXPECT_EQ(answer.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.messages.back().usage().prompt_tokens(), 3);
  EXPECT_EQ(answer.messages.back().usage().completion_tokens(), 300);
  for (size_t i = 0; i + 1 < answer.messages.size(); ++i) {
    EXPECT_EQ(answer.messages[i].finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
    EXPECT_FALSE(answer.messages[i].has_usage());
    EXPECT_FALSE(answer.messages[i].has_timing());
  }
}

// The messages themselves would not parse with a part of a character in them; this is about where
// the parts go.
TEST(ServerTest, CharactersThatTokensCutAreWhole) {
  TestEngine engine;
  TestServer server(engine);
  const std::vector<int32_t> prompt = Bytes("utf-8");
  const Answer answer = server.Generate(TokenRequest(prompt, 2000));
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, engine.Text(engine.Answer(prompt, 2000)));
}

TEST(ServerTest, AStopStringEndsTheAnswerAndFreesTheBlocks) {
  FakeModelOptions options = testing::ByteModel();
  options.vocab_size = 97;
  TestEngine engine(options);
  TestServer server(engine);
  const std::vector<int32_t> prompt = Bytes("ABC");
  const std::string whole = engine.Text(engine.Answer(prompt, 30));
  v1::GenerateRequest request = TokenRequest(prompt, kEndless);
  request.add_stop(whole.substr(20, 3));
  const Answer answer = server.Generate(request);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.text, whole.substr(0, whole.find(request.stop(0))));
  EXPECT_EQ(answer.finish_reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_TRUE(engine.Empty());
}

TEST(ServerTest, AnEndOfSequenceTokenEndsTheAnswerUnlessIgnored) {
  FakeModelOptions options = testing::ByteModel();
  const std::vector<int32_t> prompt = Bytes("abc");
  options.eos_ids = {FakeModel(options).GreedyAnswer(prompt, 10)[9]};
  TestEngine engine(options);
  TestServer server(engine);
  const std::vector<int32_t> expected = engine.Answer(prompt, 50);
  v1::GenerateRequest request = TokenRequest(prompt, 50);
  Answer answer = server.Generate(request);
  EXPECT_EQ(answer.token_ids, expected);
  EXPECT_EQ(answer.finish_reason(), v1::FINISH_REASON_STOP_TOKEN);
  request.set_ignore_eos(true);
  answer = server.Generate(request);
  EXPECT_EQ(answer.token_ids.size(), 50);
  EXPECT_EQ(answer.finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST(ServerTest, ALongTextIsTokenisedOnThePool) {
  TestEngine engine;
  TestServer server(engine);
  const Answer answer = server.Generate(TextRequest(std::string(20000, 'a'), 3));
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.messages.back().usage().prompt_tokens(), 20001);
  EXPECT_EQ(answer.token_ids.size(), 3);
}

TEST(ServerTest, ManyStreamsAtOnceGiveWhatEachGivesAlone) {
  TestEngine engine;
  TestServer server(engine);
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 64; ++i) {
    answers.push_back(std::async(std::launch::async, [&server, i] {
      return server.Generate(TokenRequest(Bytes("prompt " + std::to_string(i)), 20 + 3 * i));
    }));
  }
  for (int i = 0; i < 64; ++i) {
    const Answer answer = answers[i].get();
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token_ids, engine.Answer(Bytes("prompt " + std::to_string(i)), 20 + 3 * i));
  }
  EXPECT_TRUE(engine.Empty());
}

TEST(ServerTest, AClientThatDoesNotReadStallsNobody) {
  TestEngine engine;
  TestServer server(engine);
  const auto slow_stub = v1::Inference::NewStub(server.NewChannel());
  grpc::ClientContext slow_call;
  const auto slow = slow_stub->Generate(&slow_call, TokenRequest(Bytes("slow"), 5000));
  EXPECT_TRUE(server.Generate(TokenRequest(Bytes("quick"), 50)).status.ok());
  // The engine does not wait for it either.
  EXPECT_TRUE(Eventually([&] { return engine.Empty(); }));
  const Answer answer = TestServer::ReadAll(*slow);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.token_ids, engine.Answer(Bytes("slow"), 5000));
}

TEST(ServerTest, BadFieldsAreNamedOverTheWire) {
  TestEngine engine;
  TestServer server(engine);
  v1::GenerateRequest top_p = TextRequest("a", 1);
  top_p.mutable_sampling()->set_top_p(0);
  v1::GenerateRequest stop = TextRequest("a", 1);
  stop.add_stop("");
  v1::GenerateRequest chat;
  chat.mutable_chat()->add_messages()->set_role("user");
  const std::pair<std::string, v1::GenerateRequest> cases[] = {
      {"prompt:", {}},    {"max_tokens:", TextRequest("a", -1)},      {"sampling.top_p:", top_p},
      {"stop[0]:", stop}, {"tokens.ids[0]:", TokenRequest({999}, 1)}, {"chat:", chat},
  };
  for (const auto& [field, request] : cases) {
    const Answer answer = server.Generate(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << field;
    EXPECT_THAT(answer.status.error_message(), StartsWith(field));
    EXPECT_TRUE(answer.messages.empty());
  }
}

TEST(ServerTest, AMessageOverTheLimitIsRefused) {
  TestEngine engine;
  TestServer server(engine);
  const Answer answer = server.Generate(TextRequest(std::string(5 << 20, 'a'), 1));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(ServerTest, AFullQueueIsRefusedAtOnce) {
  Gate gate;
  EngineOptions options = testing::FakeEngineOptions();
  options.max_running = 1;
  options.max_queued = 1;
  TestEngine engine(testing::ByteModel(), options, &gate);
  TestServer server(engine);
  auto running = std::async([&] { return server.Generate(TextRequest("a", 5)); });
  gate.WaitForPass(1);
  auto waiting = std::async([&] { return server.Generate(TextRequest("b", 5)); });
  ASSERT_TRUE(Eventually([&] { return engine.engine->stats().waiting == 1; }));
  EXPECT_EQ(server.Generate(TextRequest("c", 5)).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  gate.Open();
  EXPECT_TRUE(running.get().status.ok());
  EXPECT_TRUE(waiting.get().status.ok());
}

TEST(ServerTest, AnEngineErrorIsInternalAndFailsThatRequestOnly) {
  FakeModelOptions options = testing::ByteModel();
  options.nan_token = 'x';
  TestEngine engine(options);
  TestServer server(engine);
  const Answer bad = server.Generate(TokenRequest(Bytes("axb"), 5));
  EXPECT_EQ(bad.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_NE(bad.status.error_message(), "");
  EXPECT_EQ(bad.finish_reason(), v1::FINISH_REASON_ERROR);
  EXPECT_TRUE(server.Generate(TokenRequest(Bytes("abc"), 1)).status.ok());
}

TEST(ServerTest, GetModelTellsTheLoad) {
  Gate gate;
  TestEngine engine(testing::ByteModel(), testing::FakeEngineOptions(), &gate);
  TestServer server(engine);
  auto running = std::async([&] { return server.Generate(TextRequest("a", 5)); });
  gate.AllowUntil(1);
  gate.WaitForPass(2);
  grpc::ClientContext call;
  v1::GetModelResponse model;
  ASSERT_TRUE(server.stub->GetModel(&call, {}, &model).ok());
  EXPECT_EQ(model.name(), "fake");
  EXPECT_EQ(model.vocab_size(), testing::kByteVocabSize);
  EXPECT_EQ(model.requests_running(), 1);
  EXPECT_GT(model.kv_blocks_free(), 0);
  EXPECT_LT(model.kv_blocks_free(), model.kv_blocks_total());
  gate.Open();
  EXPECT_TRUE(running.get().status.ok());
}

TEST(ServerTest, TokenizeAndDetokenizeAreInverse) {
  TestEngine engine;
  TestServer server(engine);
  const auto client = Client::Connect(server.server->address());
  ASSERT_TRUE(client.ok()) << client.status();
  for (const std::string& text : {std::string("h\u00e9llo </s>"), std::string(10000, 'a')}) {
    const auto ids = (*client)->Tokenize(text, /*add_special=*/true, /*parse_special=*/true);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(ids->front(), testing::kByteBos);
    EXPECT_EQ(*(*client)->Detokenize(*ids, /*skip_special=*/false), "<s>" + text);
  }
  EXPECT_THAT(std::string((*client)->Detokenize({1, 260}, false).status().message()),
              StartsWith("token_ids[1]:"));
  EXPECT_THAT(
      std::string((*client)->Tokenize(std::string(2 << 20, 'a'), false, false).status().message()),
      StartsWith("text:"));
  // Four bytes of text for each id: too much to send back.
  EXPECT_THAT(std::string((*client)
                              ->Detokenize(std::vector<int32_t>(300000, testing::kByteEos), false)
                              .status()
                              .message()),
              StartsWith("token_ids:"));
}

TEST(ServerTest, AnAddressInUseIsAClearError) {
  TestEngine engine;
  TestServer server(engine);
  ServerOptions options;
  options.listen = server.server->address();
  const absl::Status status = Server::Start(*engine.engine, engine.codec(), {}, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              StartsWith("cannot listen on " + options.listen + ": Address already in use"));
}

TEST(ServerTest, ABadAddressIsAClearError) {
  TestEngine engine;
  const std::pair<const char*, absl::StatusCode> cases[] = {
      {"127.0.0.1", absl::StatusCode::kInvalidArgument},
      {"127.0.0.1:99999", absl::StatusCode::kInvalidArgument},
      {"127.0.0.1:http", absl::StatusCode::kInvalidArgument},
      {":50051", absl::StatusCode::kInvalidArgument},
      {"127.0.0.1:0:80", absl::StatusCode::kUnavailable},
      {"256.1.1.1:0", absl::StatusCode::kUnavailable},
      {"unix:/no/such/folder/socket", absl::StatusCode::kUnavailable},
  };
  for (const auto& [listen, code] : cases) {
    ServerOptions options;
    options.listen = listen;
    const absl::Status status = Server::Start(*engine.engine, engine.codec(), {}, options).status();
    EXPECT_EQ(status.code(), code) << listen << ": " << status;
    EXPECT_THAT(std::string(status.message()),
                StartsWith(std::string("cannot listen on ") + listen + ": "));
  }
}

TEST(RunUntilSignalTest, DrainsAndReturnsZero) {
  TestEngine engine;
  TestServer server(engine);
  bool ready = false;
  EXPECT_EQ(RunUntilSignal(*server.server,
                           [&] {
                             ready = true;
                             kill(getpid(), SIGTERM);
                           }),
            0);
  EXPECT_TRUE(ready);
  EXPECT_EQ(server.Generate(TextRequest("a", 1)).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST(ClientTest, StreamsPieces) {
  TestEngine engine;
  TestServer server(engine);
  GenerateParams params;
  params.prompt = Bytes("abc");
  params.max_tokens = 40;
  Piece whole;
  const absl::Status status =
      StreamGenerate(server.server->address(), params, [&](const Piece& piece) {
        whole.token_ids.insert(whole.token_ids.end(), piece.token_ids.begin(),
                               piece.token_ids.end());
        whole.text += piece.text;
        whole.finish_reason = piece.finish_reason;
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(whole.token_ids, engine.Answer(Bytes("abc"), 40));
  EXPECT_EQ(whole.text, engine.Text(whole.token_ids));
  EXPECT_EQ(whole.finish_reason, FinishReason::kLength);
}

TEST(ClientTest, ACallbackThatReturnsFalseCancels) {
  TestEngine engine;
  TestServer server(engine);
  GenerateParams params;
  params.prompt = Bytes("abc");
  params.max_tokens = kEndless;
  const absl::Status status =
      StreamGenerate(server.server->address(), params, [](const Piece&) { return false; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_TRUE(Eventually([&] { return engine.Empty(); }));
}

TEST(ClientTest, NobodyListeningIsAClearError) {
  // A port that was free a moment ago.
  std::string address;
  {
    TestEngine engine;
    address = TestServer(engine).server->address();
  }
  const absl::Status status = Client::Connect(address).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(
      std::string(status.message()),
      ::testing::AllOf(StartsWith("cannot reach a server at " + address), HasSubstr("refused")));
}

TEST(ClientTest, TheServersMessageComesThrough) {
  TestEngine engine;
  TestServer server(engine);
  const absl::Status status =
      StreamGenerate(server.server->address(), {}, [](const Piece&) { return true; });
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), StartsWith("prompt:"));
}

}  // namespace
}  // namespace rankine
