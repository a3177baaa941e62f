#include "models/encode/encoding_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/models/encode/encode_testing.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

TEST(EncodingName, EveryEncodingHasANameOfItsOwnThatParsesBack) {
  std::vector<Encoding> all = testing::AllBlockEncodings();
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    all.push_back(Encoding::Float(dtype));
  std::set<std::string> names;
  for (const Encoding& encoding : all) {
    const std::string name = EncodingName(encoding);
    EXPECT_TRUE(names.insert(name).second) << name;
    const auto parsed = ParseEncoding(name);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, encoding) << name;
  }
}

TEST(EncodingName, DefaultsAndOrder) {
  const auto name_of = [](const char* text) { return EncodingName(ParseEncoding(text).value()); };
  EXPECT_EQ(name_of("int4"), "int4:g64");
  EXPECT_EQ(name_of("nf4"), "nf4:g64");
  EXPECT_EQ(name_of("int8:f16"), "int8:g64");
  EXPECT_EQ(name_of("int4:offset:k:g32"), "int4:g32:k:offset");
  EXPECT_EQ(name_of("int4:offset16:k:g32"), "int4:g32:k:offset16");
  EXPECT_EQ(name_of("int3:f32:row"), "int3:row:f32");
  const Encoding int8 = ParseEncoding("int8:g64").value();
  EXPECT_EQ(int8, (Encoding{.kind = EncodingKind::kAffine, .bits = 8, .group = 64}));
}

TEST(EncodingName, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"", "int7", "int4:g48", "int4:g32:g64", "int4:f16:f32", "bf16:g64",
                           "int4:", ":g32", "INT4", "nf4:offset", "e8p:g64", "int4:row:k",
                           "int4:offset16", "int4:offset:offset", "int4 :g64"}) {
    const auto parsed = ParseEncoding(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(parsed.status().message()),
                HasSubstr(std::string("encoding \"") + text + "\""));
  }
}

}  // namespace
}  // namespace rankine
