// rankine eval MODEL --text FILE: perplexity.
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "models/text.h"
#include "tools/cli/command.h"
#include "tools/cli/json.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/output.h"
#include "tools/cli/progress.h"
#include "tools/eval/perplexity.h"

namespace rankine {
namespace {

struct Flags {
  std::string model, text;
  ModelFlags model_flags;
  PerplexityOptions perplexity;
  bool json = false;
};

absl::Status Eval(Flags flags) {
  auto opened = OpenModel(flags.model, flags.model_flags);
  if (!opened.ok()) return opened.status();
  auto tokenizer = TokenizerOf(*opened->checkpoint);
  if (!tokenizer.ok()) return tokenizer.status();
  auto kv_dtype = KvDTypeOf(flags.model_flags, *opened->model);
  if (!kv_dtype.ok()) return kv_dtype.status();
  flags.perplexity.kv_dtype = *kv_dtype;
  ProgressBar progress("eval");
  auto result = PerplexityOfFile(*opened->model, **tokenizer, flags.text, flags.perplexity,
                                 progress.AsProgressFn());
  progress.Finish();
  if (!result.ok()) return result.status();
  if (flags.json) {
    nlohmann::ordered_json json = {{"perplexity", result->perplexity},
                                   {"standard_error", nullptr},
                                   {"tokens", result->tokens},
                                   {"windows", result->windows},
                                   {"context", flags.perplexity.context},
                                   {"compute", ComputeName(*opened->model)},
                                   {"kv_dtype", KvDTypeName(*kv_dtype)}};
    if (result->standard_error) json["standard_error"] = *result->standard_error;
    PrintNow(Dump(json) + "\n");
  } else {
    PrintNow(absl::StrFormat(
        "perplexity %.4f +- %s over %d tokens in %d windows of %d\n", result->perplexity,
        result->standard_error ? absl::StrFormat("%.4f", *result->standard_error) : "?",
        result->tokens, result->windows, flags.perplexity.context));
  }
  return absl::OkStatus();
}

}  // namespace

void AddEvalCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("eval", "Perplexity of a model on a text");
  command->add_option("model", flags->model, "A model folder or .gguf file")->required();
  command->add_option("--text", flags->text, "The text file")->required();
  command->add_option("--context", flags->perplexity.context, "Tokens of a window")
      ->capture_default_str();
  command
      ->add_option("--windows", flags->perplexity.max_windows,
                   "At most so many, spread over the text; 0 = all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--json", flags->json, "Print JSON: {perplexity, standard_error, tokens, ...}");
  flags->model_flags.AddTo(*command);
  command->callback([flags, action] { *action = [flags] { return Eval(*flags); }; });
}

}  // namespace rankine
