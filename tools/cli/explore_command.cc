// rankine explore MODEL --methods svd,svd-llm --keep 0.9,0.8 --text FILE --calibration FILE --out
// FOLDER: the frontier of size, loss and speed.
#include <CLI/CLI.hpp>
#include <chrono>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/factorize_flags.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/cli/version.h"
#include "tools/explore/explore.h"
#include "tools/explore/plan.h"
#include "tools/explore/words.h"

namespace rankine {
namespace {

struct ExploreFlags {
  std::vector<std::string> only_sets, baselines, texts;
  std::vector<int64_t> windows = {0};
  std::string points_file;
  Axes axes;
  ExploreOptions options;
  ModelFlags model_flags;
  double minutes = 0;
  bool no_prune = false, no_speed = false, json = false;
};

absl::StatusOr<std::vector<PointSpec>> PointsOf(ExploreFlags flags) {
  for (const std::string& set : flags.only_sets) {
    const size_t equals = set.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == set.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--only-sets ", set, ": give NAME=REGEX, as mlp='mlp\\.' (a set for each flag)"));
    }
    flags.axes.layer_sets.push_back({set.substr(0, equals), set.substr(equals + 1)});
  }
  for (const std::string& text : flags.baselines) {
    flags.axes.baselines.push_back(SplitNamed(text));
  }
  if (!flags.points_file.empty()) {
    auto named = ReadPointsFile(flags.points_file);
    if (!named.ok()) return named.status();
    flags.axes.named_points = *std::move(named);
  }
  auto points = PlanPoints(flags.axes);
  if (!points.ok()) return points.status();
  for (PointSpec& point : *points) {
    if (point.kind != PointKind::kFactorize) continue;
    auto words = SplitWords(point.recipe);
    if (!words.ok()) return words.status();
    auto options = ParseFactorizeFlags(*words);
    if (!options.ok()) {
      return absl::Status(options.status().code(),
                          absl::StrCat("point '", point.name, "' (", point.recipe,
                                       "): ", options.status().message()));
    }
    point.factorize = *std::move(options);
    point.recipe = JoinWords(*words);
  }
  return points;
}

absl::Status FillTexts(const ExploreFlags& flags, EvaluatorOptions* options) {
  const std::vector<int64_t>& windows = flags.windows;
  if (windows.size() != 1 && windows.size() != flags.texts.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--windows has ", windows.size(),
                                                   " numbers for ", flags.texts.size(),
                                                   " texts: give one for all, or one for each"));
  }
  std::set<std::string> names;
  for (size_t i = 0; i < flags.texts.size(); ++i) {
    auto [name, path] = SplitNamed(flags.texts[i]);
    if (!names.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("two texts are called '", name, "': name them, as --text code=FILE"));
    }
    options->texts.push_back({.name = std::move(name),
                              .path = std::move(path),
                              .windows = windows[windows.size() == 1 ? 0 : i]});
  }
  return absl::OkStatus();
}

// What of the model's flags decides figures, for the cache and the report.
std::string ComputeWords(const ModelFlags& flags) {
  const auto word = [](const std::string& name, const std::string& value) {
    return value.empty() ? "" : absl::StrCat(", ", name, " ", value);
  };
  return absl::StrCat("rankine ", kVersion, ", compute ",
                      flags.compute.empty() ? "by encoding" : flags.compute,
                      word("KV cache", flags.kv_dtype), word("weights", flags.weight_dtype),
                      word("isa", flags.isa), flags.plan == "stable" ? "" : ", plan " + flags.plan,
                      flags.extra_weight_bytes == 0
                          ? ""
                          : absl::StrCat(", extra weight bytes ", flags.extra_weight_bytes));
}

std::string Pair(const Estimate& e) {
  return e.standard_error ? absl::StrFormat("%.4g +- %.2g", e.value, *e.standard_error)
                          : absl::StrFormat("%.4g", e.value);
}

void PrintTable(const Exploration& result, const std::string& out) {
  std::string text = absl::StrFormat("%-36s %9s %6s %18s %18s %9s\n", "point", "linears", "bits",
                                     "perplexity", "log difference", "decode");
  for (size_t i = 0; i < result.points.size(); ++i) {
    const PointResult& p = result.points[i];
    absl::StrAppendFormat(&text, "%-36s %9s %6.2f %18s %18s %9s%s\n", p.name,
                          FormatBytes(static_cast<double>(p.size.linear_bytes)),
                          p.size.bits_per_weight(), Pair(p.texts.front().perplexity),
                          Pair(p.texts.front().log_difference),
                          p.speed ? absl::StrFormat("%.2fx", p.speed->decode_ratio.median) : "-",
                          result.on_size_frontier[i] ? "  frontier" : "");
  }
  for (const UnmeasuredPoint& p : result.unmeasured) {
    absl::StrAppendFormat(&text, "%-36s %s: %s\n", p.name, std::string(WhyName(p.why)), p.reason);
  }
  absl::StrAppendFormat(&text, "%s/explore.html: %d points, %d of them measured now%s\n", out,
                        result.points.size(), result.measured,
                        result.is_complete ? "" : "; time was up, the same command goes on");
  PrintNow(text);
}

void PrintJson(const Exploration& result, const std::string& out) {
  nlohmann::ordered_json json = {{"path", out},
                                 {"points", result.points.size()},
                                 {"measured", result.measured},
                                 {"reused", result.reused},
                                 {"complete", result.is_complete},
                                 {"unmeasured", nlohmann::ordered_json::array()}};
  for (const UnmeasuredPoint& p : result.unmeasured) {
    json["unmeasured"].push_back(
        {{"name", p.name}, {"why", std::string(WhyName(p.why))}, {"reason", p.reason}});
  }
  PrintNow(DumpJson(json) + "\n");
}

