// rankine eval MODEL: perplexity, fidelity to the dense model, multiple choice, code tasks; of an
// encoder a probe.
#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/files/json_text.h"
#include "models/text.h"
#include "tools/cli/command.h"
#include "tools/cli/eval_probe.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/eval/choices.h"
#include "tools/eval/code_tasks.h"
#include "tools/eval/completions.h"
#include "tools/eval/fidelity.h"
#include "tools/eval/perplexity.h"
#include "tools/eval/token_windows.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

struct EvalFlags {
  std::string model, text, against, choices, humaneval;
  ModelFlags model_flags;
  PerplexityOptions perplexity;
  CodeLimits limits;
  ProbeFlags probe;
  int64_t max_new_tokens = 256;
  bool run_generated_code = false;
  bool json = false;
};

Json ErrorJson(const std::optional<double>& error) { return error ? Json(*error) : Json(nullptr); }

Json EstimateJson(const Estimate& e) {
  return {{"value", e.value}, {"standard_error", ErrorJson(e.standard_error)}};
}

std::string Text(const Estimate& e, int digits = 4) {
  const auto number = [&](double value) { return absl::StrFormat("%.*f", digits, value); };
  return absl::StrCat(number(e.value), " +- ", e.standard_error ? number(*e.standard_error) : "?");
}

class Evaluation {
 public:
  explicit Evaluation(const EvalFlags& flags) : flags_(flags) {}

