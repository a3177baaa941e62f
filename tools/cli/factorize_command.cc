// rankine factorize MODEL OUT --method svd|svd-llm --keep 0.8
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "tools/cli/command.h"
#include "tools/cli/json.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/compress/factorize.h"

namespace rankine {
namespace {

struct Flags {
  std::string model, out, factor_dtype = "bf16";
  FactorizeOptions options;
  bool json = false;
};

void PrintJson(const FactorizeReport& report, const Flags& flags) {
  nlohmann::ordered_json json = {{"path", flags.out},
                                 {"method", flags.options.method},
                                 {"keep", flags.options.keep},
                                 {"parameters_kept", report.parameters_kept},
                                 {"layers", nlohmann::ordered_json::array()}};
  for (const LayerReport& layer : report.layers) {
    nlohmann::ordered_json entry = {{"name", layer.name},
                                    {"rank", layer.rank},
                                    {"relative_error", layer.relative_error},
                                    {"weighted_error", nullptr},
                                    {"dense_parameters", layer.dense_parameters},
                                    {"kept_parameters", layer.kept_parameters}};
    if (layer.weighted_error) entry["weighted_error"] = *layer.weighted_error;
    json["layers"].push_back(std::move(entry));
  }
  PrintNow(Dump(json) + "\n");
}

void PrintTable(const FactorizeReport& report, const Flags& flags) {
  std::string out = absl::StrFormat("%-44s %6s %16s %16s\n", "linear", "rank", "relative error",
                                    "weighted error");
  for (const LayerReport& layer : report.layers) {
    absl::StrAppendFormat(
        &out, "%-44s %6s %16.4f %16s\n", layer.name,
        layer.rank > 0 ? absl::StrFormat("%d", layer.rank) : "dense", layer.relative_error,
        layer.weighted_error ? absl::StrFormat("%.4f", *layer.weighted_error) : "-");
  }
  absl::StrAppendFormat(&out, "%s: %d linears, %.4f of their parameters kept\n", flags.out,
                        report.layers.size(), report.parameters_kept);
  PrintNow(out);
}

absl::Status Run(Flags flags) {
  auto dtype = ParseFloatDType("--factor-dtype", flags.factor_dtype);
  if (!dtype.ok()) return dtype.status();
  flags.options.factor_dtype = *dtype;
  ProgressBar progress("factorize");
  auto report = Factorize(flags.model, flags.out, flags.options, progress.AsProgressFn());
  progress.Finish();
  if (!report.ok()) return report.status();
  flags.json ? PrintJson(*report, flags) : PrintTable(*report, flags);
  return absl::OkStatus();
}

}  // namespace

void AddFactorizeCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  FactorizeOptions& options = flags->options;
  CLI::App* command =
      app.add_subcommand("factorize", "Factor the linears of a model into a new folder");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("out", flags->out, "The folder to write; it must not exist")->required();
  command->add_option("--method", options.method, "svd, or svd-llm (whitened; needs --calibration)")
      ->required();
  command
      ->add_option("--keep", options.keep,
                   "Share of the parameters of each factored linear, in (0, 1]")
      ->capture_default_str();
  command->add_option("--calibration", options.calibration_files,
                      "Text files for the activations' second moments");
  command
      ->add_option("--calibration-windows", options.calibration_windows,
                   "Windows taken from the text, spread evenly")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--window", options.window, "Tokens of a calibration window")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--only", options.only_regex,
                      "Factor only linears whose name this regular expression finds");
  command->add_option("--skip", options.skip_regex,
                      "Leave out linears whose name this regular expression finds");
  command->add_option("--factor-dtype", flags->factor_dtype, "Of U and V: bf16, f16, f32")
      ->capture_default_str();
  command->add_option("--statistics", options.statistics_folder,
                      "Keep the calibration's statistics here, and use those that are there");
  command
      ->add_option("--threads", options.threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--json", flags->json, "Print JSON: {layers: [...], parameters_kept}");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace rankine
