#include "models/checkpoint/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include <cmath>

#include "tests/models/checkpoint/sample_matrices.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace testing;

std::string ErrorOf(const FactoredMatrix& matrix,
                    const std::map<std::string, TensorInfo>& tensors) {
  const TensorLookup lookup = [&](const std::string& name) -> const TensorInfo* {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : &found->second;
  };
  const absl::Status status = ValidateMatrix(matrix, lookup);
  return status.ok() ? "ok" : std::string(status.message());
}

std::string ErrorOf(const FactoredMatrix& matrix) { return ErrorOf(matrix, SampleTensors()); }

LegRange& Leg(FactoredMatrix& m, size_t core, size_t leg, size_t term = 0) {
  return m.terms[term].cores[core].legs[leg];
}

TEST(ValidateMatrix, AcceptsEveryForm) {
  for (const FactoredMatrix& matrix : SampleMatrices())
    EXPECT_EQ(ErrorOf(matrix), "ok") << matrix.name;
}

TEST(ValidateMatrix, NamesEveryTensorThatIsMissingOrWrong) {
  for (const auto& [name, good] : SampleTensors()) {
    const FactoredMatrix* user = nullptr;
    const std::vector<FactoredMatrix> samples = SampleMatrices();
    for (const FactoredMatrix& matrix : samples) {
      auto tensors = SampleTensors();
      tensors.erase(name);
      if (ErrorOf(matrix, tensors) != "ok") user = &matrix;
    }
    ASSERT_NE(user, nullptr) << name << " is used by no sample";
    auto tensors = SampleTensors();
    tensors.erase(name);
    EXPECT_THAT(ErrorOf(*user, tensors),
                AllOf(HasSubstr(user->name), HasSubstr(name + " is missing")));
    tensors[name] = good;
    tensors[name].shape.back() += 1;
    EXPECT_THAT(ErrorOf(*user, tensors), AllOf(HasSubstr(user->name), HasSubstr(name)));
    tensors[name] = good;
    tensors[name].shape.push_back(1);
    EXPECT_THAT(ErrorOf(*user, tensors), HasSubstr(name + " has shape"));
    tensors[name] = good;
    tensors[name].stored_type = "F64";
    EXPECT_THAT(ErrorOf(*user, tensors), HasSubstr(name + " is F64, expected"));
  }
}

TEST(ValidateMatrix, RefusesRankZeroAndRanksAboveTheDimensions) {
  EXPECT_THAT(
      ErrorOf(SvdMatrix("svd", 12, 8, 0, {})),
      AllOf(HasSubstr("matrix svd"), HasSubstr("core \"U\""), HasSubstr("leg \"r\" has rank 0")));
  EXPECT_THAT(ErrorOf(SvdMatrix("svd", 12, 8, -3, {})), HasSubstr("extent -3"));
  EXPECT_THAT(ErrorOf(SvdMatrix("svd", 12, 8, 9, {})),
              AllOf(HasSubstr("core \"V\""), HasSubstr("rank 9, above the 8")));
  EXPECT_THAT(ErrorOf(SvdMatrix("svd", 8, 12, 9, {})),
              AllOf(HasSubstr("core \"U\""), HasSubstr("rank 9, above the 8")));
  EXPECT_TRUE(ValidateNetwork(SvdMatrix("svd", 12, 8, 8, {})).ok());
  FactoredMatrix mpo = MpoMatrix();
  Leg(mpo, 0, 2).extent = Leg(mpo, 1, 0).extent = 5;
  EXPECT_THAT(ErrorOf(mpo),
              AllOf(HasSubstr("core \"C1\""), HasSubstr("leg \"x\""), HasSubstr("above the 4")));
}

