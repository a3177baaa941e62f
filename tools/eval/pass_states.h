// What a model's layers made of the windows of a text, kept so that each later comparison with that
// model costs only its head: hidden_size f32 a token, where logits would take vocab_size.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/eval/window_runner.h"

namespace rankine {

// Of one model, one dtype of its cache and one sequence of passes: whoever owns it sees to that.
class PassStates {
 public:
  // Passes beyond `max_bytes` run each time.
  explicit PassStates(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // As runner.Forward() of pass `index` (0, 1, 2... when first met), begun in `runner`: its hidden
  // states are the same bits, from memory where they are kept.
  void Forward(int64_t index, WindowRunner* runner);

  int64_t bytes() const { return bytes_; }

 private:
  const int64_t max_bytes_;
  int64_t bytes_ = 0;
  std::vector<std::vector<float>> passes_;  // rows x stride of WindowRunner::hidden
};

}  // namespace rankine
