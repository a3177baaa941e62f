#include "serving/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "serving/address.h"
#include "serving/grpc_log.h"
#include "serving/service.h"
#include "serving/serving_context.h"

namespace rankine {
namespace {

constexpr char kServiceName[] = "rankine.v1.Inference";
// A client that vanished without closing its connection is noticed after at most 30 s.
constexpr int kKeepaliveTimeMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
// How long cut-off calls get to deliver their last message.
constexpr int64_t kAbortMs = 1'000;

void EnableHealthAndReflection() {
  static std::once_flag once;  // both are process-wide switches of gRPC, not thread-safe
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

}  // namespace

class Server::Impl {
 public:
  Impl(Engine& engine, const PromptCodec& codec, const ModelDescription& model,
       const ServerOptions& options)
      : options_(options),
        context_(engine, options.encode_threads, options.max_encodes_queued),
        service_(context_) {
    context_.codec = codec;
    context_.limits = options.limits;
    context_.limits.context_length = model.context_length;
    context_.limits.vocab_size = model.vocab_size;
    context_.model = model;
    context_.model.chat_format = codec.chat_format ? codec.chat_format->name() : "";
    context_.on_engine_error = [this] { UpdateHealth(); };
  }

  ~Impl() {
    if (server_ != nullptr) Drain(0);
  }

  absl::Status Listen() {
    if (absl::Status status = CheckListenAddress(options_.listen); !status.ok()) return status;
    QuietGrpcLog();
    EnableHealthAndReflection();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port);
    // Two servers on one port would each get some of the connections: an error is better.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    builder.SetMaxReceiveMessageSize(options_.max_message_bytes);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.listen, ": ",
                                                 WhyNotListening(options_.listen),
                                                 "; choose another address with --listen"));
    }
    address_ = WithPort(options_.listen, port);
    health_ = server_->GetHealthCheckService();
    UpdateHealth();
    return absl::OkStatus();
  }

  const std::string& address() const { return address_; }

  void Drain(int64_t drain_ms) RK_EXCLUDES(drain_mutex_) {
    MutexLock lock(drain_mutex_);
    if (drained_) return;
    draining_ = true;
    context_.calls.Close();
    UpdateHealth();
    context_.engine.Drain();
    if (!context_.calls.WaitEmpty(drain_ms)) {
      context_.calls.AbortAll();
      context_.calls.WaitEmpty(kAbortMs);
    }
    // What is left are clients that do not read and watchers of health: their calls are cancelled
    // at the deadline, and every reactor finishes when cancelled.
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
    context_.calls.WaitEmpty(-1);
    drained_ = true;
  }

  int64_t drain_ms() const { return int64_t{options_.drain_seconds} * 1000; }

 private:
  void UpdateHealth() {
    const bool serving = !draining_ && context_.engine.stats().healthy;
    grpc::HealthCheckServiceInterface* health = health_;
    if (health == nullptr) return;  // a call came before Listen returned, which does this then
    health->SetServingStatus(serving);
    health->SetServingStatus(kServiceName, serving);
  }

  const ServerOptions options_;
  ServingContext context_;
  InferenceService service_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<grpc::HealthCheckServiceInterface*> health_{nullptr};  // the server's
  std::string address_;
  std::atomic<bool> draining_{false};
  Mutex drain_mutex_;  // held while draining, so that a second caller waits for the first
  bool drained_ RK_GUARDED_BY(drain_mutex_) = false;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Engine& engine, const PromptCodec& codec,
                                                      const ModelDescription& model,
                                                      const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(engine, codec, model, options);
  if (absl::Status status = impl->Listen(); !status.ok()) return status;
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

const std::string& Server::address() const { return impl_->address(); }
void Server::Drain() { impl_->Drain(impl_->drain_ms()); }

}  // namespace rankine
