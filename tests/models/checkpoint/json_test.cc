#include "models/checkpoint/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text, const JsonLimits& limits = {}) {
  const auto value = JsonValue::Parse(text, "file.json", limits);
  return value.ok() ? "ok" : std::string(value.status().message());
}

TEST(Json, ReadsEveryType) {
  const auto root = JsonValue::Parse(
      R"({"s":"é","i":-3,"n":1.5,"b":true,"z":null,"a":[1,[2]],"o":{"k":9223372036854775807}})",
      "f");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(*root->Get("s")->String(), "é");
  EXPECT_EQ(*root->Get("i")->Int(), -3);
  EXPECT_EQ(*root->Get("i")->Number(), -3.0);
  EXPECT_EQ(*root->Get("n")->Number(), 1.5);
  EXPECT_TRUE(*root->Get("b")->Bool());
  EXPECT_TRUE(root->Get("z")->IsNull());
  EXPECT_FALSE(root->Find("z").has_value());
  EXPECT_FALSE(root->Find("missing").has_value());
  EXPECT_EQ(root->Get("a")->Elements()->size(), 2u);
  EXPECT_EQ(*root->Get("o")->Get("k")->Int(), INT64_MAX);
  EXPECT_EQ((*root->Members())[1].first, "i");
}

TEST(Json, ValuesOutliveTheDocumentHandle) {
  std::optional<JsonValue> inner;
  {
    const auto root = JsonValue::Parse(R"({"a":{"b":"kept"}})", "f");
    inner = *root->Get("a")->Get("b");
  }
  EXPECT_EQ(*inner->String(), "kept");
}

TEST(Json, ErrorsNameFileAndKey) {
  const auto root =
      JsonValue::Parse(R"({"a":{"b":[0,"x"]},"f":1.5,"u":18446744073709551615})", "f.json");
  ASSERT_TRUE(root.ok());
  EXPECT_EQ((*root->Get("a")->Get("b")->Elements())[1].Int().status().message(),
            "f.json: a.b[1]: is a string, expected a whole number");
  EXPECT_THAT(std::string(root->Get("q").status().message()), HasSubstr("\"q\" is missing"));
  EXPECT_FALSE(root->Get("f")->Int().ok());
  EXPECT_FALSE(root->Get("u")->Int().ok());
  EXPECT_FALSE(root->Get("f")->Get("x").ok());
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "{\"a\":}", "[1,]", "nul", "{\"a\":1}x", "1 2", "'a'", "{a:1}",
                           "[NaN]", "1e999", "// c\n1"}) {
    EXPECT_THAT(ErrorOf(text), AllOf(HasSubstr("file.json"), HasSubstr("not valid JSON"))) << text;
  }
}

TEST(Json, RefusesBytesThatAreNotUtf8) {
  EXPECT_THAT(ErrorOf("\"\xff\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("\"\xc3\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("\"\xed\xa0\x80\""), HasSubstr("not valid JSON"));  // a lone surrogate
}

TEST(Json, RefusesAKeyThatOccursTwice) {
  EXPECT_THAT(ErrorOf(R"({"x":{"dup":1,"other":2,"dup":3}})"),
              AllOf(HasSubstr("\"dup\""), HasSubstr("twice")));
}

TEST(Json, LimitsDepthAndSize) {
  EXPECT_EQ(ErrorOf("[[1]]", {.max_depth = 2}), "ok");
  EXPECT_THAT(ErrorOf("[[[1]]]", {.max_depth = 2}), HasSubstr("deeper than 2"));
  EXPECT_THAT(ErrorOf(std::string(1000000, '[')), HasSubstr("deeper than"));
  EXPECT_THAT(ErrorOf("[1,2,3]", {.max_bytes = 6}), HasSubstr("over the limit of 6"));
}

TEST(Json, LimitsTheNumberOfValues) {
  EXPECT_EQ(ErrorOf(R"([1,{"a":2},[]])", {.max_values = 5}), "ok");
  EXPECT_THAT(ErrorOf(R"([1,{"a":2},[]])", {.max_values = 4}),
              HasSubstr("file.json: more than 4 values"));
  // A short text that would take gigabytes.
  std::string many = "[0";
  for (int i = 0; i < (4 << 20); ++i) many += ",0";
  EXPECT_THAT(ErrorOf(many + "]"), HasSubstr("more than 4194304 values"));
}

}  // namespace
}  // namespace rankine
