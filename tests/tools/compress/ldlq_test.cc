#include "tools/compress/ldlq.h"

#include <cmath>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/e8p.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/block_rounder.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::MixedMoments;
using testing::NormalMatrix;
using testing::RelativeDistance;

Encoding Named(const std::string& name) { return *ParseEncoding(name); }

// M of NumPy, which eliminates blocks by Schur complements. H has a condition below 1e6 there, and
// errors of M grow with it.
TEST(LdlqTest, FactorsEqualNumPy) {
  int narrow = 0;
  const nlohmann::json goldens = testing::GoldenOf("q_plus_lr.json").at("ldl");
  for (const auto& golden : goldens) {
    const int64_t width = golden.at("width");
    const auto ldl = BlockLdl(testing::MatrixOfJson(golden.at("h")), width, 0);
    ASSERT_TRUE(ldl.ok()) << ldl.status();
    EXPECT_LT(RelativeDistance(ldl->feedback, testing::MatrixOfJson(golden.at("m"))), 1e-8);
    if (width != 1) continue;
    ++narrow;
    const auto q = RoundMatrix(testing::MatrixOfJson(golden.at("w")),
                               {.encoding = Named("f16"), .ldl = &*ldl});
    ASSERT_TRUE(q.ok()) << q.status();
    EXPECT_EQ(q->values.values, testing::MatrixOfJson(golden.at("q")).values);
  }
  EXPECT_EQ(narrow, 2);
}

// e = (W - Q)(M + I): what rounding alone has changed, column by column.
Matrix64 RoundingErrors(const Matrix64& difference, const LdlFactors& ldl) {
  Matrix64 unit = ldl.feedback;
  for (int64_t i = 0; i < unit.rows; ++i) unit(i, i) = 1;
  return MatrixProduct(difference, unit);
}

// The algorithm as it is written, one column or codeword at a time, on the scales that were stored.
TEST(LdlqTest, RoundsWhatTheFeedbackAsksFor) {
  const int64_t n = 144;  // more than the columns of one step
  const Matrix64 w = NormalMatrix(6, n, 1), h = MixedMoments(n, 3 * n, 2).second;
  for (const char* name : {"int3:row", "int2:g32", "int4:g64:offset", "nf4:g16", "e8p",
                           "int4:g32:k:offset", "int3:g16:k8", "int8:g128"}) {
    SCOPED_TRACE(name);
    const Encoding encoding = Named(name);
    const auto ldl = BlockLdl(h, LdlWidth(encoding), 0.01);
    ASSERT_TRUE(ldl.ok()) << ldl.status();
    const auto q = RoundMatrix(w, {.encoding = encoding, .ldl = &*ldl});
    ASSERT_TRUE(q.ok()) << q.status();
    EXPECT_EQ(Decoded(q->codes).values, q->values.values) << "codes are what they stand for";
    const Matrix64 e = RoundingErrors(Difference(w, q->values), *ldl);
    for (int64_t row = 0; row < w.rows; ++row) {
      for (int64_t k = 0; k < n; ++k) {
        // Any other code of the column is further from what was wanted: its distance, beside that
        // of the code next to it, on a grid whose steps are at least the smallest of the group's.
        const double wanted = q->values(row, k) + e(row, k);
        double nearest = std::numeric_limits<double>::infinity();
        if (encoding.kind == EncodingKind::kE8P) continue;
        for (int code = 0; code < (encoding.kind == EncodingKind::kNf4 ? 16 : 1 << encoding.bits);
             ++code) {
          BlockRowsBuffer other = q->codes;
          other.codes[row * n + k] = static_cast<uint8_t>(code);
          std::vector<float> values(n);
          DecodeBlockRow(other.view(), row, values.data());
          nearest = std::min(nearest, std::abs(values[k] - wanted));
        }
        EXPECT_LE(std::abs(e(row, k)), nearest + 1e-5) << row << " " << k;
      }
    }
  }
}

TEST(LdlqTest, CodewordsAreTheNearestOfAll) {
  const int64_t n = 32;
  const Matrix64 w = NormalMatrix(3, n, 4), h = MixedMoments(n, 3 * n, 5).second;
  const auto ldl = BlockLdl(h, kE8PColumns, 0.01);
  ASSERT_TRUE(ldl.ok());
  const auto q = RoundMatrix(w, {.encoding = Named("e8p"), .ldl = &*ldl});
  ASSERT_TRUE(q.ok()) << q.status();
  const double scale = q->codes.scales[0];
  const Matrix64 e = RoundingErrors(Difference(w, q->values), *ldl);
  for (int64_t row = 0; row < w.rows; ++row) {
    for (int64_t first = 0; first < n; first += kE8PColumns) {
      double nearest = std::numeric_limits<double>::infinity(), own = 0;
      for (int64_t j = first; j < first + kE8PColumns; ++j) own += e(row, j) * e(row, j);
      for (int codeword = 0; codeword < 1 << 16; ++codeword) {
        int8_t quarters[kE8PColumns];
        DecodeE8P(static_cast<uint16_t>(codeword), quarters);
        double distance = 0;
        for (int j = 0; j < kE8PColumns; ++j) {
          const double wanted = q->values(row, first + j) + e(row, first + j);
          distance += std::pow(wanted - scale * quarters[j] / 4, 2);
        }
        nearest = std::min(nearest, distance);
      }
      EXPECT_NEAR(own, nearest, 1e-5 * (1 + nearest));
    }
  }
}

