// Ways for a call to end early, over a real connection. A cancel reaches the server when it does;
// what is exact (one step) is in session_test.cc. Here: it arrives, in each phase, and frees all.
#include <gtest/gtest.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "tests/serving/serving_testing.h"

namespace rankine {
namespace {

using testing::Answer;
using testing::Bytes;
using testing::Eventually;
using testing::kEndless;
using testing::TestEngine;
using testing::TestServer;
using testing::TokenRequest;

// Lets the engine make one step at a time until `condition` holds. False when it never did.
bool StepUntil(Gate& gate, int64_t* allowed, const std::function<bool()>& condition) {
  return Eventually([&] {
    if (condition()) return true;
    gate.AllowUntil(++*allowed);
    return false;
  });
}

class CancelTest : public ::testing::Test {
 protected:
  void Start(int64_t max_running) {
    EngineOptions options = testing::FakeEngineOptions();
    options.max_running = max_running;
    engine_ = std::make_unique<TestEngine>(testing::ByteModel(), options, &gate_);
    server_ = std::make_unique<TestServer>(*engine_);
  }
  // A test that failed half-way must not leave the engine at the gate.
  void TearDown() override { gate_.Open(); }

  EngineStats stats() const { return engine_->engine->stats(); }

  Gate gate_;
  int64_t allowed_ = 0;
  std::unique_ptr<TestEngine> engine_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(CancelTest, InDecode) {
  Start(1);
  grpc::ClientContext call;
  const auto reader = server_->stub->Generate(&call, TokenRequest(Bytes("abc"), kEndless));
  gate_.AllowUntil(allowed_ = 3);
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  call.TryCancel();
  EXPECT_TRUE(StepUntil(gate_, &allowed_, [&] { return engine_->Empty(); }));
  EXPECT_EQ(TestServer::ReadAll(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(CancelTest, InPrefill) {
  Start(1);
  grpc::ClientContext call;
  const std::vector<int32_t> prompt(60000, 'a');  // 3750 steps of 16 tokens
  const auto reader = server_->stub->Generate(&call, TokenRequest(prompt, kEndless));
  gate_.AllowUntil(allowed_ = 2);
  gate_.WaitForPass(3);
  EXPECT_LT(stats().kv_blocks_free, stats().kv_blocks_total);
  call.TryCancel();
  EXPECT_TRUE(StepUntil(gate_, &allowed_, [&] { return engine_->Empty(); }));
  EXPECT_EQ(stats().tokens_generated, 0);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(CancelTest, InTheQueue) {
  Start(1);
  grpc::ClientContext running_call;
  const auto running = server_->stub->Generate(&running_call, TokenRequest(Bytes("abc"), kEndless));
  gate_.AllowUntil(allowed_ = 1);
  gate_.WaitForPass(2);
  grpc::ClientContext queued_call;
  const auto queued = server_->stub->Generate(&queued_call, TokenRequest(Bytes("def"), kEndless));
  ASSERT_TRUE(Eventually([&] { return stats().waiting == 1; }));
  queued_call.TryCancel();
  EXPECT_TRUE(StepUntil(gate_, &allowed_, [&] { return stats().waiting == 0; }));
  EXPECT_EQ(stats().running, 1);
  EXPECT_TRUE(TestServer::ReadAll(*queued).token_ids.empty());
  running_call.TryCancel();
  EXPECT_TRUE(StepUntil(gate_, &allowed_, [&] { return engine_->Empty(); }));
  EXPECT_EQ(TestServer::ReadAll(*running).status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(CancelTest, ByDeadline) {
  Start(1);
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const auto reader = server_->stub->Generate(&call, TokenRequest(Bytes("abc"), kEndless));
  gate_.AllowUntil(allowed_ = 3);
  EXPECT_EQ(TestServer::ReadAll(*reader).status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(StepUntil(gate_, &allowed_, [&] { return engine_->Empty(); }));
}

// Passes bytes between one client and the server until it is cut, as a broken network does.
class Wire {
 public:
  explicit Wire(int server_port) : server_port_(server_port) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof(address);
    RK_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    RK_CHECK(listen(listener_, 1) == 0);
    RK_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~Wire() {
    Cut();
    thread_.join();
    close(client_);
    close(server_);
    close(listener_);
  }

  int port() const { return port_; }
  void Cut() {
    shutdown(listener_, SHUT_RDWR);
    shutdown(client_, SHUT_RDWR);
    shutdown(server_, SHUT_RDWR);
  }

 private:
  static sockaddr_in Loopback(int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void Run() {
    const int client = accept(listener_, nullptr, nullptr);
    if (client < 0) return;
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = Loopback(server_port_);
    RK_CHECK(connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    client_ = client;
    server_ = server;
    std::thread back([=] { Copy(server, client); });
    Copy(client, server);
    back.join();
  }

  static void Copy(int from, int to) {
    char buffer[4096];
    for (ssize_t n; (n = read(from, buffer, sizeof(buffer))) > 0;) {
      if (send(to, buffer, n, MSG_NOSIGNAL) != n) return;
    }
  }

  const int server_port_;
  int port_ = 0;
  int listener_ = -1;
  std::atomic<int> client_{-1};
  std::atomic<int> server_{-1};
  std::thread thread_;
};

TEST_F(CancelTest, ByALostConnection) {
  Start(1);
  const std::string& address = server_->server->address();
  Wire wire(std::stoi(address.substr(address.rfind(':') + 1)));
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      "127.0.0.1:" + std::to_string(wire.port()), grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext call;
  const auto reader = stub->Generate(&call, TokenRequest(Bytes("abc"), kEndless));
  gate_.AllowUntil(allowed_ = 3);
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  wire.Cut();
  EXPECT_TRUE(StepUntil(gate_, &allowed_, [&] { return engine_->Empty(); }));
  EXPECT_EQ(TestServer::ReadAll(*reader).status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(CancelTest, AStormOfCancelsLeavesNothingBehind) {
  Start(8);
  gate_.Open();
  std::vector<std::future<void>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::async(std::launch::async, [this, i] {
      for (int round = 0; round < 10; ++round) {
        grpc::ClientContext call;
        const auto reader = server_->stub->Generate(
            &call, TokenRequest(Bytes(std::string(1 + 20 * (i % 4), 'a')), kEndless));
        v1::GenerateResponse message;
        for (int read = 0; read < (i + round) % 4; ++read) reader->Read(&message);
        call.TryCancel();
        TestServer::ReadAll(*reader);
      }
    }));
  }
  for (std::future<void>& client : clients) client.get();
  EXPECT_TRUE(Eventually([&] { return engine_->Empty(); }));
}

}  // namespace
}  // namespace rankine
