#include <CLI/CLI.hpp>
#include <csignal>
#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "tools/cli/command.h"
#include "tools/cli/output.h"
#include "tools/cli/version.h"

namespace rankine {
namespace {

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;

void AddCommands(CLI::App& app, Action* action) {
  AddConvertCommand(app, action);
  AddCalibrateCommand(app, action);
  AddExportCommand(app, action);
  AddFactorizeCommand(app, action);
  AddExploreCommand(app, action);
  AddInspectCommand(app, action);
  AddTokenizeCommands(app, action);
  AddGenerateCommand(app, action);
  AddChatCommand(app, action);
  AddServeCommand(app, action);
  AddClientCommand(app, action);
  AddEmbedCommand(app, action);
  AddEvalCommand(app, action);
  AddBenchCommand(app, action);
  AddSynthCommand(app, action);
  AddProfileCommand(app, action);
}

bool HasCommand(CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == name) return true;
  }
  return false;
}

// What libraries throw is an error like any other.
absl::Status Run(const Action& action) {
  try {
    return action();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& e) {
    return absl::InternalError(e.what());
  }
}

// The exit code. That nobody reads any more ends a command quietly, whether it noticed or not.
int Report(const absl::Status& status) {
  const absl::Status printed = PrintStatus();
  if (!status.ok() && (printed.ok() || !absl::IsCancelled(status))) {
    PrintError(std::string(status.message()));
    return kFailed;
  }
  if (printed.ok() || absl::IsCancelled(printed)) return 0;
  PrintError(std::string(printed.message()));
  return kFailed;
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
    if (e.get_exit_code() == 0) {  // --help, --version
      app.exit(e);
      std::cout.flush();
      return Report(absl::OkStatus());
    }
    PrintError(std::string(e.what()) + " (see: rankine --help)");
    return kBadUsage;
  }
  return Report(Run(action));
}

}  // namespace rankine
