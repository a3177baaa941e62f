// The subcommands of the `rankine` program: each adds itself to the parser and, when chosen, leaves
// its action.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace CLI {
class App;
}

namespace rankine {

// What the chosen subcommand does. An error becomes one line "error: ..." on stderr and exit
// code 1.
using Action = std::function<absl::Status()>;

void AddConvertCommand(CLI::App& app, Action* action);
void AddCalibrateCommand(CLI::App& app, Action* action);
void AddExportCommand(CLI::App& app, Action* action);
void AddFactorizeCommand(CLI::App& app, Action* action);
void AddExploreCommand(CLI::App& app, Action* action);
void AddInspectCommand(CLI::App& app, Action* action);
void AddTokenizeCommands(CLI::App& app, Action* action);  // tokenize, detokenize
void AddGenerateCommand(CLI::App& app, Action* action);
void AddClientCommand(CLI::App& app, Action* action);
void AddChatCommand(CLI::App& app, Action* action);
void AddServeCommand(CLI::App& app, Action* action);
void AddEmbedCommand(CLI::App& app, Action* action);
void AddEvalCommand(CLI::App& app, Action* action);
void AddBenchCommand(CLI::App& app, Action* action);
void AddSynthCommand(CLI::App& app, Action* action);
void AddProfileCommand(CLI::App& app, Action* action);

// Parses and runs; the exit code of the process.
int RunCli(int argc, const char* const* argv);

}  // namespace rankine
