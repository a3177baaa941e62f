// How requests end early, wait, and are refused. A gate holds the model's passes, so that each
// phase is met exactly and nothing depends on time.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/generate.h"
#include "tests/testing/fake_model.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kForever = int64_t{1} << 40;
constexpr int64_t kBlocks = 16;

class EngineLifecycleTest : public ::testing::Test {
 protected:
  EngineLifecycleTest() {
    model_.before_pass = [this](const BatchInput& batch) {
      last_tokens_ = batch.num_tokens();
      for (const AttentionSequence& sequence : batch.sequences) {
        if (sequence.first_position == 0) starts_.push_back(batch.token_ids[sequence.first_row]);
      }
      gate_.Pass();
    };
    options_.kv_dtype = DType::kF32;
    options_.kv_cache_tokens = kBlocks * kKvBlockTokens;
    options_.max_batch_tokens = 32;
    options_.max_running = 4;
  }
  // The gate must not hold the engine's thread when the engine is destroyed.
  ~EngineLifecycleTest() override { gate_.Open(); }

  void Start() {
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Start(model_, options_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
  }

  std::shared_ptr<TokenStream> Submit(int64_t prompt_tokens, int64_t max_new_tokens,
                                      int32_t token = 3) {
    auto stream = engine_->Submit(
        {.prompt = std::vector<int32_t>(prompt_tokens, token), .max_new_tokens = max_new_tokens});
    EXPECT_TRUE(stream.ok()) << stream.status();
    return stream.ok() ? *stream : nullptr;
  }

  // Lets the pass that the engine stands in go on, and waits until it stands in the next.
  void Step() {
    gate_.AllowUntil(pass_);
    gate_.WaitForPass(++pass_);
  }

  // What the stream holds now must be its end.
  TokenEvents Ended(TokenStream& stream) {
    TokenEvents events;
    EXPECT_TRUE(stream.Poll(&events));
    EXPECT_NE(events.finish_reason, FinishReason::kNone);
    return events;
  }

  FakeModel model_;
  Gate gate_;
  EngineOptions options_;
  int64_t pass_ = 1;
  int64_t last_tokens_ = 0;      // of the pass; read while the engine stands at the gate
  std::vector<int32_t> starts_;  // first tokens of the sequences that began; read when idle
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineLifecycleTest, CancelWhileDecodingFreesItsBlocksBeforeTheNextPass) {
  Start();
  auto stays = Submit(2, 40);
  auto goes = Submit(2, 40);
  gate_.WaitForPass(1);
  Step();
  Step();
  const int64_t both = engine_->stats().kv_blocks_free;
  EXPECT_EQ(both, kBlocks - 4);
  engine_->Cancel(goes->id());
  Step();
  EXPECT_EQ(engine_->stats().kv_blocks_free, kBlocks - 2);
  EXPECT_EQ(engine_->stats().running, 1);
  const TokenEvents events = Ended(*goes);
  EXPECT_EQ(events.finish_reason, FinishReason::kCancelled);
  EXPECT_FALSE(events.token_ids.empty());
  gate_.Open();
  EXPECT_EQ(TakeAll(*stays).token_ids, model_.GreedyAnswer({3, 3}, 40));
}

TEST_F(EngineLifecycleTest, CancelInPrefillFreesItsBlocksBeforeTheNextPass) {
  Start();
  auto stays = Submit(2, 40);
  auto goes = Submit(200, 10);
  gate_.WaitForPass(1);
  // Twice: the first pass may have begun before the second request came, and what the engine says
  // of itself is as of the end of a pass.
  Step();
  Step();
  EXPECT_EQ(last_tokens_, 32) << "one decode and a chunk of the prompt";
  EXPECT_EQ(engine_->stats().kv_blocks_free, kBlocks - 2 - 7);
  engine_->Cancel(goes->id());
  Step();
  EXPECT_EQ(last_tokens_, 1);
  EXPECT_EQ(engine_->stats().kv_blocks_free, kBlocks - 2);
  const TokenEvents events = Ended(*goes);
  EXPECT_EQ(events.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(events.token_ids.empty());
  EXPECT_EQ(events.timing.first_token_us, 0);
}

TEST_F(EngineLifecycleTest, CancelInTheQueueEndsIt) {
  Start();
  auto runs = Submit(200, 40);
  gate_.WaitForPass(1);
  auto waits = Submit(250, 6);
  auto goes = Submit(250, 6);  // 8 blocks each: only one of the two fits
  Step();
  EXPECT_EQ(engine_->stats().waiting, 2);
  engine_->Cancel(waits->id());
  engine_->Cancel(goes->id(), FinishReason::kStopString);
  Step();
  EXPECT_EQ(engine_->stats().waiting, 0);
  EXPECT_EQ(Ended(*waits).finish_reason, FinishReason::kCancelled);
  const TokenEvents events = Ended(*goes);
  EXPECT_EQ(events.finish_reason, FinishReason::kStopString);
  EXPECT_EQ(events.timing.queue_us, 0);
}

TEST_F(EngineLifecycleTest, CancelOfTheLastRequestMakesTheEngineIdle) {
  Start();
  auto stream = Submit(2, 200);
  gate_.WaitForPass(1);
  EXPECT_FALSE(engine_->Idle());
  EXPECT_FALSE(engine_->WaitIdle(0));
  engine_->Cancel(stream->id());
  gate_.AllowUntil(1);
  ASSERT_TRUE(engine_->WaitIdle(kForever));
  EXPECT_EQ(engine_->stats().kv_blocks_free, kBlocks);
  EXPECT_EQ(Ended(*stream).finish_reason, FinishReason::kCancelled);
  // Unknown and finished ids are ignored, also while others run.
  engine_->Cancel(stream->id());
  engine_->Cancel(12345);
  auto next = Submit(2, 3);
  gate_.WaitForPass(2);
  engine_->Cancel(stream->id());
  engine_->Cancel(12345);
  gate_.Open();
  EXPECT_EQ(TakeAll(*next).finish_reason, FinishReason::kLength);
}

// A prompt cancelled before its logits were seen may have left NaN in its blocks.
TEST_F(EngineLifecycleTest, BlocksOfAPoisonedPromptThatWasCancelledAreClean) {
  FakeModel model({.nan_token = 96});
  model.before_pass = model_.before_pass;
  options_.kv_cache_tokens = 4 * kKvBlockTokens;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Start(model, options_);
  ASSERT_TRUE(engine.ok()) << engine.status();
  auto poisoned =
      *(*engine)->Submit({.prompt = std::vector<int32_t>(100, 96), .max_new_tokens = 9});
  gate_.WaitForPass(1);
  Step();
  (*engine)->Cancel(poisoned->id());
  gate_.Open();
  const std::vector<int32_t> prompt(100, 3);
  auto events = Generate(**engine, {.prompt = prompt, .max_new_tokens = 1});
  EXPECT_EQ(events->finish_reason, FinishReason::kLength) << events->error;
  EXPECT_EQ(events->token_ids, model.GreedyAnswer(prompt, 1));
}

TEST_F(EngineLifecycleTest, AFullQueueRefusesAtOnce) {
  options_.max_queued = 2;
  Start();
  auto runs = Submit(1, 5);
  gate_.WaitForPass(1);
  auto first = Submit(1, 5);
  auto second = Submit(1, 5);
  absl::Status status = engine_->Submit({.prompt = {1}, .max_new_tokens = 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 requests"));
  gate_.Open();
  for (auto& stream : {runs, first, second}) {
    EXPECT_EQ(TakeAll(*stream).finish_reason, FinishReason::kLength);
  }
  EXPECT_TRUE(Generate(*engine_, {.prompt = {1}, .max_new_tokens = 1}).ok());
}

TEST_F(EngineLifecycleTest, AQueueFullOfTokensRefusesAtOnce) {
  options_.max_queued_tokens = 100;
  Start();
  auto runs = Submit(1, 5);
  gate_.WaitForPass(1);
  auto large = Submit(150, 5);  // longer than the bound: gets its turn alone
  absl::Status status = engine_->Submit({.prompt = {1}, .max_new_tokens = 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("150 tokens"));
  gate_.Open();
  EXPECT_EQ(TakeAll(*large).finish_reason, FinishReason::kLength);
}

TEST_F(EngineLifecycleTest, DrainFinishesWhatWasAdmittedAndTakesNothingNew) {
  Start();
  auto runs = Submit(2, 20);
  gate_.WaitForPass(1);
  auto queued = Submit(3, 20);
  engine_->Drain();
  absl::Status status = engine_->Submit({.prompt = {1}, .max_new_tokens = 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  gate_.Open();
  EXPECT_EQ(TakeAll(*runs).token_ids, model_.GreedyAnswer({3, 3}, 20));
  EXPECT_EQ(TakeAll(*queued).token_ids, model_.GreedyAnswer({3, 3, 3}, 20));
  EXPECT_TRUE(engine_->WaitIdle(kForever));
}

TEST_F(EngineLifecycleTest, DestructionCancelsInEveryPhase) {
  Start();
  auto decodes = Submit(2, 200);
  gate_.WaitForPass(1);
  auto prefills = Submit(200, 10);
  auto waits = Submit(200, 50);
  Step();
  Step();
  auto unseen = Submit(1, 1);
  std::thread destroyer([this] { engine_.reset(); });
  gate_.Open();
  destroyer.join();
  for (auto& stream : {decodes, prefills, waits, unseen}) {
    const TokenEvents events = TakeAll(*stream);
    // The gate was open for a moment before the stop was seen: short answers may have ended.
    EXPECT_NE(events.finish_reason, FinishReason::kNone);
    EXPECT_NE(events.finish_reason, FinishReason::kError);
  }
}

// Admission in order of arrival: a large request is not overtaken by small ones behind it.
TEST_F(EngineLifecycleTest, ALargeRequestIsNotOvertaken) {
  Start();
  auto runs = Submit(200, 50, 10);  // 8 blocks
  gate_.WaitForPass(1);
  auto large = Submit(250, 6, 20);  // the other 8
  auto larger = Submit(250, 6, 30);
  auto small = Submit(1, 1, 40);
  Step();
  EXPECT_EQ(engine_->stats().waiting, 3) << "the budget of tokens went to the first prompt";
  gate_.Open();
  for (auto& stream : {runs, large, larger, small}) {
    EXPECT_EQ(TakeAll(*stream).finish_reason, FinishReason::kLength);
  }
  ASSERT_TRUE(engine_->WaitIdle(kForever));
  EXPECT_EQ(starts_, (std::vector<int32_t>{10, 20, 30, 40}));
}

TEST_F(EngineLifecycleTest, NotifyMayTakeAndMayCancelFromAnotherThread) {
  Start();
  gate_.Open();
  Mutex mutex;
  CondVar changed;
  int notified = 0;
  auto stream = engine_->Submit({.prompt = {1}, .max_new_tokens = 200}, [&] {
    MutexLock lock(mutex);
    ++notified;
    changed.notify_one();
  });
  {
    MutexLock lock(mutex);
    while (notified < 3) changed.wait(mutex);
  }
  engine_->Cancel((*stream)->id());
  const TokenEvents events = TakeAll(**stream);
  EXPECT_GE(events.token_ids.size(), 2u);
  const std::vector<int32_t> expected = model_.GreedyAnswer({1}, events.token_ids.size());
  EXPECT_EQ(events.token_ids, expected);
  // The end is announced before the engine is idle, so nothing calls `changed` after this.
  ASSERT_TRUE(engine_->WaitIdle(kForever));
}

TEST_F(EngineLifecycleTest, SubmittersAndCancellersFromManyThreads) {
  Start();
  gate_.Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 30; ++i) {
        const std::vector<int32_t> prompt(1 + (7 * i + t) % 50, t);
        auto stream = engine_->Submit({.prompt = prompt, .max_new_tokens = 20});
        ASSERT_TRUE(stream.ok()) << stream.status();
        if (i % 3 == 0) engine_->Cancel((*stream)->id());
        const TokenEvents events = TakeAll(**stream);
        std::vector<int32_t> expected = model_.GreedyAnswer(prompt, 20);
        if (events.finish_reason == FinishReason::kCancelled) {
          expected.resize(events.token_ids.size());
        }
        ASSERT_EQ(events.token_ids, expected);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(engine_->WaitIdle(kForever));
  EXPECT_EQ(engine_->stats().kv_blocks_free, kBlocks);
}

}  // namespace
}  // namespace rankine
