// rankine chat MODEL|ADDRESS: an interactive chat with history, in process or by a server.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <filesystem>
#include <iostream>
#include <optional>

#include "serving/client.h"
#include "serving/session.h"
#include "tools/cli/command.h"
#include "tools/cli/generate_flags.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"

namespace rankine {
namespace {

struct ChatFlags {
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

std::atomic<bool> interrupted{false};  // a signal handler can reach nothing but a global

// While it lives the first Ctrl-C sets `interrupted`; a second one ends the process as always.
class InterruptScope {
 public:
  InterruptScope() {
    interrupted = false;
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = true; };
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &old_);
  }
  ~InterruptScope() { sigaction(SIGINT, &old_, nullptr); }

 private:
  struct sigaction old_ = {};
};

// One turn; OK adds it to the history, an error leaves the history as it was. A person's Ctrl-C is
// kCancelled.
absl::Status Turn(const ChatFlags& flags, const Answer& answer, const std::string& line,
                  std::vector<ChatMessage>* history) {
  GenerateParams params = flags.generate.WithoutPrompt();
  std::vector<ChatMessage> messages = *history;
  messages.push_back({.role = "user", .content = line});
  params.prompt = messages;
  PiecePrinter printer(flags.generate.json);
  std::optional<InterruptScope> interruptible;
  if (isatty(STDIN_FILENO)) interruptible.emplace();
  const absl::Status status = answer(params, [&](const Piece& piece) {
    return printer(piece) && !(interruptible && interrupted);
  });
  if (!status.ok()) {
    if (!flags.generate.json && !printer.text().empty()) PrintNow("\n");
    return status;
  }
  printer.Finish();
  messages.push_back({.role = "assistant", .content = printer.text()});
  *history = std::move(messages);
  return status;
}

absl::Status Talk(const ChatFlags& flags, const Answer& answer) {
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
    const absl::Status status = Turn(flags, answer, line, &history);
    // A person can ask something else, or /clear a full context; a script can't.
    if (status.ok()) continue;
    if (!isatty(STDIN_FILENO) || !PrintStatus().ok()) return status;
    PrintError(std::string(status.message()) + " (this turn is forgotten)");
  }
  return absl::OkStatus();
}

absl::Status ChatInProcess(const ChatFlags& flags) {
  auto text = OpenTextModel(flags.target, flags.model_flags, {});
  if (!text.ok()) return text.status();
  if (!(*text)->codec.chat_format) return absl::InvalidArgumentError((*text)->codec.chat_error);
  return Talk(flags, [&](const GenerateParams& params, const PieceCallback& on_piece) {
    return GenerateInProcess(*(*text)->engine, (*text)->codec, (*text)->limits, params, on_piece);
  });
}

absl::Status ChatWithServer(const ChatFlags& flags) {
  auto client = Client::Connect(flags.target);
  if (!client.ok()) return client.status();
  return Talk(flags, [&](const GenerateParams& params, const PieceCallback& on_piece) {
    return (*client)->Generate(params, on_piece);
  });
}

// A path that exists is a model; otherwise anything with a port is a server.
absl::Status Chat(const ChatFlags& flags) {
  std::error_code ignored;
  const bool is_path = std::filesystem::exists(flags.target, ignored);
  return is_path || flags.target.find(':') == std::string::npos ? ChatInProcess(flags)
                                                                : ChatWithServer(flags);
}

}  // namespace

void AddChatCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ChatFlags>();
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
