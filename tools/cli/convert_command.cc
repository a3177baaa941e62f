// rankine convert SRC DST: a GGUF file or a Hugging Face folder becomes a Rankine folder.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/convert.h"
#include "tools/cli/command.h"
#include "tools/cli/json.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"

namespace rankine {
namespace {

struct Flags {
  std::string source, destination, dtype = "bf16";
  bool json = false;
};

absl::Status Convert(const Flags& flags) {
  auto dtype = ParseFloatDType("--dtype", flags.dtype);
  if (!dtype.ok()) return dtype.status();
  auto source = OpenCheckpoint(flags.source);
  if (!source.ok()) return source.status();
  ProgressBar progress("convert");
  absl::Status status =
      ConvertModel(**source, flags.destination, *dtype, [&](int64_t done, int64_t total) {
        progress.Update(
            static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1)),
            FormatBytes(static_cast<double>(done)));
      });
  progress.Finish();
  if (!status.ok()) return status;
  auto written = OpenCheckpoint(flags.destination);
  if (!written.ok()) return written.status();
  int64_t bytes = 0;
  for (const TensorInfo& tensor : (*written)->tensors()) bytes += tensor.stored_bytes;
  if (flags.json) {
    const nlohmann::ordered_json json = {{"path", flags.destination},
                                         {"dtype", flags.dtype},
                                         {"tensors", (*written)->tensors().size()},
                                         {"bytes", bytes}};
    PrintNow(Dump(json) + "\n");
  } else {
    PrintNow(flags.destination + ": " + std::to_string((*written)->tensors().size()) +
             " tensors, " + FormatBytes(static_cast<double>(bytes)) + " of weights in " +
             flags.dtype + "\n");
  }
  return absl::OkStatus();
}

}  // namespace

void AddConvertCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "convert", "Convert a GGUF file or a Hugging Face folder to a Rankine folder");
  command
      ->add_option("source", flags->source,
                   "A .gguf file, or a folder with config.json and safetensors")
      ->required();
  command->add_option("destination", flags->destination, "The folder to write; it must not exist")
      ->required();
  command->add_option("--dtype", flags->dtype, "Of matrices: bf16, f16, f32")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, action] { *action = [flags] { return Convert(*flags); }; });
}

}  // namespace rankine
