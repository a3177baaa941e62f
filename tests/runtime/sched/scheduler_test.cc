#include "runtime/sched/scheduler.h"

#include <cstdint>
#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace rankine {
namespace {

StepPlan PlanOf(const StepBudget& budget, const std::vector<RunningSequence>& running,
                const std::vector<WaitingSequence>& waiting, int64_t free_blocks) {
  StepPlan plan;
  Scheduler(budget).Plan(running, waiting, free_blocks, &plan);
  return plan;
}

std::vector<std::pair<int64_t, int64_t>> Items(const StepPlan& plan) {
  std::vector<std::pair<int64_t, int64_t>> items;
  for (const StepPlan::Item& item : plan.items) {
    items.push_back({item.sequence, item.num_tokens});
  }
  return items;
}

using ItemList = std::vector<std::pair<int64_t, int64_t>>;
constexpr RunningSequence kDecoding = {.pending_tokens = 1, .decoding = true};

TEST(SchedulerTest, NothingToDoIsAnEmptyPlan) {
  EXPECT_TRUE(PlanOf({.max_batch_tokens = 8, .max_running = 4}, {}, {}, 10).items.empty());
}

TEST(SchedulerTest, DecodesComeBeforeAHugePrompt) {
  const StepPlan plan = PlanOf({.max_batch_tokens = 10, .max_running = 4},
                               {{.pending_tokens = 100000}, kDecoding, kDecoding}, {}, 0);
  EXPECT_EQ(Items(plan), (ItemList{{1, 1}, {2, 1}, {0, 8}}));
}

TEST(SchedulerTest, PromptsShareTheRestInOrderOfArrival) {
  const StepPlan plan =
      PlanOf({.max_batch_tokens = 10, .max_running = 8},
             {{.pending_tokens = 4}, {.pending_tokens = 5}, {.pending_tokens = 6}},
             {{.prompt_tokens = 1, .blocks = 1}}, 100);
  EXPECT_EQ(Items(plan), (ItemList{{0, 4}, {1, 5}, {2, 1}}));
  EXPECT_EQ(plan.num_admitted, 0);
}

TEST(SchedulerTest, AdmitsInOrderWhileTokensBlocksAndPlacesLast) {
  const std::vector<WaitingSequence> waiting = {{.prompt_tokens = 3, .blocks = 2},
                                                {.prompt_tokens = 9, .blocks = 2},
                                                {.prompt_tokens = 1, .blocks = 1}};
  StepBudget budget = {.max_batch_tokens = 10, .max_running = 8};
  StepPlan plan = PlanOf(budget, {kDecoding}, waiting, 100);
  EXPECT_EQ(Items(plan), (ItemList{{0, 1}, {1, 3}, {2, 6}})) << "the budget cuts the second";
  EXPECT_EQ(plan.num_admitted, 2);
  budget.max_batch_tokens = 100;
  EXPECT_EQ(PlanOf(budget, {kDecoding}, waiting, 100).num_admitted, 3);
  EXPECT_EQ(PlanOf(budget, {kDecoding}, waiting, 4).num_admitted, 2) << "blocks";
  budget.max_running = 2;
  EXPECT_EQ(PlanOf(budget, {kDecoding}, waiting, 100).num_admitted, 1) << "places";
}

TEST(SchedulerTest, ARequestThatDoesNotFitHoldsBackThoseBehindIt) {
  const StepPlan plan =
      PlanOf({.max_batch_tokens = 100, .max_running = 8}, {kDecoding},
             {{.prompt_tokens = 50, .blocks = 10}, {.prompt_tokens = 1, .blocks = 1}}, 9);
  EXPECT_EQ(plan.num_admitted, 0);
  EXPECT_EQ(Items(plan), (ItemList{{0, 1}}));
}

// A whole life of random requests under random budgets: the engine's bookkeeping without its model.
class Simulation {
 public:
  Simulation(const StepBudget& budget, int64_t blocks) : scheduler_(budget), free_(blocks) {}

  void Submit(int64_t id, int64_t prompt, int64_t answer, int64_t blocks) {
    waiting_.push_back({id, prompt, answer, blocks});
  }
  bool Busy() const { return !waiting_.empty() || !running_.empty(); }
  const std::vector<int64_t>& admitted() const { return admitted_; }
  int64_t free_blocks() const { return free_; }

