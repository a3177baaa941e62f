#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>

#include "tools/cli/command.h"
#include "tools/cli/version.h"

namespace rankine {
namespace {

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

// One line, whatever the message holds: scripts read it.
void PrintError(std::string message) {
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "error: %s\n", message.c_str());
}

void AddCommands(CLI::App& app, Action* action) {
  AddConvertCommand(app, action);
  AddFactorizeCommand(app, action);
  AddInspectCommand(app, action);
  AddTokenizeCommands(app, action);
  AddGenerateCommand(app, action);
  AddChatCommand(app, action);
  AddServeCommand(app, action);
  AddClientCommand(app, action);
  AddEvalCommand(app, action);
  AddBenchCommand(app, action);
}

bool HasCommand(CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == name) return true;
  }
  return false;
}

}  // namespace

int RunCli(int argc, const char* const* argv) {
  // A reader that goes away (rankine ... | head) ends the write with an error, not the process with
  // a signal.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("Rankine: an inference engine that serves factorised language models natively",
               "rankine");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  Action action;
  AddCommands(app, &action);
  // CLI11 would only say that a subcommand is required.
  if (argc > 1 && argv[1][0] != '-' && !HasCommand(app, argv[1])) {
    PrintError(std::string("unknown command '") + argv[1] + "' (see: rankine --help)");
    return kBadUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    PrintError(std::string(e.what()) + " (see: rankine --help)");
    return kBadUsage;
  }
  if (absl::Status status = action(); !status.ok()) {
    PrintError(std::string(status.message()));
    return kFailed;
  }
  return 0;
}

}  // namespace rankine
