// The gRPC server of one model: rankine.v1.Inference, grpc.health.v1 and reflection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "serving/model_description.h"
#include "serving/prompt.h"

namespace rankine {

struct ServerOptions {
  // host:port; port 0 = any free one. "unix:PATH" works too.
  std::string listen = "127.0.0.1:50051";
  // How long Drain lets running requests go on before it cuts them off.
  int drain_seconds = 30;
  // context_length and vocab_size are filled in from the model's description.
  RequestLimits limits;
  int max_message_bytes = 4 << 20;
  int encode_threads = 1;
  int64_t max_encodes_queued = 64;
};

// Thread-safe.
class Server {
 public:
  // Listens when this returns. `model` needs no chat_format: the codec has it. The engine and the
  // codec's tokenizer outlive the server. kInvalidArgument: not an address; kUnavailable: it can't
  // be listened on, with the reason.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Engine& engine, const PromptCodec& codec,
                                                       const ModelDescription& model,
                                                       const ServerOptions& options);
  // Cuts off what still runs.
  ~Server();

  // Where clients reach it, with the real port.
  const std::string& address() const;

  // Refuses new requests as UNAVAILABLE and answers health checks with NOT_SERVING, lets admitted
  // requests run on for at most `drain_seconds`, ends the rest as UNAVAILABLE, stops listening.
  // Blocks until then. Drains the engine too.
  void Drain();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. Returns
// the exit code of the process. `on_ready` is called when signals are handled: from then on a
// signal drains. Only one such call at a time in a process.
int RunUntilSignal(Server& server, const std::function<void()>& on_ready);

}  // namespace rankine
