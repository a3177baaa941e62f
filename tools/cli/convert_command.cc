// rankine convert SRC DST [--encode int4:g64]: a GGUF file or a Hugging Face folder becomes a
// Rankine folder. With --pivot, its U V and U S V matrices in the form of fewest numbers.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/convert.h"
#include "models/checkpoint/foreign_factors.h"
#include "models/encode/encoding_name.h"
#include "models/files/json_text.h"
#include "models/lora/lora_checkpoint.h"
#include "tools/cli/command.h"
#include "tools/cli/encoding_summary.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/compress/pivoted_checkpoint.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

struct ConvertFlags {
  std::string source, destination, dtype = "bf16", encode, encode_map, lora, factor_order;
  int threads = 0;
  bool json = false, pivot = false;
  std::optional<double> max_pivot_error;
};

absl::StatusOr<ConvertOptions> OptionsOf(const ConvertFlags& flags) {
  ConvertOptions options{.num_threads = flags.threads};
  auto dtype = ParseFloatDType("--dtype", flags.dtype);
  if (!dtype.ok()) return dtype.status();
  options.dtype = *dtype;
  if (!flags.encode.empty()) {
    auto target = ParseEncodingTarget(flags.encode);
    if (!target.ok()) {
      return absl::Status(target.status().code(),
                          absl::StrCat("--encode: ", target.status().message()));
    }
    options.encode = *target;
  }
  if (!flags.encode_map.empty()) {
    auto map = ReadEncodingMap(flags.encode_map);
    if (!map.ok()) return map.status();
    options.map = *std::move(map);
  }
  return options;
}

Json ReportJson(const ConvertReport& report, const Checkpoint& source, const Checkpoint& written,
                const ConvertFlags& flags, int64_t bytes) {
  Json json = {{"path", flags.destination},
               {"dtype", flags.dtype},
               {"tensors", written.tensors().size()},
               {"bytes", bytes},
               {"bits_per_weight", SummarizeEncodings(written).bits_per_weight()},
               {"source", DescribeMatrices(source.factored())},
               {"encoded", Json::array()},
               {"unmatched_linears", report.unmatched_linears},
               {"unused_rules", report.unused_rules}};
  for (const ConvertedCore& core : report.cores) {
    json["encoded"].push_back({{"linear", core.linear},
                               {"core", core.core},
                               {"encoding", EncodingName(core.encoding)},
                               {"weights", core.weights},
                               {"bytes", core.bytes},
                               {"relative_error", core.relative_error}});
  }
  return json;
}

Json PivotsJson(const std::vector<PivotReport>& pivots) {
  Json json = Json::array();
  for (const PivotReport& p : pivots) {
    json.push_back({{"linear", p.linear},
                    {"pivoted", p.kept.empty()},
                    {"rank", p.rank},
                    {"parameters_before", p.parameters_before},
                    {"parameters", p.kept.empty() ? p.parameters : p.parameters_before},
                    {"relative_error", p.error},
                    {"kept", p.kept}});
  }
  return json;
}

std::string PivotsText(const std::vector<PivotReport>& pivots) {
  int64_t before = 0, after = 0, count = 0;
  const PivotReport* worst = nullptr;
  std::string out;
  for (const PivotReport& p : pivots) {
    if (!p.kept.empty()) {
      absl::StrAppendFormat(&out, "%s is kept as it was: %s\n", p.linear, p.kept);
      continue;
    }
    ++count;
    before += p.parameters_before;
    after += p.parameters;
    if (worst == nullptr || p.error > worst->error) worst = &p;
  }
  if (worst == nullptr) return out + "no linear is pivoted\n";
  absl::StrAppendFormat(&out,
                        "%d linears pivoted: %d numbers in place of %d; greatest error relative to "
                        "their factors %.2g (%s)\n",
                        count, after, before, worst->error, worst->linear);
  return out;
}

// "model.layers.*.mlp.up_proj" once for all layers.
std::set<std::string> KindsOf(const std::vector<std::string>& linears) {
  std::set<std::string> kinds;
  for (const std::string& name : linears) {
    std::vector<std::string> parts = absl::StrSplit(name, '.');
    for (std::string& part : parts) {
      if (std::all_of(part.begin(), part.end(), absl::ascii_isdigit)) part = "*";
    }
    kinds.insert(absl::StrJoin(parts, "."));
  }
  return kinds;
}