TEST(ValidateMatrix, RefusesLegsThatDoNotFit) {
  FactoredMatrix m = SvdSample();
  Leg(m, 2, 0).extent = 4;
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"V\""),
                                HasSubstr("leg \"r\" has extent 4, but 5 on core \"U\"")));
  m = SvdSample();
  Leg(m, 0, 0).extent = 11;
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"U\""),
                                HasSubstr("leg \"o\" has extent 11, but the matrix has 12")));
  m = SvdSample();
  Leg(m, 0, 1).name = "q";
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"U\""), HasSubstr("leg \"q\" dangles")));
  m = SvdSample();
  Leg(m, 0, 1).name = "o";
  EXPECT_THAT(ErrorOf(m), HasSubstr("the leg \"o\" twice"));
  m = SvdSample();
  m.terms[0].cores.erase(m.terms[0].cores.begin());
  EXPECT_THAT(ErrorOf(m), HasSubstr("no core with the outer leg \"o\""));
  m = SvdSample();
  m.terms[0].cores[1].legs.push_back({"i", 0, 8});
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("outer leg \"i\""), HasSubstr("already")));
  m = SvdSample();
  m.terms[0].cores[1].legs.clear();
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"S\""), HasSubstr("no legs")));
  m = SvdSample();
  Leg(m, 1, 0).name = "";
  EXPECT_THAT(ErrorOf(m), HasSubstr("leg without a name"));
  // The second term of Q + L R is checked as the first.
  m = QlrMatrix();
  m.terms[1].cores.pop_back();
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("term 1"), HasSubstr("\"i\"")));
}

TEST(ValidateMatrix, RefusesBadTermsAndCores) {
  FactoredMatrix m = SvdSample();
  m.terms.clear();
  EXPECT_THAT(ErrorOf(m), HasSubstr("has no terms"));
  m = SvdSample();
  m.terms.push_back({});
  EXPECT_THAT(ErrorOf(m), HasSubstr("term 1 has no cores"));
  m = SvdSample();
  m.terms[0].cores[2].name = "U";
  EXPECT_THAT(ErrorOf(m), HasSubstr("two cores named \"U\""));
  m = SvdSample();
  m.terms[0].cores[2].name = "";
  EXPECT_THAT(ErrorOf(m), HasSubstr("core without a name"));
}

TEST(ValidateMatrix, RefusesFeaturesThatTheLegsDoNotMake) {
  FactoredMatrix m = MpoMatrix();
  m.out_features = 13;
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("matrix mpo"), HasSubstr("output legs multiply to 12"),
                                HasSubstr("13")));
  m = MpoMatrix();
  m.input_legs[1].extent = int64_t{1} << 62;
  EXPECT_THAT(ErrorOf(m), HasSubstr("i2"));
  m = MpoMatrix();
  m.input_legs.clear();
  EXPECT_THAT(ErrorOf(m), HasSubstr("no input legs"));
  m = MpoMatrix();
  m.input_legs[0].name = "o1";
  EXPECT_THAT(ErrorOf(m), HasSubstr("two outer legs named \"o1\""));
  m = MpoMatrix();
  m.out_features = 0;
  EXPECT_THAT(ErrorOf(m), HasSubstr("out_features is 0"));
}

// k takes 3 of the 17 rows of an A of rank 5, which those of all need.
TEST(ValidateMatrix, ABondOfACoreSharedByRangesMayExceedTheRange) {
  FactoredMatrix m = SharedTuckerMatrix();
  m.out_features = 3 * 5;
  m.output_legs[0].extent = 3;
  m.terms[0].cores[0].legs = {{"o1", 9, 3, 17}, {"a", 0, 4}};
  m.terms[0].cores[3].legs[0] = {"a", 4, 4, 12};
  auto tensors = SampleTensors();
  tensors["s.A.values"].shape = {17, 4};
  EXPECT_EQ(ErrorOf(m, tensors), "ok");
  Leg(m, 0, 0) = {"o1", 0, 3};
  EXPECT_THAT(ErrorOf(m, tensors), HasSubstr("leg \"a\" has rank 4, above the 3"));
}

TEST(ValidateMatrix, RefusesRangesOutsideTheirCore) {
  FactoredMatrix m = SharedTuckerMatrix();
  Leg(m, 3, 0).offset = 10;
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"G\""), HasSubstr("leg \"a\""),
                                HasSubstr("not inside the stored 12")));
  Leg(m, 3, 0).offset = INT64_MAX;
  EXPECT_THAT(ErrorOf(m), HasSubstr("not inside the stored 12"));
  Leg(m, 3, 0).offset = -1;
  EXPECT_THAT(ErrorOf(m), HasSubstr("negative"));
  m = SharedTuckerMatrix();
  Leg(m, 3, 0).stored_extent = 0;
  EXPECT_THAT(ErrorOf(m), HasSubstr("no stored_extent"));
  // Groups may not be cut in two.
  m = BlockMatrix(
      "affine3",
      {.kind = EncodingKind::kAffine, .bits = 3, .group = 128, .scale = ScaleKind::kF32});
  m.in_features = m.input_legs[0].extent = 256;
  Leg(m, 0, 1) = {"i", 128, 256, 512};
  EXPECT_EQ(ErrorOf(m), "ok");
  Leg(m, 0, 1).offset = 64;
  EXPECT_THAT(ErrorOf(m), HasSubstr("offset 64 is not a multiple of 128"));
}

