// rankine tokenize MODEL --text S, rankine detokenize MODEL --ids 1,2,3
#include <CLI/CLI.hpp>

#include "models/checkpoint/checkpoint.h"
#include "models/files/json_text.h"
#include "models/text.h"
#include "tools/cli/command.h"
#include "tools/cli/output.h"

namespace rankine {
namespace {

struct TokenizeFlags {
  std::string model, text, file;
  bool has_text = false;  // it may be given as ""
  std::vector<int32_t> ids;
  bool parse_special = false, no_special = false, skip_special = false, json = false;
};

absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizer(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  return TokenizerOf(**checkpoint);
}

absl::Status Tokenize(const TokenizeFlags& flags) {
  if (!flags.has_text && flags.file.empty()) {
    return absl::InvalidArgumentError("no text; give --text TEXT or --file FILE");
  }
  auto tokenizer = OpenTokenizer(flags.model);
  if (!tokenizer.ok()) return tokenizer.status();
  std::string text = flags.text;
  if (!flags.file.empty()) {
    auto read = ReadFile(flags.file);
    if (!read.ok()) return read.status();
    text = *std::move(read);
  }
  auto ids =
      (*tokenizer)
          ->Encode(text, {.add_special = !flags.no_special, .parse_special = flags.parse_special});
  if (!ids.ok()) return ids.status();
  if (flags.json) {
    PrintNow(DumpJson({{"token_ids", *ids}}) + "\n");
    return absl::OkStatus();
  }
  std::string line;
  for (const int32_t id : *ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  PrintNow(line + "\n");
  return absl::OkStatus();
}

absl::Status Detokenize(const TokenizeFlags& flags) {
  auto tokenizer = OpenTokenizer(flags.model);
  if (!tokenizer.ok()) return tokenizer.status();
  const std::string text = (*tokenizer)->Decode(flags.ids, flags.skip_special);
  PrintNow((flags.json ? DumpJson({{"text", text}}) : text) + "\n");
  return absl::OkStatus();
}

}  // namespace

void AddTokenizeCommands(CLI::App& app, Action* action) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* encode = app.add_subcommand("tokenize", "Text to token ids");
  encode->add_option("model", flags->model, "A model folder or .gguf file")->required();
  auto* text = encode->add_option("--text", flags->text, "The text");
  encode->add_option("--file", flags->file, "A file with the text; - is standard input")
      ->excludes(text);
  encode->add_flag("--parse-special", flags->parse_special, "Parse control tokens in the text");
  encode->add_flag("--no-special", flags->no_special,
                   "Do not add the tokens that the model adds (BOS)");
  encode->add_flag("--json", flags->json, "Print JSON: {token_ids}");
  encode->callback([flags, action, text] {
    flags->has_text = text->count() > 0;
    *action = [flags] { return Tokenize(*flags); };
  });

  CLI::App* decode = app.add_subcommand("detokenize", "Token ids to text");
  decode->add_option("model", flags->model, "A model folder or .gguf file")->required();
  decode->add_option("--ids", flags->ids, "Token ids, with commas or blanks between them")
      ->required()
      ->delimiter(',');
  decode->add_flag("--skip-special", flags->skip_special, "Leave control tokens out");
  decode->add_flag("--json", flags->json, "Print JSON: {text}");
  decode->callback([flags, action] { *action = [flags] { return Detokenize(*flags); }; });
}

}  // namespace rankine
