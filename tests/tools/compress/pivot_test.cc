#include "tools/compress/pivot.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint_source.h"
#include "runtime/factor/core_reader.h"
#include "runtime/factor/host_tensor.h"
#include "tests/models/checkpoint/convert_testing.h"
#include "tests/testing/tiny_model.h"
#include "tools/compress/pivoted_checkpoint.h"

namespace rankine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Matrix64 Random(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix64 m(rows, cols);
  for (double& v : m.values) v = normal(random);
  return m;
}

absl::Status Exact(Matrix64*) { return absl::OkStatus(); }

absl::Status ToBf16(Matrix64* m) {
  for (double& v : m->values) v = ToFloat(rankine::ToBF16(static_cast<float>(v)));
  return absl::OkStatus();
}

Matrix64 Product(const Matrix64& a, const Matrix64& b) {
  Matrix64 c(a.rows, b.cols);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) {
      for (int64_t j = 0; j < b.cols; ++j) c(i, j) += a(i, k) * b(k, j);
    }
  }
  return c;
}

// [p; c p] with its rows in place.
Matrix64 Rebuilt(const PivotedMatrix& pivoted) {
  const Matrix64 rest = Product(pivoted.c, pivoted.p);
  const std::vector<int32_t> positions = pivoted.RowPositions();
  Matrix64 w(pivoted.p.rows + rest.rows, pivoted.p.cols);
  for (int64_t row = 0; row < w.rows; ++row) {
    const int64_t at = positions[row];
    const double* from = at < pivoted.p.rows ? pivoted.p.Row(at) : rest.Row(at - pivoted.p.rows);
    std::copy(from, from + w.cols, w.Row(row));
  }
  return w;
}

TEST(Pivot, GivesTheProductAgain) {
  for (const auto& [m, n, r] :
       std::vector<std::array<int64_t, 3>>{{40, 30, 7}, {9, 50, 8}, {50, 9, 9}, {33, 17, 1}}) {
    const RankProduct w{Random(m, r, 1), Random(r, n, 2)};
    const auto pivots = ChoosePivots(w);
    ASSERT_TRUE(pivots.ok()) << pivots.status();
    EXPECT_EQ(static_cast<int64_t>(pivots->size()), r);
    EXPECT_EQ(std::set<int64_t>(pivots->begin(), pivots->end()).size(), pivots->size());
    const auto pivoted = PivotAt(w, *pivots, Exact);
    ASSERT_TRUE(pivoted.ok());
    EXPECT_EQ(pivoted->p.values.size() + pivoted->c.values.size(),
              static_cast<size_t>(r * (m + n - r)));
    const Matrix64 exact = Product(w.a, w.v);
    const double norm = std::sqrt(SquaredNorm(exact));
    EXPECT_LE(std::sqrt(SquaredNorm(Difference(Rebuilt(*pivoted), exact))), 1e-12 * norm);
    EXPECT_LE(PivotError(w, *pivoted), 1e-12);
  }
}

TEST(Pivot, RoundingCostsAFewRoundingsAndTheErrorIsTheTrueOne) {
  // Singular values over a decade, as of a weight matrix.
  RankProduct w{Random(120, 40, 3), Random(40, 90, 4)};
  for (int64_t i = 0; i < w.a.rows; ++i) {
    for (int64_t k = 0; k < 40; ++k) w.a(i, k) *= std::pow(10.0, -k / 40.0);
  }
  // Two rows that are nearly the same: whoever takes both needs large coefficients.
  for (int64_t k = 0; k < 40; ++k) w.a(1, k) = w.a(0, k) * (1 + 1e-4 * static_cast<double>(k));
  auto pivoted = PivotAt(w, *ChoosePivots(w), ToBf16);
  ASSERT_TRUE(pivoted.ok());
  ASSERT_TRUE(ToBf16(&pivoted->c).ok());
  const Matrix64 exact = Product(w.a, w.v);
  const double error =
      std::sqrt(SquaredNorm(Difference(Rebuilt(*pivoted), exact)) / SquaredNorm(exact));
  EXPECT_NEAR(PivotError(w, *pivoted), error, 1e-12);
  // P and C are each rounded by at most 2^-9; coefficients above one would show here.
  EXPECT_LT(error, 8.0 / 512);
  EXPECT_GT(error, 0.1 / 512);
  std::vector<int64_t> worst(40);
  std::iota(worst.begin(), worst.end(), 0);
  auto naive = PivotAt(w, worst, ToBf16);
  ASSERT_TRUE(naive.ok() && ToBf16(&naive->c).ok());
  EXPECT_GT(PivotError(w, *naive), 2 * error);
}