TEST(ValidateMatrix, RefusesRolesAndEncodingsThatDoNotBelong) {
  FactoredMatrix m = SvdSample();
  m.terms[0].cores[0].tensors.push_back({"scales", "svd.S"});
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"U\""), HasSubstr("role \"scales\"")));
  m.terms[0].cores[0].tensors.clear();
  EXPECT_THAT(ErrorOf(m), HasSubstr("needs a tensor for the role \"values\""));
  m = QlrMatrix();
  m.terms[0].cores[0].encoding.bits = 7;
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("core \"Q\""), HasSubstr("7 bits")));
  m = QlrMatrix();
  m.terms[0].cores[0].encoding.group = 48;
  EXPECT_THAT(ErrorOf(m), HasSubstr("group 48"));
  m = QlrMatrix();
  m.terms[0].cores[0].encoding.scale = ScaleKind::kTwoLevel;
  m.terms[0].cores[0].encoding.group = 0;
  EXPECT_THAT(ErrorOf(m), HasSubstr("two-level"));
  m = SvdSample();
  m.terms[0].cores[0].encoding = Encoding::Float(DType::kI8);
  EXPECT_THAT(ErrorOf(m), HasSubstr("f32, f16 or bf16"));
}

TEST(ValidateMatrix, ChecksSortedLegTransformsAndProvenance) {
  FactoredMatrix m = SvdSample();
  m.sorted_leg = "z";
  EXPECT_THAT(ErrorOf(m), HasSubstr("no core has the sorted leg \"z\""));
  m.sorted_leg = "o";
  EXPECT_THAT(ErrorOf(m), HasSubstr("sorted leg \"o\" is an outer leg"));
  m = QlrMatrix();
  m.output_transforms[1].block_tensor = "";
  EXPECT_THAT(ErrorOf(m), AllOf(HasSubstr("192 features"), HasSubstr("needs a block")));
  m = QlrMatrix();
  auto tensors = SampleTensors();
  tensors["q.out_block"].shape = {10, 10};
  EXPECT_THAT(ErrorOf(m, tensors), HasSubstr("q.out_block"));
  m = SvdSample();
  m.provenance.relative_error = std::nan("");
  EXPECT_THAT(ErrorOf(m), HasSubstr("provenance"));
}

TEST(ValidateMatrix, RefusesLeadingIdentitiesThatMeanNothing) {
  const auto with = [](const std::function<void(FactoredMatrix*)>& edit) {
    FactoredMatrix m = PivotedMatrix();
    edit(&m);
    return ErrorOf(m);
  };
  EXPECT_EQ(with([](FactoredMatrix*) {}), "ok");
  EXPECT_THAT(with([](FactoredMatrix* m) { m->terms[0].cores[1].leading_identity = true; }),
              HasSubstr("core \"P\" of term 0: a leading identity maps a bond to an output leg, "
                        "not \"i\" to \"r\""));
  EXPECT_THAT(with([](FactoredMatrix* m) { m->terms[0].cores[0].legs.pop_back(); }),
              HasSubstr("core \"C\" of term 0: a leading identity needs two legs, not 1"));
  EXPECT_THAT(with([](FactoredMatrix* m) {
                std::swap(m->terms[0].cores[0].legs[0], m->terms[0].cores[0].legs[1]);
              }),
              HasSubstr("not \"o\" to \"r\""));
  EXPECT_THAT(with([](FactoredMatrix* m) { Leg(*m, 0, 0).stored_extent = 9; }),
              HasSubstr("leg \"o\": a core with a leading identity takes no range"));
  EXPECT_THAT(with([](FactoredMatrix* m) {
                m->terms[0].cores[0].legs[1].extent = 8;
                m->terms[0].cores[1].legs[0].extent = 8;
              }),
              HasSubstr("leaves no row after an identity of 8"));
}

}  // namespace
}  // namespace rankine
