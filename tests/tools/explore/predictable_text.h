// A text that a random model predicts better than any change of it does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "models/loader.h"
#include "tools/eval/window_runner.h"

namespace rankine::testing {

// `count` windows of `length` letters, one after another, for a model whose token of a byte is the
// byte (compress_testing.h). Each letter is the likeliest of five that change from step to step:
// the choice favours the model's own errors, so that whatever perturbs its logits loses.
inline std::string PredictableText(const std::string& model_path, Device& device, int64_t count,
                                   int64_t length) {
  const auto checkpoint = OpenCheckpoint(model_path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto model = LoadModel(**checkpoint, device, {});
  EXPECT_TRUE(model.ok()) << model.status();
  auto runner = WindowRunner::Create(**model, {.window_tokens = length, .windows_per_pass = count});
  EXPECT_TRUE(runner.ok()) << runner.status();
  std::vector<std::vector<int32_t>> windows;
  for (int64_t w = 0; w < count; ++w) windows.push_back({static_cast<int32_t>('a' + w % 26)});
  for (int64_t step = 1; step < length; ++step) {
    runner->Begin(std::vector<absl::Span<const int32_t>>(windows.begin(), windows.end()));
    runner->Forward();
    for (int64_t w = 0; w < count; ++w) {
      const float* logits = runner->Logits(w * step + step - 1, 1).Row<float>(0);
      int32_t best = -1;
      for (int64_t k = 0; k < 5; ++k) {
        const auto letter = static_cast<int32_t>('a' + (7 * step + 3 * w + 5 * k) % 26);
        if (best < 0 || logits[letter] > logits[best]) best = letter;
      }
      windows[static_cast<size_t>(w)].push_back(best);
    }
  }
  std::string text;
  for (const auto& window : windows) text.append(window.begin(), window.end());
  return text;
}

}  // namespace rankine::testing
