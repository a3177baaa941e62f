// Flags of `generate`, `client` and `chat`: what to ask a model for, in process or over gRPC, and
// how it is shown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "serving/generate.h"

namespace CLI {
class App;
}

namespace rankine {

struct GenerateFlags {
  std::string prompt, prompt_file, system;
  bool chat = false;
  bool parse_special = false;
  int64_t max_tokens = 0;
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  int64_t seed = -1;  // negative = drawn
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool json = false;

  void AddSamplingTo(CLI::App& command);
  void AddTo(CLI::App& command);
  // The prompt read, all else copied. kInvalidArgument when there is no prompt.
  absl::StatusOr<GenerateParams> ToParams() const;
  // Sampling, stops and bounds alone.
  GenerateParams WithoutPrompt() const;
};

// Shows pieces as they arrive, or gathers them for --json.
class PiecePrinter {
 public:
  explicit PiecePrinter(bool json) : json_(json) {}
  // False when nobody reads any more.
  bool operator()(const Piece& piece);
  // After the last piece: the JSON, or a newline and a line of figures on stderr.
  void Finish();
  const std::string& text() const { return text_; }

 private:
  bool json_;
  std::string text_;
  std::vector<int32_t> token_ids_;
  Piece last_;
};

}  // namespace rankine
