// rankine bench MODEL...: prefill and decode speed of models side by side.
#include <CLI/CLI.hpp>
#include <iostream>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "models/files/json_text.h"
#include "tools/cli/command.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/measure/bench.h"

namespace rankine {
namespace {

// Far beyond any context; two of them can be added without overflow.
constexpr int kMaxTokens = 1 << 24;

struct BenchFlags {
  std::vector<std::string> models;
  ModelFlags model_flags;
  BenchOptions bench;
  std::string prompt_ids;
  bool json = false, on_request = false;
};

nlohmann::ordered_json ToJson(const Interval& interval) {
  return {{"median", interval.median}, {"low", interval.low}, {"high", interval.high}};
}

nlohmann::ordered_json ToJson(const std::vector<GroupWork>& groups) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const GroupWork& g : groups) {
    json.push_back(
        {{"count", g.count}, {"weight_bytes", g.weight_bytes}, {"operations", g.operations}});
  }
  return json;
}

void PrintJson(const BenchReport& report, const BenchFlags& flags,
               const std::vector<OpenedModel>& opened) {
  nlohmann::ordered_json json = {
      {"read_bandwidth_bytes_per_second", report.read_bandwidth_bytes_per_second},
      {"device", opened[0].device->description()},
      {"prompt_tokens", flags.bench.prompt_tokens},
      {"new_tokens", flags.bench.new_tokens},
      {"sequences", flags.bench.sequences},
      {"repeat", flags.bench.repeat},
      {"models", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < report.models.size(); ++i) {
    const BenchResult& m = report.models[i];
    json["models"].push_back(
        {{"path", m.path},
         {"prefill_tokens_per_second", m.prefill_tokens_per_second},
         {"decode_tokens_per_second", m.decode_tokens_per_second},
         {"weight_bytes_per_token", m.weight_bytes_per_token},
         {"operations_per_token", m.operations_per_token},
         {"groups", ToJson(m.groups)},
         {"kv_bytes_per_token", m.kv_bytes_per_token},
         {"bandwidth_share", m.bandwidth_share},
         {"resident_bytes", m.resident_bytes},
         {"weight_bytes", opened[i].model->weight_bytes()},
         {"compute", ComputeName(*opened[i].model)},
         {"kv_dtype", KvDTypeName(*KvDTypeOf(flags.model_flags, *opened[i].model))},
         {"prefill_ratio", ToJson(m.prefill_ratio)},
         {"decode_ratio", ToJson(m.decode_ratio)}});
  }
  PrintNow(DumpJson(json) + "\n");
}

void PrintTable(const BenchReport& report, const BenchFlags& flags,
                const std::vector<OpenedModel>& opened) {
  std::string out = absl::StrFormat(
      "%s; read bandwidth %.1f GB/s; %d prompt tokens, %d new, median of %d\n",
      opened[0].device->description(), report.read_bandwidth_bytes_per_second * 1e-9,
      flags.bench.prompt_tokens, flags.bench.new_tokens, flags.bench.repeat);
  absl::StrAppendFormat(&out, "%-32s %7s %6s %11s %10s %10s %6s  %-22s %s\n", "model", "compute",
                        "kv", "weights/tok", "prefill/s", "decode/s", "of bw", "decode ratio [95%]",
                        "resident");
  for (size_t i = 0; i < report.models.size(); ++i) {
    const BenchResult& m = report.models[i];
    const std::string name =
        m.path.size() > 32 ? "..." + m.path.substr(m.path.size() - 29) : m.path;
    absl::StrAppendFormat(
        &out, "%-32s %7s %6s %11s %10.1f %10.1f %5.0f%%  %-22s %s\n", name,
        ComputeName(*opened[i].model), KvDTypeName(*KvDTypeOf(flags.model_flags, *opened[i].model)),
        FormatBytes(static_cast<double>(m.weight_bytes_per_token)), m.prefill_tokens_per_second,
        m.decode_tokens_per_second, m.bandwidth_share * 100,
        absl::StrFormat("%.2f [%.2f, %.2f]", m.decode_ratio.median, m.decode_ratio.low,
                        m.decode_ratio.high),
        FormatBytes(static_cast<double>(m.resident_bytes)));
  }
  PrintNow(out);
}

// A program that compares us with others interleaves them: a repetition for each line of standard
// input, and a line of JSON for each repetition. The models stay loaded.
void AnswerRequests(BenchOptions* options) {
  options->next = [] {
    std::string line;
    PrintNow("{\"ready\": true}\n");
    return static_cast<bool>(std::getline(std::cin, line));
  };
  options->sampled = [](const std::vector<BenchSample>& samples) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const BenchSample& s : samples) {
      json.push_back({{"prefill_tokens_per_second", s.prefill_tokens_per_second},
                      {"decode_tokens_per_second", s.decode_tokens_per_second},
                      {"read_bandwidth_bytes_per_second", s.read_bandwidth_bytes_per_second},
                      {"bandwidth_share", s.bandwidth_share}});
    }
    PrintNow(DumpJson({{"samples", json}}) + "\n");
  };
}