  absl::Status Run() {
    if (auto status = CheckFlags(); !status.ok()) return status;
    if (!flags_.probe.file.empty())
      return EvalProbe(flags_.model, flags_.against, flags_.model_flags, flags_.probe, flags_.json);
    auto opened = OpenDecoder(flags_.model);
    if (!opened.ok()) return opened.status();
    opened_ = *std::move(opened);
    auto tokenizer = TokenizerOf(*opened_.checkpoint);
    if (!tokenizer.ok()) return tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    auto kv_dtype = KvDTypeOf(flags_.model_flags, *opened_.model);
    if (!kv_dtype.ok()) return kv_dtype.status();
    flags_.perplexity.kv_dtype = *kv_dtype;
    absl::Status status = flags_.text.empty() ? absl::OkStatus() : RunText();
    if (status.ok() && !flags_.choices.empty()) status = RunChoices();
    if (status.ok() && !flags_.humaneval.empty()) status = RunHumanEval();
    if (!status.ok()) return status;
    json_["compute"] = ComputeName(*opened_.model);
    json_["kv_dtype"] = KvDTypeName(flags_.perplexity.kv_dtype);
    PrintNow(flags_.json ? DumpJson(json_) + "\n" : text_);
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<OpenedModel> OpenDecoder(const std::string& path) const {
    auto opened = OpenModel(path, flags_.model_flags);
    if (!opened.ok() || !opened->model->shape().is_encoder) return opened;
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is an encoder, which predicts no next token; evaluate it with --probe"));
  }

  absl::Status CheckFlags() const {
    const bool decodes =
        !flags_.text.empty() || !flags_.choices.empty() || !flags_.humaneval.empty();
    if (!decodes && flags_.probe.file.empty()) {
      return absl::InvalidArgumentError(
          "eval: nothing to evaluate on; give --text, --choices or --humaneval, or --probe for an "
          "encoder");
    }
    if (decodes && !flags_.probe.file.empty()) {
      return absl::InvalidArgumentError(
          "--probe is for encoders, --text, --choices and --humaneval for decoders: give one kind");
    }
    if (!flags_.against.empty() && flags_.text.empty() && flags_.probe.file.empty()) {
      return absl::InvalidArgumentError("--against compares on a text; give --text or --probe");
    }
    if (flags_.run_generated_code && flags_.humaneval.empty()) {
      return absl::InvalidArgumentError("--run-generated-code runs the tasks of --humaneval");
    }
    return absl::OkStatus();
  }

  absl::Status RunText() {
    auto tokens = ReadTextTokens(*tokenizer_, {flags_.text});
    if (!tokens.ok()) return tokens.status();
    if (!flags_.against.empty()) return RunAgainst(*tokens);
    ProgressBar progress("eval");
    auto result = Perplexity(*opened_.model, *tokens, flags_.perplexity, progress.AsProgressFn());
    progress.Finish();
    if (!result.ok()) return result.status();
    json_ = {{"perplexity", result->perplexity},
             {"standard_error", ErrorJson(result->standard_error)},
             {"tokens", result->tokens},
             {"windows", result->windows},
             {"context", flags_.perplexity.context}};
    absl::StrAppendFormat(
        &text_, "perplexity %s over %d tokens in %d windows of %d\n",
        Text({.value = result->perplexity, .standard_error = result->standard_error}),
        result->tokens, result->windows, flags_.perplexity.context);
    return absl::OkStatus();
  }

  absl::Status RunAgainst(const std::vector<int32_t>& tokens) {
    auto dense = OpenDecoder(flags_.against);
    if (!dense.ok()) return dense.status();
    ProgressBar progress("eval");
    auto result = CompareWithDense(*opened_.model, *dense->model, tokens, flags_.perplexity,
                                   progress.AsProgressFn());
    progress.Finish();
    if (!result.ok()) {
      return absl::Status(result.status().code(), absl::StrCat("--against ", flags_.against, ": ",
                                                               result.status().message()));
    }
    json_ = {{"perplexity", result->perplexity},
             {"tokens", result->tokens},
             {"windows", result->windows},
             {"context", flags_.perplexity.context},
             {"against",
              {{"model", flags_.against},
               {"perplexity", result->dense_perplexity},
               {"log_perplexity_difference", EstimateJson(result->log_perplexity_difference)},
               {"kl", EstimateJson(result->kl)},
               {"kl_p99", EstimateJson(result->kl_p99)},
               {"kl_max", result->kl_max},
               {"top1_agreement", EstimateJson(result->top1)}}}};
    absl::StrAppendFormat(
        &text_,
        "perplexity %.4f, of %s %.4f, over %d tokens in %d windows of %d\nlog perplexity "
        "difference %s\nKL divergence of the next token: mean %s, p99 %s, max %.4f nats\ntop-1 "
        "agreement %s\n",
        result->perplexity, flags_.against, result->dense_perplexity, result->tokens,
        result->windows, flags_.perplexity.context, Text(result->log_perplexity_difference),
        Text(result->kl, 5), Text(result->kl_p99), result->kl_max, Text(result->top1));
    return absl::OkStatus();
  }

  absl::Status RunChoices() {
    auto questions = ReadChoices(flags_.choices);
    if (!questions.ok()) return questions.status();
    ProgressBar progress("choices");
    auto result = EvaluateChoices(*opened_.model, *tokenizer_, *questions,
                                  flags_.perplexity.kv_dtype, progress.AsProgressFn());
    progress.Finish();
    if (!result.ok()) return InFile(result.status(), flags_.choices);
    json_["choices"] = {{"questions", result->questions},
                        {"accuracy", EstimateJson(result->accuracy)},
                        {"normalised_accuracy", EstimateJson(result->normalised_accuracy)},
                        {"log_likelihoods", result->log_likelihoods}};
    absl::StrAppendFormat(&text_, "choices: accuracy %s, length-normalised %s, %d questions\n",
                          Text(result->accuracy), Text(result->normalised_accuracy),
                          result->questions);
    return absl::OkStatus();
  }

  static absl::Status InFile(const absl::Status& status, const std::string& path) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  }

