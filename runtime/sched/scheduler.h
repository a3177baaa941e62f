// What the next step computes: a pure function of the sequences, the budget and the free blocks. No
// clock, no model, no state, so that its tests need none.
//
// Continuous batching (Orca, OSDI 2022) with prompts in chunks (Sarathi-Serve, arXiv 2403.02310):
//   1. every sequence that decodes gets its one token, so a long prompt never stalls an answer;
//   2. what is left of the token budget goes to prompts, in order of arrival, the last one cut;
//   3. waiting requests are admitted in order of arrival, while blocks for their *whole* answer can
//      be reserved. There is no preemption yet: reserving the worst case at admission is what
//      guarantees that a running request is never short of a block. A request that doesn't fit
//      holds back those behind it, so that small requests can't starve a large one.
#pragma once

#include <cstdint>
#include <vector>

namespace rankine {

struct StepBudget {
  int64_t max_batch_tokens = 0;  // tokens of a step
  int64_t max_running = 0;       // sequences in a step; at most max_batch_tokens
};

// A sequence that has its blocks.
struct RunningSequence {
  // Tokens that are known and not yet in the cache: 1 when it decodes, else what is left of the
  // prompt. At least 1.
  int64_t pending_tokens = 0;
  bool decoding = false;
};

// A request that has none yet.
struct WaitingSequence {
  int64_t prompt_tokens = 0;  // at least 1
  int64_t blocks = 0;         // that its prompt and its longest answer need
};

struct StepPlan {
  struct Item {
    int64_t sequence = 0;    // index in `running`, then in `waiting` after all of `running`
    int64_t num_tokens = 0;  // of its pending tokens, from the first
  };
  std::vector<Item> items;   // each sequence at most once; decodes first
  int64_t num_admitted = 0;  // the first of `waiting`, all of which are among the items

  void Reserve(int64_t max_items) { items.reserve(max_items); }
};

class Scheduler {
 public:
  // Requires 1 <= max_running <= max_batch_tokens.
  explicit Scheduler(const StepBudget& budget);

  const StepBudget& budget() const { return budget_; }

  // Both lists are in order of arrival; running.size() <= max_running. The plan is not empty unless
  // both lists are, or nothing runs and the first waiting request needs more than free_blocks.
  void Plan(const std::vector<RunningSequence>& running,
            const std::vector<WaitingSequence>& waiting, int64_t free_blocks, StepPlan* plan) const;

 private:
  StepBudget budget_;
};

}  // namespace rankine
