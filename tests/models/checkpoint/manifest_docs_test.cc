// docs/factorization.md and docs/factorization.schema.json say what the reader does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/json.h"
#include "models/checkpoint/manifest.h"
#include "models/checkpoint/manifest_names.h"
#include "models/checkpoint/validate.h"
#include "tests/models/checkpoint/sample_matrices.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

const std::string kDocs = std::string(RANKINE_SOURCE_DIR) + "/docs/factorization";

TEST(ManifestDocs, EveryExampleIsValid) {
  const std::string text = testing::ReadWholeFile(kDocs + ".md");
  int examples = 0;
  for (size_t at = 0; (at = text.find("```json\n", at)) != std::string::npos; ++examples) {
    const size_t begin = at + 8;
    at = text.find("```", begin);
    const auto matrices = ParseManifest(text.substr(begin, at - begin), "example");
    ASSERT_TRUE(matrices.ok()) << matrices.status();
    for (const FactoredMatrix& matrix : *matrices) {
      EXPECT_TRUE(ValidateNetwork(matrix).ok()) << ValidateNetwork(matrix);
    }
  }
  EXPECT_EQ(examples, 5);
}

// The keys of `value` and of all that lies in it.
void CollectKeys(const JsonValue& value, std::vector<std::string>* keys) {
  if (value.IsObject()) {
    const auto members = *value.Members();
    for (const auto& [key, member] : members) {
      keys->push_back(key);
      CollectKeys(member, keys);
    }
  } else if (value.IsArray()) {
    const auto elements = *value.Elements();
    for (const JsonValue& element : elements) CollectKeys(element, keys);
  }
}

TEST(ManifestDocs, TheSchemaKnowsEveryWordThatIsWritten) {
  const std::string schema = testing::ReadWholeFile(kDocs + ".schema.json");
  ASSERT_TRUE(JsonValue::Parse(schema, "schema").ok())
      << JsonValue::Parse(schema, "schema").status();
  const std::vector<FactoredMatrix> samples = testing::SampleMatrices();
  const auto manifest = JsonValue::Parse(SerializeManifest(samples), "manifest");
  ASSERT_TRUE(manifest.ok());
  std::vector<std::string> words;
  CollectKeys(*manifest, &words);
  for (const auto& entry : kEncodingKinds) words.push_back(entry.name);
  for (const auto& entry : kFloatDTypes) words.push_back(entry.name);
  for (const auto& entry : kScaleKinds) words.push_back(entry.name);
  for (const auto& entry : kOffsetKinds) words.push_back(entry.name);
  for (const auto& entry : kTransformKinds) words.push_back(entry.name);
  for (const char* role : kRoles) words.push_back(role);
  EXPECT_GT(words.size(), 100u);
  for (const std::string& word : words)
    EXPECT_THAT(schema, HasSubstr(absl::StrCat("\"", word, "\"")));
}

}  // namespace
}  // namespace rankine