// Token ids between white space; they are the prompt, and their number that of its tokens.
absl::Status ReadPrompt(const std::string& path, BenchOptions* options) {
  auto text = ReadFile(path);
  if (!text.ok()) return text.status();
  for (const auto word : absl::StrSplit(*text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty())) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(word, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--prompt-ids: ", path, ": '", absl::CHexEscape(word), "' is no token id"));
    }
    options->prompt.push_back(id);
  }
  options->prompt_tokens = static_cast<int64_t>(options->prompt.size());
  return absl::OkStatus();
}

absl::Status Bench(BenchFlags flags) {
  if (!flags.prompt_ids.empty()) {
    if (auto status = ReadPrompt(flags.prompt_ids, &flags.bench); !status.ok()) return status;
  }
  std::vector<OpenedModel> opened;
  std::vector<BenchSubject> subjects;
  for (const std::string& path : flags.models) {
    const int64_t before = ResidentBytes();
    auto model = OpenModel(path, flags.model_flags);
    if (!model.ok()) return model.status();
    opened.push_back(*std::move(model));
    auto kv_dtype = KvDTypeOf(flags.model_flags, *opened.back().model);
    if (!kv_dtype.ok()) return kv_dtype.status();
    subjects.push_back({.path = path,
                        .model = opened.back().model.get(),
                        .kv_dtype = *kv_dtype,
                        .loaded_bytes = ResidentBytes() - before});
  }
  ProgressBar progress("bench");
  flags.bench.progress = [&](double fraction, const std::string& what) {
    progress.Update(fraction, what);
  };
  if (flags.on_request) AnswerRequests(&flags.bench);
  auto report = RunBench(subjects, flags.bench);
  progress.Finish();
  if (!report.ok()) return report.status();
  flags.json ? PrintJson(*report, flags, opened) : PrintTable(*report, flags, opened);
  return absl::OkStatus();
}

}  // namespace

void AddBenchCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command =
      app.add_subcommand("bench", "Measure prefill and decode of models, interleaved in one run");
  command
      ->add_option("models", flags->models, "Model folders or .gguf files; ratios are to the first")
      ->required();
  command->add_option("--prompt-tokens", flags->bench.prompt_tokens, "Tokens of the prompt")
      ->capture_default_str()
      ->check(CLI::Range(1, kMaxTokens));
  command->add_option("--prompt-ids", flags->prompt_ids,
                      "A file of token ids: the prompt (default: random ones)");
  command->add_option("--new-tokens", flags->bench.new_tokens, "Tokens decoded after it")
      ->capture_default_str()
      ->check(CLI::Range(1, kMaxTokens));
  command->add_option("--repeat", flags->bench.repeat, "Repetitions")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command
      ->add_option("--sequences", flags->bench.sequences,
                   "Sequences decoded together, each after a prompt of its own")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  command->add_flag("--json", flags->json, "Print JSON");
  command->add_flag("--on-request", flags->on_request,
                    "Repeat for each line of standard input, with a line of JSON for each; the "
                    "report follows its end");
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Bench(*flags); }; });
}

}  // namespace rankine
