// The engine's thread: drain the inbox, schedule, forward, sample, publish. Everything here belongs
// to that thread; the rest of the program reaches it through the inbox and the streams.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "runtime/batch_input.h"
#include "runtime/cache/block_pool.h"
#include "runtime/cache/kv_cache.h"
#include "runtime/engine/inbox.h"
#include "runtime/engine/sampler.h"
#include "runtime/engine/sequence.h"
#include "runtime/model.h"
#include "runtime/sched/scheduler.h"

namespace rankine {

class EngineLoop {
 public:
  // `model` and `inbox` outlive the loop. The workspace holds budget.max_batch_tokens rows and
  // budget.max_running rows of logits.
  EngineLoop(const Model& model, const StepBudget& budget, KvCache cache,
             std::unique_ptr<Workspace> workspace, Inbox* inbox);

  // Returns when the inbox says stop; what is unfinished then ends as kCancelled.
  void Run();

 private:
  struct Ending {
    std::unique_ptr<Sequence> sequence;
    FinishReason reason = FinishReason::kNone;
    std::string error;
  };

  void TakeMessages();
  void Cancel(const CancelMessage& message);
  void Step();
  void Plan();
  void Admit();
  void BuildBatch();
  // Forward and sampling; an error message when the device or the model threw.
  std::string Compute();
  void Advance();
  // Gives the sequence's next token to its client; ends the sequence where that was its last.
  void Accept(std::unique_ptr<Sequence>& sequence, int32_t token);
  void FailStep(const std::string& error);
  void CancelAll();
  // Frees the blocks; the stream is told by FinishEnded.
  void End(std::unique_ptr<Sequence> sequence, FinishReason reason, std::string error = {});
  // Reports the figures, so that a client that sees the end also sees the blocks free; then
  // finishes the streams of those that ended.
  void FinishEnded();

  const Model& model_;
  const Scheduler scheduler_;
  KvCache cache_;
  BlockPool pool_;
  std::unique_ptr<Workspace> workspace_;
  Sampler sampler_;
  Inbox* inbox_;
  Inbox::Messages messages_;
  std::deque<std::unique_ptr<Sequence>> waiting_;   // in order of arrival
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of arrival
  std::vector<Ending> ended_;
  EngineStats stats_;
  // Of one step; kept for their memory.
  std::vector<RunningSequence> running_view_;
  std::vector<WaitingSequence> waiting_view_;
  StepPlan plan_;
  BatchInput batch_;
  std::vector<int64_t> sampled_;  // index in running_ of each row of logits
  std::vector<SampleRow> sample_rows_;
  std::vector<int32_t> token_ids_;
};

}  // namespace rankine
