// A server over a FakeModel and the byte tokenizer, on a free port of this machine.
#pragma once

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "rankine/v1/inference.grpc.pb.h"
#include "runtime/engine/engine.h"
#include "serving/server.h"
#include "tests/testing/byte_tokenizer.h"
#include "tests/testing/fake_model.h"

namespace rankine::testing {

inline constexpr int64_t kLongContext = 1 << 16;

// An answer of that many tokens outlasts every wait of a test.
inline constexpr int64_t kEndless = kLongContext / 2;

inline FakeModelOptions ByteModel() {
  return {.vocab_size = kByteVocabSize, .num_layers = 1, .max_position = kLongContext};
}

inline EngineOptions FakeEngineOptions() {
  return {.kv_dtype = DType::kF32, .kv_cache_tokens = 4 * kLongContext, .max_batch_tokens = 16};
}

inline std::vector<int32_t> Bytes(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
  return ids;
}

// Waits for something that must come; the limit only ends a test that would hang.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Model, engine and tokenizer.
struct TestEngine {
  explicit TestEngine(const FakeModelOptions& model_options = ByteModel(),
                      const EngineOptions& engine_options = FakeEngineOptions(),
                      Gate* gate = nullptr)
      : model(model_options), tokenizer(MakeByteTokenizer()) {
    if (gate != nullptr) model.before_pass = [gate](const BatchInput&) { gate->Pass(); };
    auto started = Engine::Start(model, engine_options);
    RK_CHECK(started.ok());
    engine = *std::move(started);
  }

  bool Empty() const {
    const EngineStats stats = engine->stats();
    return stats.kv_blocks_free == stats.kv_blocks_total && stats.running == 0 &&
           stats.waiting == 0;
  }
  PromptCodec codec() const { return {.tokenizer = tokenizer.get()}; }
  RequestLimits limits() const {
    return {.context_length = model.shape().max_position, .vocab_size = model.shape().vocab_size};
  }
  // The whole answer to a prompt of token ids, by the model's oracle.
  std::vector<int32_t> Answer(const std::vector<int32_t>& prompt, int64_t max_tokens) const {
    return model.GreedyAnswer(prompt, max_tokens);
  }
  std::string Text(const std::vector<int32_t>& ids) const { return tokenizer->Decode(ids, true); }

  FakeModel model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Engine> engine;
};

// All of a stream.
struct Answer {
  std::vector<int32_t> token_ids;
  std::string text;
  std::vector<v1::GenerateResponse> messages;
  grpc::Status status;

  v1::FinishReason finish_reason() const {
    return messages.empty() ? v1::FINISH_REASON_UNSPECIFIED : messages.back().finish_reason();
  }
};

struct TestServer {
  explicit TestServer(TestEngine& engine, ServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    const ModelShape& shape = engine.model.shape();
    ModelDescription description = {.name = "fake", .architecture = "fake"};
    description.vocab_size = shape.vocab_size;
    description.context_length = shape.max_position;
    auto started = Server::Start(*engine.engine, engine.codec(), description, options);
    RK_CHECK(started.ok());
    server = *std::move(started);
    channel = NewChannel();
    stub = v1::Inference::NewStub(channel);
  }

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    return grpc::CreateCustomChannel(server->address(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  Answer Generate(const v1::GenerateRequest& request) const {
    grpc::ClientContext call;
    const auto reader = stub->Generate(&call, request);
    return ReadAll(*reader);
  }

  static Answer ReadAll(grpc::ClientReader<v1::GenerateResponse>& reader) {
    Answer answer;
    for (v1::GenerateResponse message; reader.Read(&message);) {
      answer.token_ids.insert(answer.token_ids.end(), message.token_ids().begin(),
                              message.token_ids().end());
      answer.text += message.text();
      answer.messages.push_back(message);
    }
    answer.status = reader.Finish();
    return answer;
  }

  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Inference::Stub> stub;
};

inline v1::GenerateRequest TokenRequest(const std::vector<int32_t>& ids, int64_t max_tokens) {
  v1::GenerateRequest request;
  request.mutable_tokens()->mutable_ids()->Add(ids.begin(), ids.end());
  request.set_max_tokens(static_cast<int32_t>(max_tokens));
  return request;
}

inline v1::GenerateRequest TextRequest(const std::string& text, int64_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.set_max_tokens(static_cast<int32_t>(max_tokens));
  return request;
}

}  // namespace rankine::testing