// tr((W - Q) H (W - Q)^T) = sum_k tr(e_k D_k e_k^T), with H as it was factored.
TEST(LdlqTest, TheErrorIsThatOfRoundingAlone) {
  const int64_t n = 40;
  const Matrix64 w = NormalMatrix(5, n, 6), h = MixedMoments(n, 3 * n, 7).second;
  for (const char* name : {"int2:g32", "e8p"}) {
    const Encoding encoding = Named(name);
    const auto ldl = BlockLdl(h, LdlWidth(encoding), 0);
    const auto q = RoundMatrix(w, {.encoding = encoding, .ldl = &*ldl});
    ASSERT_TRUE(q.ok()) << q.status();
    const Matrix64 difference = Difference(w, q->values);
    Matrix64 unit = ldl->feedback, identity(n, n);
    for (int64_t i = 0; i < n; ++i) unit(i, i) = identity(i, i) = 1;
    const Matrix64 inverse = *FitRight(identity, unit);
    const Matrix64 d = MatrixProduct(MatrixProduct(inverse, h), Transposed(inverse));
    Matrix64 blocks(n, n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        if (i / ldl->width == j / ldl->width) blocks(i, j) = d(i, j);
      }
    }
    EXPECT_LT(RelativeDistance(d, blocks), 1e-8) << "D is block diagonal";
    const double sum = SquaredWeightedNorm(RoundingErrors(difference, *ldl), blocks);
    EXPECT_NEAR(SquaredWeightedNorm(difference, h) / sum, 1, 1e-6);
  }
}

TEST(LdlqTest, WithoutFeedbackItIsPlainRounding) {
  const Matrix64 w = NormalMatrix(4, 96, 8);
  const std::vector<float> values(w.values.begin(), w.values.end());
  for (const char* name : {"int3:g64", "int4:g32:offset", "e8p", "nf4:row", "int4:g32:k"}) {
    const auto q = RoundMatrix(w, {.encoding = Named(name)});
    ASSERT_TRUE(q.ok()) << q.status();
    BlockRowsBuffer plain;
    ASSERT_TRUE(EncodeRows(values.data(), 4, 96, Named(name), &plain).ok());
    EXPECT_EQ(q->codes.codes, plain.codes) << name;
    EXPECT_EQ(q->codes.scales, plain.scales) << name;
    EXPECT_EQ(q->codes.offsets, plain.offsets) << name;
  }
}

TEST(LdlqTest, DeadFeaturesAndSingularMomentsNeedDamping) {
  const Matrix64 dead = MixedMoments(16, 48, 9, {0, 7, 15}).second;
  const Matrix64 singular = MixedMoments(16, 5, 10).second;
  for (const Matrix64* h : {&dead, &singular}) {
    EXPECT_TRUE(BlockLdl(*h, 1, 0.01).ok());
    EXPECT_TRUE(BlockLdl(*h, 8, 0.01).ok());
  }
  EXPECT_THAT(std::string(BlockLdl(dead, 1, 0).status().message()), HasSubstr("raise --damping"));
  EXPECT_THAT(std::string(BlockLdl(Matrix64(4, 4), 1, 0.01).status().message()),
              HasSubstr("never excites"));
  Matrix64 bad = dead;
  bad(3, 4) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(std::string(BlockLdl(bad, 1, 0.01).status().message()), HasSubstr("not finite"));
}

TEST(LdlqTest, RefusesWhatCannotBeRounded) {
  Matrix64 w = NormalMatrix(2, 12, 11);
  EXPECT_THAT(std::string(RoundMatrix(w, {.encoding = Named("e8p")}).status().message()),
              HasSubstr("codewords"));
  EXPECT_TRUE(RoundMatrix(w, {.encoding = Named("int4:g64")}).ok()) << "narrower than a group";
  w(1, 2) = std::numeric_limits<double>::infinity();
  EXPECT_THAT(std::string(RoundMatrix(w, {.encoding = Named("int4:g64")}).status().message()),
              HasSubstr("not finite"));
}

}  // namespace
}  // namespace rankine
