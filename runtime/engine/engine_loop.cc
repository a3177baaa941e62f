#include "runtime/engine/engine_loop.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace rankine {
namespace {

int64_t MicrosBetween(Sequence::Clock::time_point begin, Sequence::Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin).count();
}

RequestTiming TimingOf(const Sequence& sequence) {
  RequestTiming timing;
  timing.total_us = MicrosBetween(sequence.submitted, Sequence::Clock::now());
  if (sequence.cached_tokens > 0) {
    timing.queue_us = MicrosBetween(sequence.submitted, sequence.started);
  }
  if (sequence.new_tokens() > 0) {
    timing.first_token_us = MicrosBetween(sequence.submitted, sequence.first_token);
  }
  return timing;
}

}  // namespace

EngineLoop::EngineLoop(const Model& model, const StepBudget& budget, KvCache cache,
                       std::unique_ptr<Workspace> workspace, Inbox* inbox)
    : model_(model),
      scheduler_(budget),
      cache_(std::move(cache)),
      pool_(cache_.options().num_blocks),
      workspace_(std::move(workspace)),
      sampler_(model.shape().vocab_size),
      inbox_(inbox) {
  running_.reserve(budget.max_running);
  running_view_.reserve(budget.max_running);
  waiting_view_.reserve(budget.max_running);
  plan_.Reserve(budget.max_running);
  batch_.Reserve(budget.max_batch_tokens, budget.max_running, budget.max_running);
  sampled_.reserve(budget.max_running);
  sample_rows_.reserve(budget.max_running);
  token_ids_.reserve(budget.max_running);
  stats_.kv_blocks_total = pool_.num_blocks();
  stats_.kv_blocks_free = pool_.num_free();
  stats_.kv_cache_bytes = cache_.bytes();
  inbox_->Report(stats_);
}

void EngineLoop::Run() {
  while (true) {
    TakeMessages();
    if (messages_.stop) break;
    // Cancelled requests end now, not after another step.
    if (!ended_.empty()) FinishEnded();
    if (!running_.empty() || !waiting_.empty()) Step();
    FinishEnded();
  }
  CancelAll();
  FinishEnded();
}

void EngineLoop::TakeMessages() {
  inbox_->Take(running_.empty() && waiting_.empty(), &messages_);
  for (std::unique_ptr<Sequence>& arrival : messages_.arrivals) {
    waiting_.push_back(std::move(arrival));
  }
  messages_.arrivals.clear();
  for (const CancelMessage& cancel : messages_.cancels) Cancel(cancel);
  messages_.cancels.clear();
}

void EngineLoop::Cancel(const CancelMessage& message) {
  auto has_id = [&](const std::unique_ptr<Sequence>& s) { return s->id == message.id; };
  if (auto it = std::find_if(running_.begin(), running_.end(), has_id); it != running_.end()) {
    std::unique_ptr<Sequence> sequence = std::move(*it);
    running_.erase(it);
    End(std::move(sequence), message.reason);
    return;
  }
  if (auto it = std::find_if(waiting_.begin(), waiting_.end(), has_id); it != waiting_.end()) {
    std::unique_ptr<Sequence> sequence = std::move(*it);
    waiting_.erase(it);
    inbox_->LeftQueue(sequence->prompt_tokens);
    End(std::move(sequence), message.reason);
  }
}

void EngineLoop::Step() {
  Plan();
  Admit();
  BuildBatch();
  const std::string error = Compute();
  ++stats_.steps;
  if (!error.empty()) {
    FailStep(error);
    return;
  }
  Advance();
}

void EngineLoop::Plan() {
  running_view_.clear();
  for (const auto& s : running_) {
    running_view_.push_back({.pending_tokens = s->pending_tokens(), .decoding = s->decoding()});
  }
  // No step admits more than may run.
  const int64_t most = std::min<int64_t>(waiting_.size(), scheduler_.budget().max_running);
  waiting_view_.clear();
  for (int64_t i = 0; i < most; ++i) {
    waiting_view_.push_back(
        {.prompt_tokens = waiting_[i]->prompt_tokens, .blocks = waiting_[i]->blocks_needed});
  }
  scheduler_.Plan(running_view_, waiting_view_, pool_.num_free(), &plan_);
  // Submit refuses what could never fit, so something can always go on.
  RK_CHECK(!plan_.items.empty());
}

