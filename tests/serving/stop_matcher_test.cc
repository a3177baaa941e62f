#include "serving/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

namespace rankine {
namespace {

struct Result {
  std::string text;
  bool stopped = false;
};

// The longest end of `text` that begins one of `stops`.
size_t PossibleStart(const std::vector<std::string>& stops, const std::string& text) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n <= std::min(stop.size(), text.size()); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) longest = std::max(longest, n);
    }
  }
  return longest;
}

// Feeds `pieces`; after each, checks that exactly what may begin a stop string is held back.
Result Match(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Result result;
  std::string fed;
  for (const std::string& piece : pieces) {
    fed += piece;
    if (matcher.Feed(piece, &result.text)) {
      result.stopped = true;
      return result;
    }
    EXPECT_EQ(result.text, fed.substr(0, fed.size() - PossibleStart(stops, fed)));
  }
  matcher.Flush(&result.text);
  return result;
}

// By definition: the end of a match that comes first; of those that end there, the longest.
Result Expected(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {.text = text.substr(0, end - longest), .stopped = true};
  }
  return {.text = text, .stopped = false};
}

TEST(StopMatcherTest, PassesTextThroughWithoutStops) {
  StopMatcher matcher({});
  std::string out;
  EXPECT_FALSE(matcher.Feed("abc", &out));
  EXPECT_EQ(out, "abc");
}

TEST(StopMatcherTest, FindsAStopStringAcrossPieces) {
  const Result result = Match({"\nUser:"}, {"Hello", ".\n", "Us", "er", ": and more"});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.text, "Hello.");
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBeAStart) {
  StopMatcher matcher({"aab"});
  std::string out;
  EXPECT_FALSE(matcher.Feed("xaa", &out));
  EXPECT_EQ(out, "x");
  EXPECT_FALSE(matcher.Feed("a", &out));  // "aaa": the first of them can't begin "aab" any more
  EXPECT_EQ(out, "xa");
  EXPECT_FALSE(matcher.Feed("c", &out));
  EXPECT_EQ(out, "xaaac");
}

TEST(StopMatcherTest, EmitsWhatWasHeldBackAtTheEnd) {
  const Result result = Match({"END"}, {"the E", "N"});
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.text, "the EN");
}

TEST(StopMatcherTest, TakesTheLongestOfThoseThatEndTogether) {
  EXPECT_EQ(Match({"b", "ab", "xx"}, {"1ab2"}).text, "1");
}

TEST(StopMatcherTest, IgnoresEmptyStopStrings) {
  const Result result = Match({""}, {"abc"});
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.text, "abc");
}

TEST(StopMatcherTest, EqualsTheDefinitionHoweverTheTextIsCut) {
  std::mt19937 random(1);
  const auto word = [&](size_t max_length) {
    std::string text(random() % (max_length + 1), 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0; i < 1 + random() % 3; ++i) stops.push_back("a" + word(5));
    const std::string text = word(20);
    std::vector<std::string> pieces;
    for (size_t begin = 0; begin < text.size();) {
      const size_t length = 1 + random() % 4;
      pieces.push_back(text.substr(begin, length));
      begin += length;
    }
    const Result expected = Expected(stops, text);
    const Result result = Match(stops, pieces);
    ASSERT_EQ(result.stopped, expected.stopped) << text;
    ASSERT_EQ(result.text, expected.text) << text;
    stopped += expected.stopped;
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 4950);
}

}  // namespace
}  // namespace rankine
