#include "tools/eval/pass_states.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace rankine {

void PassStates::Forward(int64_t index, WindowRunner* runner) {
  const MatrixView hidden = runner->hidden();
  const int64_t count = hidden.rows * hidden.stride;
  if (index < static_cast<int64_t>(passes_.size())) {
    const std::vector<float>& states = passes_[index];
    RK_CHECK(static_cast<int64_t>(states.size()) == count);
    std::copy(states.begin(), states.end(), hidden.Row<float>(0));
    return;
  }
  runner->Forward();
  const auto bytes = count * static_cast<int64_t>(sizeof(float));
  if (index != static_cast<int64_t>(passes_.size()) || bytes_ + bytes > max_bytes_) return;
  passes_.emplace_back(hidden.Row<float>(0), hidden.Row<float>(0) + count);
  bytes_ += bytes;
}

}  // namespace rankine