  void Step() {
    std::vector<RunningSequence> running;
    std::vector<WaitingSequence> waiting;
    for (const Job& j : running_) {
      running.push_back({.pending_tokens = j.pending, .decoding = j.decoding});
    }
    for (const Job& j : waiting_) {
      waiting.push_back({.prompt_tokens = j.pending, .blocks = j.blocks});
    }
    StepPlan plan;
    scheduler_.Plan(running, waiting, free_, &plan);
    Check(plan);
    for (int64_t i = 0; i < plan.num_admitted; ++i) {
      admitted_.push_back(waiting_.front().id);
      free_ -= waiting_.front().blocks;
      running_.push_back(waiting_.front());
      waiting_.pop_front();
    }
    for (const StepPlan::Item& item : plan.items) Advance(running_[item.sequence], item.num_tokens);
    for (size_t i = running_.size(); i-- > 0;) {
      if (running_[i].answer > 0) continue;
      free_ += running_[i].blocks;
      running_.erase(running_.begin() + i);
    }
  }

 private:
  struct Job {
    int64_t id, pending, answer, blocks;
    bool decoding = false;
  };

  static void Advance(Job& job, int64_t tokens) {
    job.pending -= tokens;
    if (job.pending > 0) return;
    job.decoding = true;
    job.pending = 1;
    --job.answer;
  }

  void Check(const StepPlan& plan) {
    const int64_t num_running = static_cast<int64_t>(running_.size());
    ASSERT_FALSE(plan.items.empty());
    int64_t tokens = 0, blocks = 0;
    std::vector<bool> seen(num_running + plan.num_admitted, false);
    for (const StepPlan::Item& item : plan.items) {
      ASSERT_LT(item.sequence, num_running + plan.num_admitted);
      ASSERT_FALSE(seen[item.sequence]);
      seen[item.sequence] = true;
      const Job& job = item.sequence < num_running ? running_[item.sequence]
                                                   : waiting_[item.sequence - num_running];
      ASSERT_GE(item.num_tokens, 1);
      ASSERT_LE(item.num_tokens, job.pending);
      tokens += item.num_tokens;
    }
    for (int64_t i = 0; i < num_running; ++i) {
      ASSERT_TRUE(!running_[i].decoding || seen[i]) << "a decode was left out";
    }
    for (int64_t i = 0; i < plan.num_admitted; ++i) {
      ASSERT_TRUE(seen[num_running + i]) << "admitted without work";
      blocks += waiting_[i].blocks;
    }
    ASSERT_LE(tokens, scheduler_.budget().max_batch_tokens);
    ASSERT_LE(num_running + plan.num_admitted, scheduler_.budget().max_running);
    ASSERT_LE(blocks, free_);
  }

  Scheduler scheduler_;
  int64_t free_;
  std::deque<Job> waiting_;
  std::vector<Job> running_;
  std::vector<int64_t> admitted_;
};

TEST(SchedulerTest, EveryRequestEndsWithinBudgetAndBlocksInOrderOfArrival) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const int64_t max_running = 1 + random() % 6;
    const StepBudget budget = {
        .max_batch_tokens = max_running + static_cast<int64_t>(random() % 20),
        .max_running = max_running};
    const int64_t total_blocks = 1 + random() % 12;
    Simulation simulation(budget, total_blocks);
    int64_t submitted = 0, most_steps = 0;
    while (submitted < 30 || simulation.Busy()) {
      if (submitted < 30 && (random() % 3 == 0 || !simulation.Busy())) {
        const int64_t prompt = 1 + random() % 60, answer = 1 + random() % 20;
        // Alone and one token a step a request would take this long: none starves.
        most_steps += prompt + answer;
        simulation.Submit(submitted++, prompt, answer, 1 + random() % total_blocks);
      }
      simulation.Step();
      if (HasFatalFailure()) return;
      ASSERT_GE(most_steps--, 0) << "seed " << seed;
    }
    EXPECT_EQ(simulation.free_blocks(), total_blocks);
    for (int64_t i = 0; i < 30; ++i) ASSERT_EQ(simulation.admitted()[i], i);
  }
}

}  // namespace
}  // namespace rankine
