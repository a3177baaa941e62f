#include "models/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/models/checkpoint/sample_matrices.h"
#include "tests/testing/tiny_model.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto matrices = ParseManifest(text, "factorization.json");
  return matrices.ok() ? "ok" : std::string(matrices.status().message());
}

// A valid manifest with one U S V matrix "m" of [6, 4], with one piece of its text replaced.
std::string Svd(const std::string& from = "", const std::string& to = "") {
  const FactoredMatrix matrix = SvdMatrix("m", 6, 4, 2, Encoding::Float(DType::kBF16));
  std::string text = SerializeManifest({&matrix, 1});
  if (from.empty()) return text;
  EXPECT_THAT(text, HasSubstr(from));
  const size_t at = text.find(from);
  return text.replace(at, from.size(), to);
}

TEST(Manifest, EveryFormSurvivesARoundTrip) {
  for (const FactoredMatrix& matrix : testing::SampleMatrices()) {
    const std::string text = SerializeManifest({&matrix, 1});
    const auto parsed = ParseManifest(text, "f");
    ASSERT_TRUE(parsed.ok()) << matrix.name << ": " << parsed.status() << "\n" << text;
    ASSERT_EQ(parsed->size(), 1u);
    EXPECT_EQ(SerializeManifest(*parsed), text);
    EXPECT_EQ((*parsed)[0].NumParameters(), matrix.NumParameters());
    ASSERT_EQ((*parsed)[0].terms.size(), matrix.terms.size());
    for (size_t t = 0; t < matrix.terms.size(); ++t) {
      for (size_t c = 0; c < matrix.terms[t].cores.size(); ++c) {
        EXPECT_EQ((*parsed)[0].terms[t].cores[c].encoding, matrix.terms[t].cores[c].encoding);
      }
    }
    EXPECT_EQ((*parsed)[0].input_transforms.size(), matrix.input_transforms.size());
    EXPECT_EQ((*parsed)[0].sorted_leg, matrix.sorted_leg);
    EXPECT_EQ((*parsed)[0].provenance.method, matrix.provenance.method);
    EXPECT_EQ((*parsed)[0].provenance.weighted_error, matrix.provenance.weighted_error);
  }
}

TEST(Manifest, RefusesOtherVersions) {
  EXPECT_THAT(ErrorOf(Svd("\"format_version\": 1", "\"format_version\": 2")),
              AllOf(HasSubstr("format_version"), HasSubstr("version 2 is not supported")));
  // A later version may add keys: the version is what the message must be about.
  EXPECT_THAT(ErrorOf(R"({"format_version":7,"news":[]})"), HasSubstr("version 7"));
  EXPECT_THAT(ErrorOf(R"({"matrices":[]})"), HasSubstr("\"format_version\" is missing"));
  EXPECT_THAT(ErrorOf(R"({"format_version":"1","matrices":[]})"), HasSubstr("format_version"));
}

TEST(Manifest, RefusesUnknownKeysButNotComments) {
  EXPECT_EQ(ErrorOf(Svd("\"name\": \"m\"", R"("comment": [1], "x-tool": {"a": 1}, "name": "m")")),
            "ok");
  EXPECT_THAT(
      ErrorOf(Svd("\"name\": \"m\"", R"("scale": 2, "name": "m")")),
      AllOf(HasSubstr("matrices[0].scale"), HasSubstr("unknown key"), HasSubstr("(matrix m)")));
  EXPECT_THAT(ErrorOf(R"({"format_version":1,"matrices":[],"alpha":1})"),
              HasSubstr("alpha: unknown key"));
  EXPECT_THAT(ErrorOf(Svd("\"extent\":6", "\"extent\":6,\"stride\":2")),
              HasSubstr("stride: unknown key"));
}

TEST(Manifest, RefusesReservedKeys) {
  for (const std::string key : {"experts", "shards"}) {
    EXPECT_THAT(ErrorOf(Svd("\"name\": \"m\"", absl::StrCat("\"", key, "\": [], \"name\": \"m\""))),
                AllOf(HasSubstr(key), HasSubstr("reserved, not supported by this version")));
  }
}

TEST(Manifest, RefusesUnknownEncodingsAndRoles) {
  EXPECT_THAT(ErrorOf(Svd("\"kind\":\"float\"", "\"kind\":\"int3\"")),
              AllOf(HasSubstr("encoding.kind"), HasSubstr("\"int3\""), HasSubstr("affine"),
                    HasSubstr("matrix m")));
  EXPECT_THAT(ErrorOf(Svd("\"dtype\":\"bf16\"", "\"dtype\":\"f8\"")),
              HasSubstr("\"f8\" is unknown"));
  EXPECT_THAT(ErrorOf(Svd("\"values\":\"m.U\"", "\"zeros\":\"m.U\"")),
              AllOf(HasSubstr("tensors.zeros"), HasSubstr("unknown role")));
  const std::string affine =
      R"({"kind":"affine","bits":4,"group":32,"group_leg":"r","scale":"f16","offset":"none"})";
  const std::string plain = R"({"kind":"float","dtype":"bf16"})";
  EXPECT_EQ(ErrorOf(Svd(plain, affine)), "ok");
  const auto with = [&](const char* from, const char* to) {
    return ErrorOf(Svd(plain, absl::StrReplaceAll(affine, {{from, to}})));
  };
  EXPECT_THAT(with("\"bits\":4", "\"bits\":7"), HasSubstr("7 bits are unknown"));
  EXPECT_THAT(with("32", "48"), HasSubstr("group: must be 16, 32, 64, 128"));
  EXPECT_THAT(with("32", "\"col\""), HasSubstr("group: must be"));
  EXPECT_EQ(with("32", "\"row\""), "ok");
  EXPECT_THAT(with("\"r\"", "\"o\""), AllOf(HasSubstr("group_leg"), HasSubstr("last leg")));
  EXPECT_THAT(with("f16", "f8"), HasSubstr("scale: \"f8\" is unknown"));
  EXPECT_THAT(with("none", "some"), HasSubstr("offset: \"some\" is unknown"));
  EXPECT_THAT(with("\"bits\":4,", ""), HasSubstr("\"bits\" is missing"));
}

TEST(Manifest, RefusesDamage) {
  const std::string text = Svd();
  for (size_t size = 0; size + 2 < text.size(); size += 7) {
    EXPECT_NE(ErrorOf(text.substr(0, size)), "ok") << size;
  }
  EXPECT_THAT(ErrorOf(Svd("\"name\": \"m\"", "\"name\": \"\"")), HasSubstr("name: is empty"));
  EXPECT_THAT(ErrorOf(Svd("\"name\": \"m\",", "")), HasSubstr("\"name\" is missing"));
  EXPECT_THAT(ErrorOf(Svd("\"extent\":6", "\"extent\":6.5")), HasSubstr("whole number"));
  EXPECT_THAT(ErrorOf(Svd("\"extent\":6", "\"extent\":\"6\"")),
              HasSubstr("expected a whole number"));
  const FactoredMatrix twice[] = {SvdMatrix("m", 6, 4, 2, {}), SvdMatrix("m", 6, 4, 2, {})};
  EXPECT_THAT(ErrorOf(SerializeManifest(twice)), HasSubstr("matrix m is listed twice"));
}

}  // namespace
}  // namespace rankine