TEST(Pivot, TakesNoMoreRowsThanTheProductHasRank) {
  RankProduct w{Random(30, 8, 5), Random(8, 20, 6)};
  for (int64_t j = 0; j < 20; ++j) {
    w.v(3, j) = 2 * w.v(5, j);
    w.v(7, j) = 0;
  }
  const auto pivots = ChoosePivots(w);
  ASSERT_TRUE(pivots.ok());
  EXPECT_EQ(pivots->size(), 6u);
  EXPECT_LE(PivotError(w, *PivotAt(w, *pivots, Exact)), 1e-12);
}

TEST(Pivot, RefusesWhatHasNoSuchForm) {
  EXPECT_TRUE(absl::IsFailedPrecondition(ChoosePivots({Matrix64(8, 3), Random(3, 5, 1)}).status()));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(ChoosePivots({Random(5, 5, 2), Random(5, 9, 1)}).status()));
  RankProduct w{Random(8, 3, 2), Random(3, 5, 1)};
  w.v(1, 1) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(absl::IsInvalidArgument(ChoosePivots(w).status()));
}

// W of a U V or pivoted matrix in a folder.
Matrix64 WeightOf(const Checkpoint& checkpoint, const FactoredMatrix& m) {
  const CheckpointSource source(checkpoint);
  const TermLegs legs = LegsOf(m, m.terms[0]);
  std::vector<HostTensor> tensors;
  for (const Core& core : m.terms[0].cores) tensors.push_back(*ReadWholeCore(legs, core, source));
  Matrix64 w(m.out_features, m.in_features);
  FoldTensors(legs, std::move(tensors), legs.output, legs.input).Rows(0, w.rows, w.values.data());
  if (m.output_transforms.empty()) return w;
  std::vector<int32_t> rows(m.out_features);
  EXPECT_TRUE(
      source.ReadRows(m.output_transforms[0].tensor, 0, 1, m.out_features, DType::kI32, rows.data())
          .ok());
  Matrix64 placed(w.rows, w.cols);
  for (int64_t i = 0; i < w.rows; ++i)
    std::copy(w.Row(rows[i]), w.Row(rows[i]) + w.cols, placed.Row(i));
  return placed;
}

class PivotedCheckpointTest : public ::testing::Test {
 protected:
  PivotedCheckpointTest() {
    testing::WriteTinyLlama(temp_ / "model",
                            {.biases = true, .dtype = DType::kF32, .factored_rank = 12});
    source_ = testing::MustOpen(temp_ / "model");
  }

  // Pivots and converts to a folder.
  std::vector<PivotReport> MustPivot(const ConvertOptions& convert, const std::string& name,
                                     const PivotOptions& options = {}) {
    const auto pivoted = PivotedCheckpoint::Open(*source_, convert, options);
    EXPECT_TRUE(pivoted.ok()) << pivoted.status();
    if (!pivoted.ok()) return {};
    const auto report = ConvertModel(**pivoted, temp_ / name, convert);
    EXPECT_TRUE(report.ok()) << report.status();
    return (*pivoted)->report();
  }

  const testing::TempFolder temp_;
  std::unique_ptr<Checkpoint> source_;
};

