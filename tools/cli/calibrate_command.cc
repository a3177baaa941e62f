// rankine calibrate MODEL --text FILE... --out STATS
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/compress/calibrate.h"

namespace rankine {
namespace {

struct CalibrateFlags {
  std::string model, out;
  CalibrationOptions options;
  int threads = 0;
  bool json = false;
};

absl::Status Run(const CalibrateFlags& flags) {
  ProgressBar progress("calibrate");
  const auto report =
      Calibrate(flags.model, flags.out, flags.options, flags.threads, progress.AsProgressFn());
  progress.Finish();
  if (!report.ok()) return report.status();
  if (flags.json) {
    const nlohmann::ordered_json json = {{"path", flags.out},
                                         {"layers", report->layers},
                                         {"groups", report->groups},
                                         {"tokens", report->tokens},
                                         {"bytes", report->bytes}};
    PrintNow(DumpJson(json) + "\n");
    return absl::OkStatus();
  }
  PrintNow(absl::StrFormat("%s: statistics of %d inputs in %d layers over %d tokens, %.1f MB\n",
                           flags.out, report->groups, report->layers, report->tokens,
                           static_cast<double>(report->bytes) * 1e-6));
  return absl::OkStatus();
}

}  // namespace

void AddCalibrateCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<CalibrateFlags>();
  CLI::App* command = app.add_subcommand(
      "calibrate", "Statistics of a model's activations over a text, for factorize --statistics");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("--text", flags->options.files, "Text files, one after another")->required();
  command
      ->add_option("--out", flags->out,
                   "The folder to fill; an interrupted run goes on in it when it is repeated")
      ->required();
  command
      ->add_option("--windows", flags->options.windows,
                   "Windows taken from the text, spread evenly")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--window", flags->options.window, "Tokens of a window")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--threads", flags->threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--json", flags->json, "Print JSON: {path, layers, groups, tokens, bytes}");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace rankine
