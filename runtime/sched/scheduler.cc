#include "runtime/sched/scheduler.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace rankine {

Scheduler::Scheduler(const StepBudget& budget) : budget_(budget) {
  RK_CHECK(budget.max_running >= 1 && budget.max_running <= budget.max_batch_tokens);
}

void Scheduler::Plan(const std::vector<RunningSequence>& running,
                     const std::vector<WaitingSequence>& waiting, int64_t free_blocks,
                     StepPlan* plan) const {
  const int64_t num_running = static_cast<int64_t>(running.size());
  RK_CHECK(num_running <= budget_.max_running);
  plan->items.clear();
  plan->num_admitted = 0;
  int64_t tokens_left = budget_.max_batch_tokens;
  for (int64_t i = 0; i < num_running; ++i) {
    if (!running[i].decoding) continue;
    plan->items.push_back({.sequence = i, .num_tokens = 1});
    --tokens_left;
  }
  auto add_chunk = [&](int64_t sequence, int64_t pending) {
    const int64_t chunk = std::min(pending, tokens_left);
    plan->items.push_back({.sequence = sequence, .num_tokens = chunk});
    tokens_left -= chunk;
  };
  for (int64_t i = 0; i < num_running && tokens_left > 0; ++i) {
    if (!running[i].decoding) add_chunk(i, running[i].pending_tokens);
  }
  for (const WaitingSequence& next : waiting) {
    if (tokens_left == 0 || num_running + plan->num_admitted == budget_.max_running) break;
    if (next.blocks > free_blocks) break;
    free_blocks -= next.blocks;
    add_chunk(num_running + plan->num_admitted, next.prompt_tokens);
    ++plan->num_admitted;
  }
}

}  // namespace rankine
