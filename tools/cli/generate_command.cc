// rankine generate MODEL --prompt ...: generation in process, streamed to the terminal.
#include <CLI/CLI.hpp>

#include "serving/session.h"
#include "tools/cli/command.h"
#include "tools/cli/generate_flags.h"
#include "tools/cli/model_flags.h"

namespace rankine {
namespace {

struct GenerateCommandFlags {
  std::string model;
  ModelFlags model_flags;
  GenerateFlags generate;
};

absl::Status Generate(const GenerateCommandFlags& flags) {
  auto params = flags.generate.ToParams();
  if (!params.ok()) return params.status();
  auto text = OpenTextModel(flags.model, flags.model_flags, {});
  if (!text.ok()) return text.status();
  if (flags.generate.chat && !(*text)->codec.chat_format) {
    return absl::InvalidArgumentError("--chat: " + (*text)->codec.chat_error);
  }
  PiecePrinter printer(flags.generate.json);
  absl::Status status = GenerateInProcess(*(*text)->engine, (*text)->codec, (*text)->limits,
                                          *params, std::ref(printer));
  if (!status.ok()) return status;
  printer.Finish();
  return absl::OkStatus();
}

}  // namespace

void AddGenerateCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<GenerateCommandFlags>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt in process");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  flags->generate.AddTo(*command);
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Generate(*flags); }; });
}

}  // namespace rankine
