// rankine chat MODEL|ADDRESS: an interactive chat with history, in process or by a server.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "serving/client.h"
#include "serving/session.h"
#include "tools/cli/command.h"
#include "tools/cli/generate_flags.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"

namespace rankine {
namespace {

struct Flags {
  std::string target;
  ModelFlags model_flags;
  GenerateFlags generate;
};

// Answers one request, wherever the model is.
using Answer = std::function<absl::Status(const GenerateParams&, const PieceCallback&)>;

// Reads a line; false at the end of input. A prompt is shown only to a person.
bool ReadLine(std::string* line) {
  if (isatty(STDIN_FILENO)) PrintNow("> ");
  return static_cast<bool>(std::getline(std::cin, *line));
}

absl::Status Talk(const Flags& flags, const Answer& answer) {
  std::vector<ChatMessage> history;
  auto forget = [&] {
    history.clear();
    if (!flags.generate.system.empty())
      history.push_back({.role = "system", .content = flags.generate.system});
  };
  forget();
  if (isatty(STDIN_FILENO)) PrintNow("/clear forgets the history, /quit or Ctrl-D ends\n");
  std::string line;
  while (ReadLine(&line)) {
    if (line == "/quit") break;
    if (line == "/clear") forget();
    if (line.empty() || line == "/clear") continue;
    history.push_back({.role = "user", .content = line});
    GenerateParams params = flags.generate.WithoutPrompt();
    params.prompt = history;
    PiecePrinter printer(flags.generate.json);
    if (absl::Status status = answer(params, std::ref(printer)); !status.ok()) return status;
    printer.Finish();
    history.push_back({.role = "assistant", .content = printer.text()});
  }
  return absl::OkStatus();
}

absl::Status ChatInProcess(const Flags& flags) {
  auto text = OpenTextModel(flags.target, flags.model_flags, {});
  if (!text.ok()) return text.status();
  if (!(*text)->codec.chat_format) return absl::InvalidArgumentError((*text)->chat_error);
  return Talk(flags, [&](const GenerateParams& params, const PieceCallback& on_piece) {
    return GenerateInProcess(*(*text)->engine, (*text)->codec, (*text)->limits, params, on_piece);
  });
}

absl::Status ChatWithServer(const Flags& flags) {
  auto client = Client::Connect(flags.target);
  if (!client.ok()) return client.status();
  return Talk(flags, [&](const GenerateParams& params, const PieceCallback& on_piece) {
    return (*client)->Generate(params, on_piece);
  });
}

// A path that exists is a model; otherwise anything with a port is a server.
absl::Status Chat(const Flags& flags) {
  std::error_code ignored;
  const bool is_path = std::filesystem::exists(flags.target, ignored);
  return is_path || flags.target.find(':') == std::string::npos ? ChatInProcess(flags)
                                                                : ChatWithServer(flags);
}

}  // namespace

void AddChatCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("chat", "Chat with a model or a server");
  command
      ->add_option("target", flags->target,
                   "A model folder, a .gguf file, or host:port of a server")
      ->required();
  command->add_option("--system", flags->generate.system, "A system message");
  command->add_flag("--json", flags->generate.json, "Print each answer as a line of JSON");
  flags->generate.AddSamplingTo(*command);
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Chat(*flags); }; });
}

}  // namespace rankine