void EngineLoop::Admit() {
  for (int64_t i = 0; i < plan_.num_admitted; ++i) {
    std::unique_ptr<Sequence> sequence = std::move(waiting_.front());
    waiting_.pop_front();
    RK_CHECK(pool_.Allocate(sequence->blocks_needed, &sequence->block_ids));
    sequence->started = Sequence::Clock::now();
    inbox_->LeftQueue(sequence->prompt_tokens);
    running_.push_back(std::move(sequence));
  }
}

void EngineLoop::BuildBatch() {
  batch_.Clear();
  sampled_.clear();
  sample_rows_.clear();
  for (const StepPlan::Item& item : plan_.items) {
    Sequence& s = *running_[item.sequence];
    batch_.AddSequence(s.tokens.data() + s.cached_tokens, item.num_tokens, s.cached_tokens,
                       s.block_ids.data());
    s.cached_tokens += item.num_tokens;
    s.cache_is_clean = false;
    if (s.pending_tokens() > 0) continue;
    batch_.logit_rows.push_back(static_cast<int32_t>(batch_.num_tokens() - 1));
    sampled_.push_back(item.sequence);
    sample_rows_.push_back({.params = s.sampling, .index = s.new_tokens()});
  }
}

std::string EngineLoop::Compute() {
  try {
    const MatrixView logits = Forward(model_, batch_, &cache_, *workspace_);
    model_.device().Sync();
    if (!sample_rows_.empty()) {
      sampler_.Sample(logits, sample_rows_, &token_ids_, model_.device().stream());
    }
  } catch (const std::exception& e) {
    return absl::StrCat("the engine's step failed: ", e.what());
  } catch (...) {
    return "the engine's step failed";
  }
  return "";
}

void EngineLoop::Advance() {
  for (size_t i = 0; i < sampled_.size(); ++i) Accept(running_[sampled_[i]], token_ids_[i]);
  // Those that ended left a hole.
  running_.erase(std::remove(running_.begin(), running_.end(), nullptr), running_.end());
}

void EngineLoop::Accept(std::unique_ptr<Sequence>& sequence, int32_t token) {
  Sequence& s = *sequence;
  if (token == kInvalidLogits) {
    End(std::move(sequence), FinishReason::kError,
        absl::StrCat("the model gave NaN or infinite logits after ", s.num_tokens(),
                     " tokens; its weights or its --compute and --kv-dtype settings are at fault"));
    return;
  }
  s.cache_is_clean = true;
  if (s.new_tokens() == 0) s.first_token = Sequence::Clock::now();
  s.tokens.push_back(token);
  ++stats_.tokens_generated;
  s.stream->Publish(token);
  if (std::binary_search(s.stop_ids.begin(), s.stop_ids.end(), token)) {
    End(std::move(sequence), FinishReason::kStopToken);
  } else if (s.new_tokens() == s.max_new_tokens) {
    End(std::move(sequence), FinishReason::kLength);
  }
}

void EngineLoop::FailStep(const std::string& error) {
  stats_.healthy = false;
  for (const StepPlan::Item& item : plan_.items) {
    End(std::move(running_[item.sequence]), FinishReason::kError, error);
  }
  running_.erase(std::remove(running_.begin(), running_.end(), nullptr), running_.end());
}

void EngineLoop::CancelAll() {
  for (auto& sequence : running_) End(std::move(sequence), FinishReason::kCancelled);
  running_.clear();
  for (auto& sequence : waiting_) {
    inbox_->LeftQueue(sequence->prompt_tokens);
    End(std::move(sequence), FinishReason::kCancelled);
  }
  waiting_.clear();
}

void EngineLoop::End(std::unique_ptr<Sequence> sequence, FinishReason reason, std::string error) {
  if (!sequence->cache_is_clean) {
    // Some of what was written may be NaN: the next owner must not meet it. Reserved blocks that
    // were never written need nothing.
    std::vector<int32_t> written(
        sequence->block_ids.begin(),
        sequence->block_ids.begin() + CeilDiv(sequence->cached_tokens, kKvBlockTokens));
    cache_.ZeroBlocks(model_.device(), written);
  }
  pool_.Free(&sequence->block_ids);
  ended_.push_back({std::move(sequence), reason, std::move(error)});
}

void EngineLoop::FinishEnded() {
  stats_.kv_blocks_free = pool_.num_free();
  stats_.running = static_cast<int64_t>(running_.size());
  inbox_->Report(stats_);
  if (ended_.empty()) return;
  for (Ending& ending : ended_) {
    ending.sequence->stream->Finish(ending.reason, std::move(ending.error),
                                    TimingOf(*ending.sequence));
  }
  const int64_t count = static_cast<int64_t>(ended_.size());
  ended_.clear();
  inbox_->Ended(count);
}

}  // namespace rankine
