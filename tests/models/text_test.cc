#include "models/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "models/checkpoint/convert.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using testing::ReadWholeFile;
using testing::TempFolder;
using testing::WriteWholeFile;

TEST(TextOfAModel, AFolderWithoutATokenizerSaysSoAndKeepsItsOtherFiles) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "src", {});
  WriteWholeFile(temp / "src/LICENSE", "do what you like");
  WriteWholeFile(temp / "src/generation_config.json", R"({"eos_token_id": [2, 7], "top_k": 40})");
  auto source = OpenCheckpoint(temp / "src");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->folder(), temp / "src");
  EXPECT_TRUE(
      absl::StartsWith(TokenizerOf(**source).status().message(), "the model has no tokenizer"))
      << TokenizerOf(**source).status();
  ASSERT_TRUE(ConvertModel(**source, temp / "dst").ok());
  EXPECT_EQ(ReadWholeFile(temp / "dst/LICENSE"), "do what you like");
  EXPECT_EQ(ReadWholeFile(temp / "dst/generation_config.json"),
            ReadWholeFile(temp / "src/generation_config.json"));
}

TEST(TextOfAModel, ABrokenTokenizerIsNotCalledMissing) {
  TempFolder temp;
  testing::WriteTinyLlama(temp / "src", {});
  WriteWholeFile(temp / "src/tokenizer.json", "{");
  auto source = OpenCheckpoint(temp / "src");
  ASSERT_TRUE(source.ok()) << source.status();
  const absl::Status status = TokenizerOf(**source).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("tokenizer.json"));
}

}  // namespace
}  // namespace rankine