std::string ReportText(const ConvertReport& report, const Checkpoint& source,
                       const Checkpoint& written, const ConvertFlags& flags, int64_t bytes) {
  std::string out;
  for (const std::string& line : DescribeMatrices(source.factored())) {
    absl::StrAppend(&out, "found ", line, "\n");
  }
  out += absl::StrFormat("%s: %d tensors, %s of weights%s\n", flags.destination,
                         written.tensors().size(), FormatBytes(static_cast<double>(bytes)),
                         report.cores.empty() ? " in " + flags.dtype : "");
  if (!report.cores.empty()) {
    double worst = 0;
    std::string worst_name;
    for (const ConvertedCore& core : report.cores) {
      if (core.relative_error <= worst) continue;
      worst = core.relative_error;
      worst_name = core.linear + " " + core.core;
    }
    out += EncodingTable(SummarizeEncodings(written));
    if (worst > 0) {
      absl::StrAppendFormat(&out, "greatest relative error of a core: %.4f (%s)\n", worst,
                            worst_name);
    }
  }
  if (!report.unmatched_linears.empty()) {
    absl::StrAppendFormat(&out, "%d linears match no rule and are %s: %s\n",
                          report.unmatched_linears.size(), flags.dtype,
                          absl::StrJoin(KindsOf(report.unmatched_linears), ", "));
  }
  for (const std::string& rule : report.unused_rules) {
    absl::StrAppendFormat(&out, "no linear took the rule '%s'\n", rule);
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSource(const ConvertFlags& flags) {
  OpenOptions options;
  if (flags.factor_order == "AB") options.factor_order = FactorOrder::kAB;
  if (flags.factor_order == "BA") options.factor_order = FactorOrder::kBA;
  auto source = OpenCheckpoint(flags.source, options);
  if (!source.ok() || flags.lora.empty()) return source;
  return OpenLora(*std::move(source), flags.lora);
}

absl::Status Convert(const ConvertFlags& flags) {
  auto options = OptionsOf(flags);
  if (!options.ok()) return options.status();
  auto source = OpenSource(flags);
  if (!source.ok()) return source.status();
  const Checkpoint* model = source->get();
  std::unique_ptr<PivotedCheckpoint> pivoted;
  if (flags.pivot) {
    ProgressBar progress("pivot");
    auto made = PivotedCheckpoint::Open(
        *model, *options, {.max_error = flags.max_pivot_error}, [&](int64_t done, int64_t total) {
          progress.Update(static_cast<double>(done) / static_cast<double>(total),
                          absl::StrCat(done, " of ", total, " linears"));
        });
    progress.Finish();
    if (!made.ok()) return made.status();
    pivoted = *std::move(made);
    model = pivoted.get();
  }
  ProgressBar progress("convert");
  auto report = ConvertModel(*model, flags.destination, *options, [&](int64_t done, int64_t total) {
    progress.Update(static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1)),
                    FormatBytes(static_cast<double>(done)));
  });
  progress.Finish();
  if (!report.ok()) return report.status();
  auto written = OpenCheckpoint(flags.destination);
  if (!written.ok()) return written.status();
  int64_t bytes = 0;
  for (const TensorInfo& tensor : (*written)->tensors()) bytes += tensor.stored_bytes;
  Json json = ReportJson(*report, **source, **written, flags, bytes);
  std::string text = ReportText(*report, **source, **written, flags, bytes);
  if (pivoted != nullptr) {
    json["pivots"] = PivotsJson(pivoted->report());
    text += PivotsText(pivoted->report());
  }
  PrintNow(flags.json ? DumpJson(json) + "\n" : text);
  return absl::OkStatus();
}

}  // namespace

void AddConvertCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* command = app.add_subcommand(
      "convert", "Convert a GGUF file or a Hugging Face folder to a Rankine folder");
  command
      ->add_option("source", flags->source,
                   "A .gguf file, or a folder with config.json and safetensors")
      ->required();
  command->add_option("destination", flags->destination, "The folder to write; it must not exist")
      ->required();
  command->add_option("--dtype", flags->dtype, "Of matrices that are not encoded: bf16, f16, f32")
      ->capture_default_str();
  command->add_option("--encode", flags->encode,
                      "Of every linear but the embedding: int4:g64, nf4:g32, e8p, ... "
                      "(docs/factorization.md); keep = GGUF blocks as they are, exactly");
  command->add_option("--encode-map", flags->encode_map,
                      "A file of lines 'REGEX ENCODING' (or a JSON object) by names of linears, "
                      "first match wins; --encode is for the rest");
  command->add_option(
      "--lora", flags->lora,
      "A PEFT LoRA adapter's folder, added to its linears as a second term, factored");
  command
      ->add_option("--factor-order", flags->factor_order,
                   "Of ALinear and BLinear where their shapes do not tell: AB (W = A B) or BA")
      ->check(CLI::IsMember({"AB", "BA"}));
  CLI::Option* pivot = command->add_flag(
      "--pivot", flags->pivot,
      "Store U V and U S V matrices of rank r by r of their rows and coefficients: r(m+n-r) "
      "numbers in place of r(m+n), the same product but for rounding; their rank is then fixed");
  command
      ->add_option("--max-pivot-error", flags->max_pivot_error,
                   "Keep a matrix as it is where --pivot would change it by more, relative to its "
                   "norm (default: 16 roundings of the dtype, 0.1 where it is encoded)")
      ->check(CLI::Range(0.0, 1.0))
      ->needs(pivot);
  command
      ->add_option("--threads", flags->threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, action] { *action = [flags] { return Convert(*flags); }; });
}

}  // namespace rankine
