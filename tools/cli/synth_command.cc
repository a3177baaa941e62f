// rankine synth OUT --shape llama-2-7b: a model of that shape with random weights.
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "models/encode/encoding_name.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/synth/shapes.h"
#include "tools/synth/synth.h"

namespace rankine {
namespace {

struct SynthFlags {
  std::string out, shape, form = "dense", encode = "bf16", factor_encode, encode_head;
  int64_t layers = 0;
  SynthOptions synth;
  bool json = false;
};

const std::map<std::string, SynthForm> kForms = {{"dense", SynthForm::kDense},
                                                 {"svd", SynthForm::kSvd},
                                                 {"tucker", SynthForm::kTucker},
                                                 {"mpo", SynthForm::kMpo},
                                                 {"qlr", SynthForm::kQlr}};

absl::StatusOr<Encoding> ParseFlag(const std::string& flag, const std::string& text) {
  auto encoding = ParseEncoding(text);
  if (encoding.ok()) return encoding;
  return absl::Status(encoding.status().code(),
                      absl::StrCat(flag, ": ", encoding.status().message()));
}

absl::Status ParseEncodings(SynthFlags* flags) {
  auto encoding = ParseFlag("--encode", flags->encode);
  if (!encoding.ok()) return encoding.status();
  FormOptions& form = flags->synth.form;
  form.encoding = form.factor_encoding = *encoding;
  if (form.form == SynthForm::kQlr) form.factor_encoding = Encoding::Float(DType::kBF16);
  if (!flags->factor_encode.empty()) {
    if (form.form == SynthForm::kDense) {
      return absl::InvalidArgumentError("--factor-encode does not go with --form dense");
    }
    auto factors = ParseFlag("--factor-encode", flags->factor_encode);
    if (!factors.ok()) return factors.status();
    form.factor_encoding = *factors;
  }
  if (flags->encode_head.empty()) return absl::OkStatus();
  auto head = ParseFlag("--encode-head", flags->encode_head);
  if (!head.ok()) return head.status();
  flags->synth.head_encoding = *head;
  return absl::OkStatus();
}

void Print(const SynthReport& report, const NamedShape& shape, const SynthFlags& flags) {
  const double bytes = static_cast<double>(report.bytes);
  const double keep =
      static_cast<double>(report.stored_parameters) / static_cast<double>(report.dense_parameters);
  if (flags.json) {
    const nlohmann::ordered_json json = {{"path", flags.out},
                                         {"shape", flags.shape},
                                         {"layers", shape.config.num_layers},
                                         {"form", flags.form},
                                         {"random_weights", true},
                                         {"note", shape.note},
                                         {"linears", report.linears},
                                         {"dense_parameters", report.dense_parameters},
                                         {"stored_parameters", report.stored_parameters},
                                         {"tensors", report.tensors},
                                         {"bytes", report.bytes},
                                         {"generate_seconds", report.generate_seconds},
                                         {"seconds", report.seconds}};
    PrintNow(DumpJson(json) + "\n");
    return;
  }
  std::string text = absl::StrFormat(
      "%s: random weights in the shape of %s, %d layers; a token is a byte\n"
      "%d linears with %.3f of the dense parameters; %d tensors, %s\n"
      "made at %.1f GB/s, written at %.2f GB/s\n",
      flags.out, flags.shape, shape.config.num_layers, report.linears, keep, report.tensors,
      FormatBytes(bytes), bytes * 1e-9 / report.generate_seconds, bytes * 1e-9 / report.seconds);
  if (!shape.note.empty()) text += "note: " + shape.note + "\n";
  PrintNow(text);
}

absl::Status Run(SynthFlags flags) {
  auto shape = FindShape(flags.shape, flags.layers);
  if (!shape.ok()) return shape.status();
  flags.synth.config = shape->config;
  flags.synth.form.form = kForms.at(flags.form);
  if (auto status = ParseEncodings(&flags); !status.ok()) return status;
  ProgressBar progress("synth");
  flags.synth.progress = [&](int64_t done, int64_t total) {
    progress.Update(static_cast<double>(done) / static_cast<double>(total),
                    FormatBytes(static_cast<double>(done)));
  };
  auto report = SynthesizeModel(flags.synth, flags.out);
  progress.Finish();
  if (!report.ok()) return report.status();
  Print(*report, *shape, flags);
  return absl::OkStatus();
}

void AddFormFlags(CLI::App& command, FormOptions* form) {
  command.add_option("--keep", form->keep, "Share of the parameters of each linear, in (0, 1)")
      ->check(CLI::Range(1e-6, 0.999999));
  command.add_option("--rank", form->rank, "Rank of svd, of both sides of tucker, of L R in qlr")
      ->check(CLI::PositiveNumber);
  command.add_option("--bond", form->bond, "Bond dimension of mpo")->check(CLI::PositiveNumber);
  command.add_option("--sites", form->sites, "Cores of mpo: 2, 3 or 4 (default: 2)")
      ->check(CLI::Range(2, 4));
}

}  // namespace

void AddSynthCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* command = app.add_subcommand(
      "synth", "Write a model of random weights in a known shape, to measure speed with");
  command->add_option("out", flags->out, "The folder to write; it must not exist")->required();
  command
      ->add_option("--shape", flags->shape, "llama-2-7b, llama-3-8b, starcoder-15b or smollm2-135m")
      ->required();
  command->add_option("--layers", flags->layers, "Layers (default: those of the shape)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--form", flags->form, "Of the linears: dense, svd, tucker, mpo, qlr")
      ->capture_default_str()
      ->check(CLI::IsMember({"dense", "svd", "tucker", "mpo", "qlr"}));
  AddFormFlags(*command, &flags->synth.form);
  command
      ->add_option("--encode", flags->encode,
                   "Of the matrices, the Q of qlr and an untied lm_head: bf16, f16, f32, int4:g64, "
                   "int4:g32:offset, nf4:g64, e8p, ...")
      ->capture_default_str();
  command->add_option("--factor-encode", flags->factor_encode,
                      "Of the factors (default: as --encode; bf16 for the L and R of qlr)");
  command->add_option("--encode-head", flags->encode_head,
                      "Of lm_head (default: as --encode; bf16 where it is the embedding)");
  command->add_option("--seed", flags->synth.seed, "The same seed gives the same files")
      ->capture_default_str();
  command
      ->add_option("--threads", flags->synth.threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace rankine
