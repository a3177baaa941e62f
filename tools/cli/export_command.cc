// rankine export MODEL OUT --densify | --factors: back to a Hugging Face folder.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/checkpoint/checkpoint.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/export/export.h"

namespace rankine {
namespace {

struct ExportFlags {
  std::string model, out, dtype = "bf16";
  int threads = 0;
  bool densify = false, factors = false, fold = false, json = false;
};

std::string ReportText(const ExportReport& report, const ExportFlags& flags) {
  const std::string size = FormatBytes(static_cast<double>(report.bytes));
  if (!flags.densify) {
    return absl::StrFormat("%s: the factors of %d linears, %s\n", flags.out, report.factored, size);
  }
  return absl::StrFormat(
      "DENSIFIED: %d linears were multiplied out; %s holds no factors any more.\n%s: %s of dense "
      "weights in %s, where the model has %s\n",
      report.densified, flags.out, flags.out, size, flags.dtype,
      FormatBytes(static_cast<double>(report.source_bytes)));
}

absl::Status Export(const ExportFlags& flags) {
  if (flags.densify == flags.factors) {
    return absl::InvalidArgumentError(
        "export: say --densify (dense weights, for any program) or --factors (the factors as they "
        "are)");
  }
  if (flags.fold && !flags.factors) {
    return absl::InvalidArgumentError("--fold-scales goes with --factors");
  }
  auto dtype = ParseFloatDType("--dtype", flags.dtype);
  if (!dtype.ok()) return dtype.status();
  auto source = OpenCheckpoint(flags.model);
  if (!source.ok()) return source.status();
  const ExportOptions options{
      .dtype = *dtype, .fold_scales = flags.fold, .num_threads = flags.threads};
  ProgressBar progress("export");
  const auto update = [&](int64_t done, int64_t total) {
    progress.Update(static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1)),
                    FormatBytes(static_cast<double>(done)));
  };
  auto report = flags.densify ? ExportDense(**source, flags.out, options, update)
                              : ExportFactors(**source, flags.out, options, update);
  progress.Finish();
  if (!report.ok()) return report.status();
  if (flags.json) {
    PrintNow(DumpJson(nlohmann::ordered_json{{"path", flags.out},
                                             {"densified", report->densified},
                                             {"factored", report->factored},
                                             {"bytes", report->bytes},
                                             {"source_bytes", report->source_bytes}}) +
             "\n");
  } else {
    PrintNow(ReportText(*report, flags));
  }
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* command =
      app.add_subcommand("export", "Write a model as a Hugging Face folder for other programs");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("out", flags->out, "The folder to write; it must not exist")->required();
  command->add_flag("--densify", flags->densify,
                    "Multiply all factors out (in float64): dense weights that transformers loads; "
                    "what factors saved is lost");
  command->add_flag("--factors", flags->factors,
                    "The factors bit for bit under names that other programs use "
                    "(docs/exporting.md)");
  command->add_flag("--fold-scales", flags->fold,
                    "With --factors: singular values into the left factor, as ASVD's code expects");
  command->add_option("--dtype", flags->dtype, "Of dense matrices of --densify: bf16, f16, f32")
      ->capture_default_str();
  command
      ->add_option("--threads", flags->threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, action] { *action = [flags] { return Export(*flags); }; });
}

}  // namespace rankine
