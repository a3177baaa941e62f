#include "tools/cli/progress.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rankine {
namespace {

std::string Contents(std::FILE* file) {
  std::string text(static_cast<size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  return text;
}

TEST(ProgressTest, FormatsTimes) {
  EXPECT_EQ(FormatDuration(0), "0s");
  EXPECT_EQ(FormatDuration(41.2), "42s");
  EXPECT_EQ(FormatDuration(185), "3m 05s");
  EXPECT_EQ(FormatDuration(7800), "2h 10m");
}

TEST(ProgressTest, DrawsALine) {
  EXPECT_EQ(ProgressLine("eval", {.fraction = 0.5, .eta_seconds = 61, .text = "layer 2"}, 10),
            "eval [#####.....]  50%  layer 2  1m 01s left");
  EXPECT_EQ(ProgressLine("eval", {.fraction = 1, .eta_seconds = 3, .text = "done"}, 4),
            "eval [####] 100%  done");
}

TEST(ProgressTest, ALogGetsALineForEachTenth) {
  std::FILE* file = std::tmpfile();
  {
    ProgressBar bar("eval", file, /*is_terminal=*/false);
    const ProgressFn callback = bar.AsProgressFn();
    for (int i = 0; i <= 1000; ++i) EXPECT_TRUE(callback({.fraction = i / 1000.0, .text = "x"}));
  }
  const std::string text = Contents(file);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 10);
  EXPECT_THAT(text, ::testing::Not(::testing::HasSubstr(" 0%")));
  EXPECT_EQ(text.find('\r'), std::string::npos);
  std::fclose(file);
}

TEST(ProgressTest, ATerminalKeepsOneLine) {
  std::FILE* file = std::tmpfile();
  {
    ProgressBar bar("eval", file, /*is_terminal=*/true);
    bar.Update(0.1, "x");
    bar.Update(1, "y");
  }
  const std::string text = Contents(file);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 2);
  std::fclose(file);
}

}  // namespace
}  // namespace rankine