  absl::Status RunHumanEval() {
    auto tasks = ReadCodeTasks(flags_.humaneval);
    if (!tasks.ok()) return tasks.status();
    ProgressBar progress("solutions");
    auto result = ScoreSolutions(*opened_.model, *tokenizer_, *tasks, flags_.perplexity.kv_dtype,
                                 progress.AsProgressFn());
    progress.Finish();
    if (!result.ok()) return InFile(result.status(), flags_.humaneval);
    const double perplexity = std::exp(result->loss.value);
    Estimate of_solutions{.value = perplexity};
    if (result->loss.standard_error) {
      of_solutions.standard_error = perplexity * *result->loss.standard_error;
    }
    json_["humaneval"] = {{"tasks", result->tasks},
                          {"loss_per_token", EstimateJson(result->loss)},
                          {"perplexity", EstimateJson(of_solutions)},
                          {"bits_per_byte", EstimateJson(result->bits_per_byte)},
                          {"greedy_match", EstimateJson(result->greedy)}};
    absl::StrAppendFormat(
        &text_, "humaneval: canonical solutions of %d tasks, perplexity %s, %s bits per byte\n",
        result->tasks, Text(of_solutions), Text(result->bits_per_byte));
    return flags_.run_generated_code ? RunGenerated(*tasks) : absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Generate(const std::vector<CodeTask>& tasks) {
    auto engine = Engine::Start(*opened_.model, {.kv_dtype = flags_.perplexity.kv_dtype});
    if (!engine.ok()) return engine.status();
    const ModelShape& shape = opened_.model->shape();
    RequestLimits limits;
    limits.context_length = shape.max_position;
    limits.vocab_size = shape.vocab_size;
    const PromptCodec codec{.tokenizer = tokenizer_.get()};
    std::vector<std::string> prompts;
    for (const CodeTask& task : tasks) prompts.push_back(task.prompt);
    GenerateParams params{.max_tokens = flags_.max_new_tokens, .stop = CodeStopStrings()};
    ProgressBar progress("generate");
    auto completions = Complete(**engine, codec, limits, prompts, params, progress.AsProgressFn());
    progress.Finish();
    return completions;
  }

  absl::Status RunGenerated(const std::vector<CodeTask>& tasks) {
    auto completions = Generate(tasks);
    if (!completions.ok()) return completions.status();
    const Confinement confinement = ProbeConfinement();
    ProgressBar progress("run");
    auto result = RunCompletions(tasks, *completions, flags_.limits, progress.AsProgressFn());
    progress.Finish();
    if (!result.ok()) return result.status();
    Json passed = Json::object();
    for (size_t i = 0; i < tasks.size(); ++i) passed[tasks[i].id] = result->passed[i] ? 1 : 0;
    json_["humaneval"]["pass_at_1"] = EstimateJson(result->pass);
    json_["humaneval"]["timed_out"] = result->timed_out;
    json_["humaneval"]["passed"] = passed;
    json_["humaneval"]["no_network"] = confinement.no_network;
    json_["humaneval"]["writes_confined"] = confinement.writes_confined;
    absl::StrAppendFormat(&text_, "humaneval: pass@1 %s (greedy), %d timed out; ran %s, %s\n",
                          Text(result->pass), result->timed_out,
                          confinement.no_network ? "without network" : "WITH NETWORK",
                          confinement.writes_confined ? "without writes outside their folders"
                                                      : "WITH WRITES OUTSIDE THEIR FOLDERS");
    return absl::OkStatus();
  }

  EvalFlags flags_;
  OpenedModel opened_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  Json json_ = Json::object();
  std::string text_;
};

void AddCodeFlags(CLI::App& command, EvalFlags& flags) {
  command.add_option("--humaneval", flags.humaneval,
                     "Code tasks, a JSON object a line in HumanEval's format: likelihood of the "
                     "canonical solutions");
  command.add_flag("--run-generated-code", flags.run_generated_code,
                   "With --humaneval, also pass@1: lets the model write each solution (greedy) and "
                   "RUNS what it wrote, confined as far as the kernel allows (docs/evaluation.md)");
  command.add_option("--max-new-tokens", flags.max_new_tokens, "Of a generated solution")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  command.add_option("--run-seconds", flags.limits.seconds, "For one generated program")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  command.add_option("--python", flags.limits.python, "Runs the generated programs")
      ->capture_default_str();
}

}  // namespace

void AddEvalCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app.add_subcommand(
      "eval", "Perplexity, fidelity to a dense model, multiple choice, code tasks, probes");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("--text", flags->text, "Perplexity on this text file");
  command->add_option(
      "--against", flags->against,
      "The dense model: KL divergence and top-1 agreement on the text; with --probe "
      "cosines of the embeddings and the difference of accuracy");
  command->add_option("--context", flags->perplexity.context, "Tokens of a window")
      ->capture_default_str();
  command
      ->add_option("--windows", flags->perplexity.max_windows,
                   "At most so many, spread over the text; 0 = all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--choices", flags->choices,
                      "Multiple choice: lines of {\"context\", \"choices\": [...], \"answer\": 0}");
  AddCodeFlags(*command, *flags);
  flags->probe.AddTo(*command);
  command->add_flag("--json", flags->json, "Print JSON: {perplexity, standard_error, tokens, ...}");
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Evaluation(*flags).Run(); }; });
}

}  // namespace rankine
