#include "tools/cli/generate_flags.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <limits>
#include <random>

#include "absl/status/status.h"
#include "models/files/json_text.h"
#include "tools/cli/output.h"

namespace rankine {

void GenerateFlags::AddSamplingTo(CLI::App& command) {
  command
      .add_option("--max-tokens,--max-new-tokens,--new-tokens,-n", max_tokens,
                  "New tokens at most (default: 512, or what the context holds)")
      ->check(CLI::Range(1, std::numeric_limits<int32_t>::max()));
  command.add_option("--temperature", temperature, "0 = greedy")->capture_default_str();
  command.add_option("--top-k", top_k, "0 = off")->capture_default_str();
  command.add_option("--top-p", top_p, "1 = off")->capture_default_str();
  command.add_option("--min-p", min_p, "0 = off")->capture_default_str();
  command.add_option("--seed", seed, "Of the random stream (default: drawn)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--stop", stop, "Stop before this text; may be given several times");
  command.add_option("--stop-token", stop_token_ids,
                     "Stop after this token id; may be given several times");
  command.add_flag("--ignore-eos", ignore_eos, "Go on past the model's end-of-sequence tokens");
}

void GenerateFlags::AddTo(CLI::App& command) {
  auto* text = command.add_option("--prompt,-p", prompt, "The prompt");
  command.add_option("--prompt-file", prompt_file, "A file with the prompt; - is standard input")
      ->excludes(text);
  command.add_flag("--chat", chat,
                   "The prompt is a user's message, formatted by the model's chat template");
  command.add_option("--system", system, "A system message before it (with --chat)");
  command.add_flag("--parse-special", parse_special,
                   "Parse control tokens in the prompt (without --chat)");
  command.add_flag("--json", json,
                   "Print JSON: {text, token_ids, finish_reason, prompt_tokens, ...}");
  AddSamplingTo(command);
}

GenerateParams GenerateFlags::WithoutPrompt() const {
  GenerateParams params{
      .max_tokens = max_tokens,
      .sampling = {.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p},
      .stop = stop,
      .stop_token_ids = stop_token_ids,
      .ignore_eos = ignore_eos};
  params.sampling.seed = seed >= 0 ? static_cast<uint64_t>(seed) : std::random_device()();
  return params;
}

absl::StatusOr<GenerateParams> GenerateFlags::ToParams() const {
  GenerateParams params = WithoutPrompt();
  std::string text = prompt;
  if (!prompt_file.empty()) {
    auto read = ReadFile(prompt_file);
    if (!read.ok()) return read.status();
    text = *std::move(read);
  }
  if (text.empty())
    return absl::InvalidArgumentError("no prompt; give --prompt TEXT or --prompt-file FILE");
  if (!chat) {
    if (!system.empty()) return absl::InvalidArgumentError("--system needs --chat");
    params.prompt = TextPrompt{.text = std::move(text), .parse_special = parse_special};
    return params;
  }
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({.role = "system", .content = system});
  messages.push_back({.role = "user", .content = std::move(text)});
  params.prompt = std::move(messages);
  return params;
}

bool PiecePrinter::operator()(const Piece& piece) {
  text_ += piece.text;
  token_ids_.insert(token_ids_.end(), piece.token_ids.begin(), piece.token_ids.end());
  if (piece.finish_reason != FinishReason::kNone) last_ = piece;
  return json_ || piece.text.empty() || PrintNow(piece.text);
}

void PiecePrinter::Finish() {
  const double seconds = static_cast<double>(last_.timing.total_us) * 1e-6;
  const double decode_seconds =
      static_cast<double>(last_.timing.total_us - last_.timing.first_token_us) * 1e-6;
  const double rate =
      decode_seconds > 0 ? static_cast<double>(last_.completion_tokens - 1) / decode_seconds : 0;
  if (json_) {
    const nlohmann::ordered_json json = {
        {"text", text_},
        {"token_ids", token_ids_},
        {"finish_reason", Name(last_.finish_reason)},
        {"prompt_tokens", last_.prompt_tokens},
        {"completion_tokens", last_.completion_tokens},
        {"queue_seconds", static_cast<double>(last_.timing.queue_us) * 1e-6},
        {"first_token_seconds", static_cast<double>(last_.timing.first_token_us) * 1e-6},
        {"total_seconds", seconds},
        {"decode_tokens_per_second", rate}};
    PrintNow(DumpJson(json) + "\n");
    return;
  }
  PrintNow("\n");
  std::fprintf(
      stderr,
      "[%lld prompt tokens, %lld new, first after %.0f ms, then %.1f tokens/s; stopped by %s]\n",
      static_cast<long long>(last_.prompt_tokens), static_cast<long long>(last_.completion_tokens),
      static_cast<double>(last_.timing.first_token_us) * 1e-3, rate, Name(last_.finish_reason));
}

}  // namespace rankine