TEST_F(PivotedCheckpointTest, WritesTheSameMatricesInFewerNumbers) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const std::string name(Name(dtype));
    const auto reports = MustPivot({.dtype = dtype}, name);
    ASSERT_EQ(reports.size(), 14u);
    const auto written = testing::MustOpen(temp_ / name);
    for (size_t i = 0; i < reports.size(); ++i) {
      const FactoredMatrix& before = source_->factored()[i];
      const FactoredMatrix* after = testing::FindMatrix(*written, before.name);
      ASSERT_NE(after, nullptr);
      EXPECT_EQ(reports[i].kept, "") << before.name;
      EXPECT_EQ(after->sorted_leg, "");
      EXPECT_EQ(after->bias_tensor, before.bias_tensor);
      const int64_t m = after->out_features, n = after->in_features, r = reports[i].rank;
      EXPECT_EQ(after->NumParameters() - (before.bias_tensor.empty() ? 0 : m), r * (m + n - r));
      EXPECT_EQ(reports[i].parameters_before - reports[i].parameters, r * r);
      const Matrix64 exact = WeightOf(*source_, before);
      const Matrix64 stored = WeightOf(*written, *after);
      const double error = std::sqrt(SquaredNorm(Difference(stored, exact)) / SquaredNorm(exact));
      EXPECT_NEAR(error, reports[i].error, 1e-9);
      EXPECT_NEAR(after->provenance.pivot_error, reports[i].error, 1e-9);
      EXPECT_LT(error, dtype == DType::kF32 ? 1e-6 : dtype == DType::kF16 ? 4e-3 : 3.2e-2);
    }
  }
}

TEST_F(PivotedCheckpointTest, EncodesTheNewCores) {
  ConvertOptions convert{.dtype = DType::kF32};
  convert.encode = testing::Target("int8:g32");
  const auto reports = MustPivot(convert, "int8");
  const auto written = testing::MustOpen(temp_ / "int8");
  const FactoredMatrix* m = testing::FindMatrix(*written, reports[0].linear);
  ASSERT_NE(m, nullptr);
  EXPECT_EQ(m->terms[0].cores[0].encoding.bits, 8);
  EXPECT_GT(reports[0].error, 0);
  const Matrix64 exact = WeightOf(*source_, source_->factored()[0]);
  const double error =
      std::sqrt(SquaredNorm(Difference(WeightOf(*written, *m), exact)) / SquaredNorm(exact));
  EXPECT_NEAR(error, reports[0].error, 1e-7);
  // Pivoting again finds nothing to do; encoded factors need to be told what to become.
  const auto again = PivotedCheckpoint::Open(*written, {}, {});
  EXPECT_TRUE(absl::IsFailedPrecondition(again.status()));
  convert.encode = testing::Target("int4:g32");
  testing::MustConvert(temp_ / "model", temp_ / "blocks", convert);
  const auto blocks = testing::MustOpen(temp_ / "blocks");
  const auto untold = PivotedCheckpoint::Open(*blocks, {}, {});
  EXPECT_THAT(std::string(untold.status().message()),
              AllOf(HasSubstr("core U is int4:g32"), HasSubstr("--encode")));
  EXPECT_TRUE(PivotedCheckpoint::Open(*blocks, convert, {.max_error = 1}).ok());
}

TEST_F(PivotedCheckpointTest, KeepsWhatWouldChangeTooMuch) {
  const auto reports = MustPivot({.dtype = DType::kBF16}, "kept", {.max_error = 1e-5});
  const auto written = testing::MustOpen(temp_ / "kept");
  for (const PivotReport& report : reports) {
    EXPECT_THAT(report.kept, AllOf(HasSubstr("ill-conditioned in bf16"), HasSubstr("above 1e-05")));
    EXPECT_EQ(testing::FindMatrix(*written, report.linear)->sorted_leg, "r");
  }
}

TEST_F(PivotedCheckpointTest, RefusesAModelWithoutFactors) {
  testing::WriteTinyLlama(temp_ / "dense", {});
  const auto dense = testing::MustOpen(temp_ / "dense");
  const auto pivoted = PivotedCheckpoint::Open(*dense, {}, {});
  EXPECT_THAT(std::string(pivoted.status().message()), HasSubstr("no linear of this model"));
}

}  // namespace
}  // namespace rankine
