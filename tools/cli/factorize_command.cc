// rankine factorize MODEL OUT --method svd|svd-llm --keep 0.8
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/encode/encoding_name.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/factorize_flags.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/compress/allocation/allocation.h"
#include "tools/compress/factorize.h"
#include "tools/compress/methods/method.h"

namespace rankine {
namespace {

struct FactorizeFlags {
  std::string model, out, factor_encode = "bf16";
  std::map<std::string, std::string> method_options;
  FactorizeOptions options;
  bool json = false;
};

std::string WithError(double value, const std::optional<double>& error) {
  return error ? absl::StrFormat("%.4f +- %.4f", value, *error) : absl::StrFormat("%.4f", value);
}

std::string TextOf(const MeasuredLoss& loss) {
  return absl::StrFormat("%s (%s over the model as it is)",
                         WithError(loss.loss, loss.standard_error),
                         WithError(loss.increase, loss.increase_error));
}

void AppendSearch(const SearchReport& search, std::string* out) {
  absl::StrAppendFormat(out, "validation loss: %s before, %s now; %d points measured\n",
                        WithError(search.unchanged.loss, search.unchanged.standard_error),
                        TextOf(search.planned), search.measured);
  if (search.best_linear.empty()) return;
  absl::StrAppendFormat(out, "best single intervention: %s at rank %d: %s\n", search.best_linear,
                        search.best_rank, TextOf(search.best));
}

nlohmann::ordered_json ToJson(const MeasuredLoss& loss) {
  nlohmann::ordered_json json = {{"loss", loss.loss},
                                 {"standard_error", nullptr},
                                 {"increase", loss.increase},
                                 {"increase_error", nullptr}};
  if (loss.standard_error) json["standard_error"] = *loss.standard_error;
  if (loss.increase_error) json["increase_error"] = *loss.increase_error;
  return json;
}

nlohmann::ordered_json ToJson(const SearchReport& search) {
  nlohmann::ordered_json json = {{"unchanged", ToJson(search.unchanged)},
                                 {"planned", ToJson(search.planned)},
                                 {"measured", search.measured},
                                 {"best_single", nullptr}};
  if (search.best_linear.empty()) return json;
  json["best_single"] = ToJson(search.best);
  json["best_single"]["linear"] = search.best_linear;
  json["best_single"]["rank"] = search.best_rank;
  return json;
}

void PrintJson(const FactorizeReport& report, const FactorizeFlags& flags) {
  nlohmann::ordered_json json = {{"path", flags.out},
                                 {"method", flags.options.method},
                                 {"keep", flags.options.keep},
                                 {"parameters_kept", report.parameters_kept},
                                 {"bits_per_weight", report.bits_per_weight},
                                 {"layers", nlohmann::ordered_json::array()}};
  for (const LayerReport& layer : report.layers) {
    nlohmann::ordered_json entry = {{"name", layer.name},
                                    {"rank", layer.rank},
                                    {"relative_error", layer.relative_error},
                                    {"weighted_error", nullptr},
                                    {"dense_parameters", layer.dense_parameters},
                                    {"kept_parameters", layer.kept_parameters},
                                    {"kept_bits", layer.kept_bits}};
    if (layer.weighted_error) entry["weighted_error"] = *layer.weighted_error;
    json["layers"].push_back(std::move(entry));
  }
  if (report.search) json["search"] = ToJson(*report.search);
  PrintNow(DumpJson(json) + "\n");
}

void PrintTable(const FactorizeReport& report, const FactorizeFlags& flags) {
  std::string out = absl::StrFormat("%-44s %6s %16s %16s\n", "linear", "rank", "relative error",
                                    "weighted error");
  for (const LayerReport& layer : report.layers) {
    absl::StrAppendFormat(
        &out, "%-44s %6s %16.4f %16s\n", layer.name,
        layer.rank > 0 ? absl::StrFormat("%d", layer.rank) : "dense", layer.relative_error,
        layer.weighted_error ? absl::StrFormat("%.4f", *layer.weighted_error) : "-");
  }
  absl::StrAppendFormat(&out, "%s: %d linears, %.4f of their parameters kept, %.2f bits a weight\n",
                        flags.out, report.layers.size(), report.parameters_kept,
                        report.bits_per_weight);
  if (report.search) AppendSearch(*report.search, &out);
  PrintNow(out);
}

// The options that the flags come to.
absl::StatusOr<FactorizeOptions> OptionsOf(const FactorizeFlags& flags) {
  FactorizeOptions options = flags.options;
  const auto encoding = ParseEncoding(flags.factor_encode);
  if (!encoding.ok()) {
    return absl::Status(encoding.status().code(),
                        absl::StrCat("--factor-encode: ", encoding.status().message()));
  }
  options.factor_encoding = *encoding;
  for (const auto& [name, value] : flags.method_options) {
    if (!value.empty()) options.method_options[name] = value;
  }
  return options;
}

absl::Status Run(FactorizeFlags flags) {
  auto options = OptionsOf(flags);
  if (!options.ok()) return options.status();
  flags.options = *std::move(options);
  ProgressBar progress("factorize");
  auto report = Factorize(flags.model, flags.out, flags.options, progress.AsProgressFn());
  progress.Finish();
  if (!report.ok()) return report.status();
  flags.json ? PrintJson(*report, flags) : PrintTable(*report, flags);
  return absl::OkStatus();
}

// --method, and a flag for each option that any method declares.
void AddMethodFlags(CLI::App* command, FactorizeFlags* flags) {
  std::string methods = "What to minimise:";
  std::map<std::string, std::string> help;
  for (const Method& m : Methods()) {
    absl::StrAppendFormat(&methods, "\n%s: %s", std::string(m.name), std::string(m.help));
    for (const MethodOption& o : m.options) {
      std::string& text = help[std::string(o.name)];
      absl::StrAppendFormat(&text, "%s%s: %s [%s]", text.empty() ? "" : "; ", std::string(m.name),
                            std::string(o.help), std::string(o.default_value));
    }
  }
  command->add_option("--method", flags->options.method, methods)->required();
  for (const auto& [name, text] : help) {
    command->add_option("--" + name, flags->method_options[name], text);
  }
}

void AddBudgetFlags(CLI::App* command, FactorizeOptions* options) {
  CLI::Option* keep = command
                          ->add_option("--keep", options->keep,
                                       "Share of the parameters of each factored linear, in (0, 1]")
                          ->capture_default_str();
  CLI::Option* bits =
      command->add_option("--bits", options->bits, "Bits for each weight, everything counted");
  CLI::Option* rank = command->add_option("--rank", options->rank, "The same rank everywhere")
                          ->check(CLI::PositiveNumber);
  CLI::Option* bytes =
      command->add_option("--bytes", options->bytes, "Bytes of all selected linears together")
          ->check(CLI::PositiveNumber);
  std::string policies = "How linears share the budget:";
  for (const AllocationPolicy& p : AllocationPolicies()) {
    absl::StrAppendFormat(&policies, "\n%s: %s", std::string(p.name), std::string(p.help));
  }
  policies += "\nDefault: uniform; laser with --method laser";
  command->add_option("--allocation", options->allocation, policies);
  command->add_option("--allocation-list", options->allocation_list,
                      "Lines of REGEX and keep SHARE, rank R or dense; the first that fits");
  keep->excludes(bits)->excludes(rank)->excludes(bytes);
  bytes->excludes(bits)->excludes(rank);
  bits->excludes(rank)->check(CLI::PositiveNumber);
  command
      ->add_option("--rank-multiple", options->rank_multiple,
                   "Round ranks down to a multiple (16 fills the kernels' blocks)")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

// Of the policies that look at the model's loss.
void AddSearchFlags(CLI::App* command, FactorizeOptions* options) {
  SearchSettings* search = &options->search;
  command->add_option("--validation", options->validation_files,
                      "Text files for sensitivity, bayes and laser: apart from --calibration, and "
                      "from what you evaluate on");
  command
      ->add_option("--validation-windows", options->validation_windows,
                   "Windows taken from the validation text, spread evenly")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--validation-window", options->validation_window,
                   "Tokens of a validation window")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--search-file", options->search_file,
                      "Losses measured on the way: used where they are there, kept for other runs");
  command
      ->add_option("--search-shares", search->shares,
                   "sensitivity: shares of a linear's size to measure [0.3,0.5,0.7,0.9]; laser: of "
                   "its rank [0.01,0.05,0.1,0.2,0.4,0.6,0.8,0.9]")
      ->delimiter(',');
  command
      ->add_option("--search-evaluations", search->evaluations, "bayes: how often the model runs")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--search-bands", search->depth_bands,
                   "bayes: parts of the depth with ranks of their own, for each matrix type")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--search-seed", search->seed, "bayes: of its random points")
      ->capture_default_str();
  command
      ->add_option("--search-interventions", search->interventions,
                   "laser: linears reduced together, at most")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

// All that say how: everything but the folders and how the report is printed.
void AddFlags(CLI::App* command, FactorizeFlags* flags) {
  FactorizeOptions& options = flags->options;
  AddMethodFlags(command, flags);
  AddBudgetFlags(command, &options);
  AddSearchFlags(command, &options);
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
  command
      ->add_option("--factor-encode,--factor-dtype", flags->factor_encode,
                   "Of the factors: bf16, f16, f32, int8, int4:g64, .. (docs/factorization.md)")
      ->capture_default_str();
  command->add_option("--statistics", options.statistics_folder,
                      "Statistics of rankine calibrate; with --calibration, they are also kept "
                      "here");
  command->add_option("--fisher", options.fisher_file,
                      "Squared gradients, for fwsvd: a safetensors file of tools/torch");
  command
      ->add_option("--threads", options.threads,
                   "Threads (default: the cores this process may run on)")
      ->check(CLI::Range(1, 1024));
}

}  // namespace

absl::StatusOr<FactorizeOptions> ParseFactorizeFlags(std::vector<std::string> words) {
  CLI::App app;
  app.set_help_flag();
  FactorizeFlags flags;
  AddFlags(&app, &flags);
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app.parse(words);
  } catch (const CLI::ParseError& e) {
    return absl::InvalidArgumentError(e.what());
  }
  return OptionsOf(flags);
}

void AddFactorizeCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<FactorizeFlags>();
  CLI::App* command =
      app.add_subcommand("factorize", "Factor the linears of a model into a new folder");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("out", flags->out, "The folder to write; it must not exist")->required();
  AddFlags(command, flags.get());
  command->add_flag("--json", flags->json, "Print JSON: {layers: [...], parameters_kept}");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace rankine
