#include "tools/synth/forms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "models/checkpoint/validate.h"
#include "models/encode/encoding_name.h"
#include "tools/synth/shapes.h"

namespace rankine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Encoding Parse(const std::string& text) {
  auto encoding = ParseEncoding(text);
  EXPECT_TRUE(encoding.ok()) << encoding.status();
  return encoding.value_or(Encoding{});
}

// Validates the matrix against its own tensors.
absl::Status Validate(const RandomMatrix& made) {
  static constexpr const char* kNames[] = {"F32", "F16", "BF16", "I8", "U8", "I32"};
  std::map<std::string, TensorInfo> infos;
  for (const RandomTensor& t : made.tensors) {
    infos[t.spec.name] = {.name = t.spec.name,
                          .stored_type = kNames[static_cast<int>(t.spec.dtype)],
                          .shape = t.spec.shape};
  }
  return ValidateMatrix(made.matrix, [&](const std::string& name) -> const TensorInfo* {
    const auto found = infos.find(name);
    return found == infos.end() ? nullptr : &found->second;
  });
}

RandomMatrix MustMake(const LinearSpec& linear, const FormOptions& options) {
  EXPECT_TRUE(CheckFormOptions(options).ok()) << CheckFormOptions(options);
  auto made = MakeRandomMatrix(linear, options, 1);
  EXPECT_TRUE(made.ok()) << made.status();
  if (!made.ok()) return {};
  EXPECT_TRUE(Validate(*made).ok()) << Validate(*made);
  return *std::move(made);
}

TEST(MakeRandomMatrix, EveryFormInEveryEncodingIsValid) {
  const std::vector<FormOptions> forms = {
      {.form = SynthForm::kDense},
      {.form = SynthForm::kSvd, .rank = 24},
      {.form = SynthForm::kTucker, .rank = 24},
      {.form = SynthForm::kMpo, .bond = 8, .sites = 2},
      {.form = SynthForm::kMpo, .bond = 8, .sites = 3},
      {.form = SynthForm::kMpo, .bond = 8, .sites = 4},
      {.form = SynthForm::kQlr, .rank = 24},
  };
  for (const char* name :
       {"f32", "f16", "bf16", "int2:g16", "int3:g32", "int4:g64", "int4:g32:offset", "int5:g128",
        "int6:row", "int8:g64:offset", "nf4:g64", "nf4:row", "int4:g32:k:offset", "int6:g16:k8",
        "int3:g32:f32", "int4:g32:k:offset16", "e8p"}) {
    for (FormOptions form : forms) {
      form.encoding = form.factor_encoding = Parse(name);
      // The last leg of an MPO core of these sizes is its second bond or an input leg of 8 or 4.
      if (form.sites == 4 && form.encoding.kind == EncodingKind::kE8P) continue;
      SCOPED_TRACE(std::string(name) + ", form " + std::to_string(static_cast<int>(form.form)));
      const RandomMatrix made = MustMake({"m", 144, 512, true}, form);
      EXPECT_EQ(made.matrix.bias_tensor, "m.bias");
      EXPECT_EQ(made.matrix.terms[0].cores[0].encoding, Parse(name));
    }
  }
}

TEST(MakeRandomMatrix, KeepCountsParameters) {
  for (const auto form : {SynthForm::kSvd, SynthForm::kTucker, SynthForm::kMpo}) {
    for (const double keep : {0.3, 0.5, 0.8}) {
      const RandomMatrix made = MustMake({"m", 1536, 576}, {.form = form, .keep = keep});
      const double share = static_cast<double>(made.matrix.NumParameters()) / (1536.0 * 576.0);
      EXPECT_LE(share, keep + 0.001);  // S is not counted, as in `factorize`
      EXPECT_GT(share, keep - 0.01);
      EXPECT_EQ(made.matrix.provenance.keep, keep);
    }
  }
}

TEST(MakeRandomMatrix, RanksAndBondsAreThoseAskedFor) {
  const RandomMatrix svd = MustMake({"m", 96, 64}, {.form = SynthForm::kSvd, .rank = 20});
  EXPECT_EQ(svd.matrix.NumParameters(), 20 * (96 + 64) + 20);
  EXPECT_EQ(svd.matrix.sorted_leg, "r");
  const RandomMatrix tucker = MustMake({"m", 96, 64}, {.form = SynthForm::kTucker, .rank = 20});
  EXPECT_EQ(tucker.matrix.NumParameters(), 20 * (96 + 64) + 20 * 20);
  const RandomMatrix qlr = MustMake({"m", 96, 64}, {.form = SynthForm::kQlr, .rank = 20});
  EXPECT_EQ(qlr.matrix.NumParameters(), 96 * 64 + 20 * (96 + 64));
  EXPECT_EQ(qlr.matrix.terms.size(), 2);
  const RandomMatrix mpo =
      MustMake({"m", 4096, 4096}, {.form = SynthForm::kMpo, .bond = 100, .sites = 2});
  EXPECT_EQ(mpo.matrix.NumParameters(), 2 * 64 * 64 * 100);
}

