#include "models/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

NamePattern Compiled(const std::string& expression) {
  return NamePattern::Compile(expression).value();
}

std::string ErrorOf(const std::string& expression) {
  return std::string(NamePattern::Compile(expression).status().message());
}

TEST(NamePattern, FindsAndMatches) {
  const NamePattern pattern = Compiled("layers\\.(2|3)\\.mlp");
  EXPECT_TRUE(pattern.IsIn("model.layers.2.mlp.up_proj"));
  EXPECT_FALSE(pattern.IsIn("model.layers.12.self_attn.q_proj"));
  EXPECT_FALSE(pattern.Matches("model.layers.2.mlp"));
  EXPECT_TRUE(pattern.Matches("layers.3.mlp"));
  EXPECT_TRUE(Compiled("").IsIn("anything"));
  EXPECT_TRUE(Compiled("^model\\..*_proj$").IsIn("model.up_proj"));
}

TEST(NamePattern, NamesWhatIsNoExpression) {
  EXPECT_THAT(ErrorOf("("),
              AllOf(HasSubstr("'(' is not a regular expression"), HasSubstr("missing )")));
  EXPECT_THAT(ErrorOf("["), HasSubstr("missing ]"));
  EXPECT_THAT(ErrorOf("(?!mlp)"), HasSubstr("(?!"));
  EXPECT_THAT(ErrorOf("\xff\n"), HasSubstr("'\\xff\\n'"));
  EXPECT_THAT(ErrorOf("((a{1000}){1000}){1000}"), HasSubstr("is not a regular expression"));
}

// A backtracking engine needs 2^n steps here, or a level of its stack for each character.
TEST(NamePattern, IsLinearInTheName) {
  EXPECT_FALSE(Compiled("(a|aa)+$").IsIn(std::string(100'000, 'a') + "b"));
  EXPECT_TRUE(Compiled("(.*\\.)?(up)").Matches(std::string(1'000'000, 'x') + ".up"));
}

}  // namespace
}  // namespace rankine
