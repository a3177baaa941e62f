#include "runtime/engine/token_stream.h"

#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/engine/generate.h"

namespace rankine {
namespace {

TEST(TokenStreamTest, GivesWhatIsPendingOnce) {
  TokenStream stream(42, 3, {});
  EXPECT_EQ(stream.id(), 42u);
  TokenEvents events;
  EXPECT_FALSE(stream.Poll(&events));
  stream.Publish(7);
  stream.Publish(8);
  ASSERT_TRUE(stream.Poll(&events));
  EXPECT_EQ(events.token_ids, (std::vector<int32_t>{7, 8}));
  EXPECT_EQ(events.finish_reason, FinishReason::kNone);
  EXPECT_FALSE(stream.Poll(&events));
  stream.Publish(9);
  stream.Finish(FinishReason::kError, "because",
                {.queue_us = 1, .first_token_us = 2, .total_us = 3});
  stream.Wait();
  ASSERT_TRUE(stream.Poll(&events));
  EXPECT_EQ(events.token_ids, (std::vector<int32_t>{9}));
  EXPECT_EQ(events.finish_reason, FinishReason::kError);
  EXPECT_EQ(events.error, "because");
  EXPECT_EQ(events.timing.total_us, 3);
  EXPECT_FALSE(stream.Poll(&events));
}

TEST(TokenStreamTest, EndsWithoutTokens) {
  TokenStream stream(1, 0, {});
  stream.Finish(FinishReason::kCancelled, "", {});
  TokenEvents events;
  ASSERT_TRUE(stream.Poll(&events));
  EXPECT_TRUE(events.token_ids.empty());
  EXPECT_EQ(events.finish_reason, FinishReason::kCancelled);
}

TEST(TokenStreamTest, NotifiesAfterEachPublishWithSomethingToTake) {
  int calls = 0;
  TokenStream* self = nullptr;
  std::vector<int32_t> taken;
  TokenStream stream(1, 4, [&] {
    ++calls;
    TokenEvents events;
    ASSERT_TRUE(self->Poll(&events));
    taken.insert(taken.end(), events.token_ids.begin(), events.token_ids.end());
  });
  self = &stream;
  stream.Publish(3);
  stream.Publish(4);
  stream.Finish(FinishReason::kLength, "", {});
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(taken, (std::vector<int32_t>{3, 4}));
}

// Under TSan this is the proof that producer and consumer race on nothing; everywhere it is that no
// wake-up is lost: a lost one hangs the test.
TEST(TokenStreamTest, TwoThreadsLoseNothing) {
  constexpr int kTokens = 20000;
  for (int round = 0; round < 5; ++round) {
    TokenStream stream(1, kTokens, {});
    std::thread producer([&] {
      for (int i = 0; i < kTokens; ++i) {
        stream.Publish(i);
        if (i % 64 == 0) std::this_thread::yield();
      }
      stream.Finish(FinishReason::kLength, "", {.total_us = 5});
    });
    const TokenEvents events = TakeAll(stream);
    producer.join();
    ASSERT_EQ(events.token_ids.size(), static_cast<size_t>(kTokens));
    for (int i = 0; i < kTokens; ++i) ASSERT_EQ(events.token_ids[i], i);
    EXPECT_EQ(events.timing.total_us, 5);
  }
}

TEST(TokenStreamDeathTest, MoreTokensThanAdmittedIsABrokenInvariant) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  TokenStream stream(1, 1, {});
  stream.Publish(1);
  EXPECT_DEATH(stream.Publish(2), "check failed");
}

TEST(FinishReasonTest, NamesAreTheOnesOnTheWire) {
  EXPECT_STREQ(Name(FinishReason::kNone), "");
  EXPECT_STREQ(Name(FinishReason::kStopToken), "stop_token");
  EXPECT_STREQ(Name(FinishReason::kStopString), "stop_string");
  EXPECT_STREQ(Name(FinishReason::kLength), "length");
  EXPECT_STREQ(Name(FinishReason::kCancelled), "cancelled");
  EXPECT_STREQ(Name(FinishReason::kError), "error");
}

}  // namespace
}  // namespace rankine