TEST(MakeRandomMatrix, MixesEncodingsOfQAndItsFactors) {
  const RandomMatrix qlr = MustMake({"m", 96, 64}, {.form = SynthForm::kQlr,
                                                    .rank = 16,
                                                    .encoding = Parse("int4:g32:offset"),
                                                    .factor_encoding = Parse("int8:row")});
  EXPECT_EQ(qlr.matrix.terms[0].cores[0].encoding, Parse("int4:g32:offset"));
  EXPECT_EQ(qlr.matrix.terms[1].cores[0].encoding, Parse("int8:row"));
  EXPECT_EQ(qlr.matrix.terms[1].cores[1].encoding, Parse("int8:row"));
}

TEST(MakeRandomMatrix, SaysWhatDoesNotFit) {
  const auto error = [](const LinearSpec& linear, const FormOptions& options) {
    return std::string(MakeRandomMatrix(linear, options, 1).status().message());
  };
  EXPECT_THAT(error({"m.q", 96, 64}, {.form = SynthForm::kSvd, .rank = 65}),
              AllOf(HasSubstr("m.q [96, 64]"), HasSubstr("rank 65"), HasSubstr("--rank")));
  EXPECT_THAT(error({"m.q", 96, 64}, {.form = SynthForm::kMpo, .bond = 500}),
              AllOf(HasSubstr("bond 500"), HasSubstr("--bond")));
  EXPECT_THAT(error({"m.q", 97, 64}, {.form = SynthForm::kMpo, .bond = 2}),
              AllOf(HasSubstr("97"), HasSubstr("--sites")));
  EXPECT_THAT(error({"m.q", 64, 12}, {.encoding = Parse("e8p")}), HasSubstr("e8p"));
}

TEST(CheckFormOptions, NamesTheFlagAtFault) {
  const auto error = [](const FormOptions& options) {
    return std::string(CheckFormOptions(options).message());
  };
  EXPECT_THAT(error({.keep = 0.5}), HasSubstr("--keep does not go with --form dense"));
  EXPECT_THAT(error({.form = SynthForm::kSvd}), HasSubstr("--keep or --rank"));
  EXPECT_THAT(error({.form = SynthForm::kSvd, .keep = 0.5, .rank = 3}), HasSubstr("either"));
  EXPECT_THAT(error({.form = SynthForm::kSvd, .keep = 1.5}), HasSubstr("--keep"));
  EXPECT_THAT(error({.form = SynthForm::kSvd, .rank = 3, .bond = 3}), HasSubstr("--bond"));
  EXPECT_THAT(error({.form = SynthForm::kMpo, .rank = 3}), HasSubstr("--rank does not go"));
  EXPECT_THAT(error({.form = SynthForm::kMpo, .bond = 3, .sites = 5}), HasSubstr("--sites"));
  EXPECT_THAT(error({.form = SynthForm::kTucker, .rank = 3, .sites = 2}), HasSubstr("--sites"));
  EXPECT_THAT(error({.form = SynthForm::kQlr}), HasSubstr("--rank"));
  EXPECT_THAT(error({.form = SynthForm::kQlr, .keep = 0.5}), HasSubstr("--keep"));
}

TEST(EvenFactors, AreAsEvenAsPossible) {
  EXPECT_THAT(EvenFactors(4096, 2), ElementsAre(64, 64));
  EXPECT_THAT(EvenFactors(4096, 3), ElementsAre(16, 16, 16));
  EXPECT_THAT(EvenFactors(11008, 2), ElementsAre(128, 86));
  EXPECT_THAT(EvenFactors(11008, 3), ElementsAre(43, 16, 16));
  EXPECT_THAT(EvenFactors(576, 4), ElementsAre(6, 6, 4, 4));
  EXPECT_THAT(EvenFactors(97, 2), IsEmpty());
  EXPECT_THAT(EvenFactors(6, 3), IsEmpty());
}

TEST(FindShape, KnowsTheModels) {
  const auto parameters = [](const char* name) {
    auto shape = FindShape(name);
    EXPECT_TRUE(shape.ok()) << shape.status();
    int64_t total = shape->config.vocab_size * shape->config.hidden_size;
    for (const LinearSpec& l : LlamaLinears(shape->config)) total += l.out * l.in;
    return static_cast<double>(total);
  };
  EXPECT_NEAR(parameters("llama-2-7b"), 6.738e9, 0.001e9);
  EXPECT_NEAR(parameters("llama-3-8b"), 8.030e9, 0.001e9);
  EXPECT_NEAR(parameters("smollm2-135m"), 134.5e6, 0.1e6);
  auto starcoder = FindShape("starcoder-15b", 2);
  ASSERT_TRUE(starcoder.ok());
  EXPECT_THAT(starcoder->note, HasSubstr("gpt_bigcode"));
  EXPECT_EQ(starcoder->config.num_layers, 2);
  EXPECT_THAT(std::string(FindShape("gpt-5").status().message()),
              AllOf(HasSubstr("gpt-5"), HasSubstr("llama-2-7b")));
}

}  // namespace
}  // namespace rankine