absl::Status Run(ExploreFlags flags) {
  auto points = PointsOf(flags);
  if (!points.ok()) return points.status();
  ExploreOptions& options = flags.options;
  options.points = *std::move(points);
  if (auto s = FillTexts(flags, &options.evaluator); !s.ok()) return s;
  auto device =
      MakeCpuDevice({.num_threads = flags.model_flags.threads, .isa = flags.model_flags.isa});
  if (!device.ok()) return device.status();
  auto load = ToLoadOptions(flags.model_flags, **device);
  if (!load.ok()) return load.status();
  options.evaluator.device = device->get();
  options.evaluator.load = *load;
  options.evaluator.kv_dtype = [&](const FactoredModel& model) {
    return KvDTypeOf(flags.model_flags, model);
  };
  if (flags.no_speed) options.evaluator.speed.repeat = 0;
  options.compute = ComputeWords(flags.model_flags);
  options.threads = flags.model_flags.threads;
  options.prune = !flags.no_prune;
  if (flags.minutes > 0) {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(60 * flags.minutes);
    options.out_of_time = [end] { return std::chrono::steady_clock::now() >= end; };
  }
  ProgressBar progress("explore");
  auto result = Explore(options, progress.AsProgressFn());
  progress.Finish();
  if (!result.ok()) return result.status();
  flags.json ? PrintJson(*result, options.out) : PrintTable(*result, options.out);
  return absl::OkStatus();
}

void AddAxes(CLI::App* command, ExploreFlags* flags) {
  Axes& axes = flags->axes;
  command->add_option("--methods", axes.methods, "Methods of factorize: svd,svd-llm,..")
      ->delimiter(',');
  command->add_option("--keep", axes.keep, "Budgets: shares of the parameters, 0.9,0.8,..")
      ->delimiter(',');
  command->add_option("--bits", axes.bits, "Budgets: bits for each weight, 4.5,3.5,..")
      ->delimiter(',');
  command
      ->add_option("--allocations", axes.allocations,
                   "How linears share a budget: uniform,loss-greedy,.. (default: the method's own)")
      ->delimiter(',');
  command->add_option("--only-sets", flags->only_sets,
                      "NAME=REGEX of the linears to factor; once for each set (default: all)");
  command
      ->add_option("--factor-encode", axes.factor_encodings, "Of the factors: bf16,int8,int4:g64")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--encodings", axes.encodings,
                   "Plain rounding of all linears: int4:g64,int3:g32,..")
      ->delimiter(',');
  command->add_option(
      "--baseline", flags->baselines,
      "[NAME=]PATH of another model to put on the chart as it is, as the .gguf that "
      "was shipped; may be repeated");
  command->add_option("--points", flags->points_file,
                      "A file of further points: lines of a name and flags of factorize");
}

void AddMeasures(CLI::App* command, ExploreFlags* flags) {
  ExploreOptions& options = flags->options;
  command
      ->add_option("--text", flags->texts,
                   "[NAME=]FILE to measure on; may be repeated, the first decides the frontier")
      ->required();
  command->add_option("--context", options.evaluator.context, "Tokens of a window")
      ->capture_default_str();
  command
      ->add_option("--windows", flags->windows,
                   "At most so many of each text, spread over it; 0 = all; one number for all "
                   "texts, or one for each: 64,32")
      ->delimiter(',')
      ->allow_extra_args(false)  // what follows a blank is the model
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--calibration", options.calibration.files,
                      "Text files whose statistics all points share");
  command->add_option("--calibration-windows", options.calibration.windows, "Taken from the text")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--window", options.calibration.window, "Tokens of a calibration window")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option(
      "--statistics", options.statistics_folder,
      "Statistics of rankine calibrate, in place of --calibration or kept beside it");
  command->add_option(
      "--sensitivity", options.sensitivity_file,
      "Measured sensitivities for the heat map: the --search-file of rankine factorize "
      "--allocation sensitivity");
  SpeedOptions& speed = options.evaluator.speed;
  command->add_option("--prompt-tokens", speed.prompt_tokens, "Of the speed measurement")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--new-tokens", speed.new_tokens, "Of the speed measurement")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--repeat", speed.repeat, "Repetitions of it, alternating with the dense model")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_flag("--no-speed", flags->no_speed, "Measure no speed");
}

}  // namespace

void AddExploreCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<ExploreFlags>();
  ExploreOptions& options = flags->options;
  CLI::App* command = app.add_subcommand(
      "explore", "Try methods, budgets and encodings on a model; draw size, loss and speed");
  command->add_option("model", options.model, "The dense model: a folder or .gguf file")
      ->required();
  command
      ->add_option("--out", options.out,
                   "The folder of report and cache; the same command again goes on in it")
      ->required();
  AddAxes(command, flags.get());
  AddMeasures(command, flags.get());
  command->add_option("--minutes", flags->minutes, "Stop after this time; the same command goes on")
      ->check(CLI::PositiveNumber);
  command->add_flag("--no-prune", flags->no_prune,
                    "Measure points too that larger budgets show to be no use");
  command->add_flag("--keep-models", options.keep_models,
                    "Keep each point's model in OUT/models (default: deleted once measured)");
  command->add_flag("--json", flags->json, "Print JSON: {path, points, measured, ...}");
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace rankine
