// rankine client ADDRESS --prompt ...: generation by a server, streamed to the terminal.
#include <CLI/CLI.hpp>
#include <cmath>

#include "serving/client.h"
#include "tools/cli/command.h"
#include "tools/cli/generate_flags.h"

namespace rankine {
namespace {

struct ClientFlags {
  std::string address;
  GenerateFlags generate;
  double deadline_seconds = 0;
};

absl::Status Generate(const ClientFlags& flags) {
  auto params = flags.generate.ToParams();
  if (!params.ok()) return params.status();
  if (std::isnan(flags.deadline_seconds)) {
    return absl::InvalidArgumentError("--deadline-seconds: must be a number");
  }
  PiecePrinter printer(flags.generate.json);
  absl::Status status = StreamGenerate(
      flags.address, *params, std::ref(printer),
      {.deadline_ms = static_cast<int64_t>(std::ceil(flags.deadline_seconds * 1000))});
  if (!status.ok()) return status;
  printer.Finish();
  return absl::OkStatus();
}

}  // namespace

void AddClientCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ClientFlags>();
  CLI::App* command = app.add_subcommand("client", "Continue a prompt by a server");
  command->add_option("address", flags->address, "host:port of `rankine serve`")->required();
  command
      ->add_option("--deadline-seconds", flags->deadline_seconds,
                   "Give up after this time (default: never)")
      ->check(CLI::Range(0.0, 1e6));
  flags->generate.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Generate(*flags); }; });
}

}  // namespace rankine
