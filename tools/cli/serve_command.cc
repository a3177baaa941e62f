// rankine serve MODEL: the gRPC server.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "models/files/json_text.h"
#include "serving/server.h"
#include "tools/cli/command.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/version.h"

namespace rankine {
namespace {

struct ServeFlags {
  std::string model;
  ModelFlags model_flags;
  EngineOptions engine;
  ServerOptions server;
  bool json = false;
};

std::string MethodOf(const Checkpoint& checkpoint) {
  if (checkpoint.factored().empty()) return "dense";
  const std::string& method = checkpoint.factored().front().provenance.method;
  return method.empty() ? "factored" : method;
}

ModelDescription Describe(const TextModel& text, const ServeFlags& flags) {
  const FactoredModel& model = *text.opened.model;
  const ModelConfig& config = model.config();
  return {.name = std::filesystem::path(flags.model).lexically_normal().filename().string(),
          .architecture = config.architecture,
          .num_layers = config.num_layers,
          .hidden_size = config.hidden_size,
          .vocab_size = config.vocab_size,
          .context_length = config.max_position,
          .compute = ComputeName(model),
          .kv_dtype = KvDTypeName(text.engine->options().kv_dtype),
          .method = MethodOf(*text.opened.checkpoint),
          .weight_bytes = model.weight_bytes(),
          .weight_bytes_per_token = model.weight_bytes_per_token(),
          .version = kVersion,
          .device = text.opened.device->description()};
}

absl::Status Serve(const ServeFlags& flags) {
  auto text = OpenTextModel(flags.model, flags.model_flags, flags.engine);
  if (!text.ok()) return text.status();
  auto server =
      Server::Start(*(*text)->engine, (*text)->codec, Describe(**text, flags), flags.server);
  if (!server.ok()) return server.status();
  if (!(*text)->codec.chat_format) {
    std::fprintf(stderr, "note: chats will be refused: %s\n", (*text)->codec.chat_error.c_str());
  }
  const std::string& address = (*server)->address();
  const std::string ready = flags.json ? DumpJson({{"address", address}, {"model", flags.model}})
                                       : "listening on " + address;
  const int code = RunUntilSignal(**server, [&] { PrintNow(ready + "\n"); });
  if (code != 0) return absl::InternalError(absl::StrCat("the server ended with code ", code));
  return absl::OkStatus();
}

}  // namespace

void AddServeCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve a model over gRPC");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("--listen", flags->server.listen, "host:port; port 0 = any free one")
      ->capture_default_str();
  command
      ->add_option("--drain-seconds", flags->server.drain_seconds,
                   "After SIGTERM, how long running requests may go on")
      ->capture_default_str()
      ->check(CLI::Range(0, 86400));
  command->add_option("--max-running", flags->engine.max_running, "Sequences in a step")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command
      ->add_option("--max-batch-tokens", flags->engine.max_batch_tokens,
                   "Token budget of a step; prompts are cut into chunks")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  command->add_option("--max-queued", flags->engine.max_queued, "Requests that may wait")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command
      ->add_option("--kv-cache-tokens", flags->engine.kv_cache_tokens,
                   "Tokens of KV cache over all sequences (default: 1 GiB of them)")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--json", flags->json, "Say where it listens as JSON: {address, model}");
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Serve(*flags); }; });
}

}  // namespace rankine
