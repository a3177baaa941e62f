// Draining, health and reflection. Both services are called as raw bytes: their stubs are gRPC's
// own business.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/serving/serving_testing.h"

namespace rankine {
namespace {

using testing::Answer;
using testing::Bytes;
using testing::Eventually;
using ::testing::HasSubstr;
using testing::kEndless;
using testing::TestEngine;
using testing::TestServer;
using testing::TokenRequest;

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToString(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  RK_CHECK(buffer.DumpToSingleSlice(&slice).ok());
  return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

// A string field of a protobuf message; shorter than 128 bytes.
std::string Field(int number, const std::string& value) {
  std::string bytes = {static_cast<char>(number << 3 | 2), static_cast<char>(value.size())};
  return bytes + value;
}

// HealthCheckResponse.status: 1 = SERVING, 2 = NOT_SERVING; 0 when the call failed.
int Health(const TestServer& server, const std::string& service) {
  grpc::GenericStub stub(server.channel);
  grpc::ClientContext call;
  const grpc::ByteBuffer request = ToBuffer(Field(1, service));
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&call, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  if (!done.get_future().get().ok()) return 0;
  const std::string bytes = ToString(response);
  return bytes.size() == 2 && bytes[0] == 1 << 3 ? bytes[1] : 0;
}

// Sends one request and returns the first response.
class OneExchange : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  OneExchange(grpc::GenericStub& stub, const std::string& method, const std::string& request)
      : request_(ToBuffer(request)) {
    stub.PrepareBidiStreamingCall(&call_, method, {}, this);
    StartWriteLast(&request_, {});
    StartRead(&response_);
    StartCall();
  }
  std::string Wait() {
    done_.get_future().get();
    return ok_ ? ToString(response_) : "";
  }
  void OnReadDone(bool ok) override { ok_ = ok; }
  void OnDone(const grpc::Status&) override { done_.set_value(); }

 private:
  grpc::ClientContext call_;
  grpc::ByteBuffer request_, response_;
  bool ok_ = false;
  std::promise<void> done_;
};

TEST(HealthTest, ServesUnderBothNames) {
  TestEngine engine;
  TestServer server(engine);
  EXPECT_EQ(Health(server, ""), 1);
  EXPECT_EQ(Health(server, "rankine.v1.Inference"), 1);
  EXPECT_EQ(Health(server, "no.such.Service"), 0);
}

TEST(HealthTest, FollowsTheEngine) {
  FakeModelOptions options = testing::ByteModel();
  TestEngine engine(options);
  engine.model.before_pass = [](const BatchInput&) { throw std::runtime_error("device fault"); };
  TestServer server(engine);
  EXPECT_EQ(server.Generate(TokenRequest(Bytes("a"), 1)).status.error_code(),
            grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(Eventually([&] { return Health(server, "") == 2; }));
}

TEST(ReflectionTest, ListsTheServices) {
  TestEngine engine;
  TestServer server(engine);
  grpc::GenericStub stub(server.channel);
  OneExchange exchange(stub, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                       Field(7, "*"));
  const std::string services = exchange.Wait();
  EXPECT_THAT(services, HasSubstr("rankine.v1.Inference"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

TEST(DrainTest, WhatRunsEndsWellAndNothingNewIsTaken) {
  Gate gate;
  TestEngine engine(testing::ByteModel(), testing::FakeEngineOptions(), &gate);
  TestServer server(engine);
  auto running = std::async([&] { return server.Generate(TokenRequest(Bytes("abc"), 20)); });
  gate.AllowUntil(1);
  gate.WaitForPass(2);
  auto drained = std::async([&] { server.server->Drain(); });
  EXPECT_TRUE(Eventually([&] { return Health(server, "rankine.v1.Inference") == 2; }));
  EXPECT_EQ(server.Generate(TokenRequest(Bytes("new"), 1)).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  gate.Open();
  const Answer answer = running.get();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.token_ids, engine.Answer(Bytes("abc"), 20));
  drained.get();
  EXPECT_TRUE(engine.Empty());
}

TEST(DrainTest, WhatOutlastsTheDrainIsCutOff) {
  TestEngine engine;
  ServerOptions options;
  options.drain_seconds = 0;
  TestServer server(engine, options);
  grpc::ClientContext call;
  const auto reader = server.stub->Generate(&call, TokenRequest(Bytes("abc"), kEndless));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server.server->Drain();
  const Answer answer = TestServer::ReadAll(*reader);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(answer.finish_reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_TRUE(engine.Empty());
}

// The engine is stuck in a pass: nothing but gRPC's own deadline can end the call.
TEST(DrainTest, ACallThatTheEngineCannotEndDoesNotHangIt) {
  Gate gate;
  TestEngine engine(testing::ByteModel(), testing::FakeEngineOptions(), &gate);
  ServerOptions options;
  options.drain_seconds = 0;
  auto server = std::make_unique<TestServer>(engine, options);
  grpc::ClientContext call;
  const auto reader = server->stub->Generate(&call, TokenRequest(Bytes("abc"), kEndless));
  gate.WaitForPass(1);
  server->server->Drain();
  EXPECT_FALSE(TestServer::ReadAll(*reader).status.ok());
  server->server.reset();
  gate.Open();
}

TEST(DrainTest, AClientThatNeverReadsDoesNotHangIt) {
  TestEngine engine;
  ServerOptions options;
  options.drain_seconds = 0;
  TestServer server(engine, options);
  grpc::ClientContext call;
  const auto reader = server.stub->Generate(&call, TokenRequest(Bytes("abc"), kEndless));
  server.server->Drain();
  server.server.reset();
  EXPECT_FALSE(TestServer::ReadAll(*reader).status.ok());
}

TEST(DrainTest, TwiceIsOnce) {
  TestEngine engine;
  TestServer server(engine);
  server.server->Drain();
  server.server->Drain();
}

}  // namespace
}  // namespace rankine
